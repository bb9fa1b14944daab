"""Paired intervals: right by construction, and covering at the stated rate."""

import numpy as np
import pytest
from scipy import stats

from rodpo_lite.evaluation.statistics import (
    Comparison,
    Interval,
    crossed_change,
    holm,
    relative_change,
    seed_change,
    seed_mean,
    user_bootstrap,
    verdict,
)


def test_relative_change_by_hand():
    assert relative_change(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx(25)


def test_a_constant_gain_has_a_point_interval_and_no_gain_none():
    users = np.random.default_rng(0).random(200)
    gain = user_bootstrap(users, 1.1 * users, resamples=200)
    assert (gain.estimate, gain.low, gain.high) == pytest.approx((10, 10, 10))
    assert user_bootstrap(users, users, resamples=200).text() == "0.00\xa0% [0.00\xa0%, 0.00\xa0%]"


def test_intervals_cover_at_their_level():
    """200 worlds of 150 users, true change +20 %: 95 % intervals cover in 95 % of them, give or take 4 errors."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        before = rng.exponential(size=150)
        found = user_bootstrap(before, before + rng.normal(0.2, 0.5, 150), resamples=400, seed=int(rng.integers(1e6)))
        covered += found.low <= 20 <= found.high
    assert abs(covered / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_unpaired_arms_are_refused():
    for before, after in ((np.ones(3), np.ones(4)), (np.ones((2, 3)), np.ones((2, 3)))):
        with pytest.raises(ValueError, match="same users"):
            user_bootstrap(before, after)


def test_a_bootstrap_is_repeated_by_its_seed():
    before, after = np.random.default_rng(0).random((2, 50))
    one = user_bootstrap(before, after, resamples=100, seed=3)
    assert one == user_bootstrap(before, after, resamples=100, seed=3)
    assert one != user_bootstrap(before, after, resamples=100, seed=4)


def test_an_interval_as_text():
    assert Interval(1.2, -0.3, 2.7).text() == "+1.20\xa0% [−0.30\xa0%, +2.70\xa0%]"
    assert Interval(-0.5, -1, 0).text(1, "") == "−0.5 [−1.0, 0.0]"
    assert Interval(2.0, 0.047, 4).text(1, "") == "+2.0 [+0.05, +4.0]", "a limit that decides is no zero"
    assert Interval(-0.001, -0.02, 0.004).text(1, "") == "0.0 [−0.02, 0.0]"


def test_crossed_change_by_hand():
    """2 seeds, 3 users: mean squares of the first-order terms, worked by hand.

    after - before = [[1, 0, -1], [3, 2, 1]], before = 2 everywhere: change 50 %, first-order terms
    100 (after - 1.5 before) / 2 = 50 [[0, -1, -2], [2, 1, 0]]; user means 50 [1, 0, -1], seed means 50 [-1, 1], rest 0.
    MS_user = 2 · 50² · 2 / 2, MS_seed = 3 · 50² · 2 / 1, over 6: 2500 (1/3 + 1).
    """
    before = np.full((2, 3), 2.0)
    found = crossed_change(before, before + np.array([[1.0, 0, -1], [3, 2, 1]]))
    assert found.estimate == pytest.approx(50)
    assert found.error == pytest.approx(np.sqrt(2500 * 4 / 3))
    assert found.freedom == pytest.approx((4 / 3) ** 2 / (1 / 9 / 2 + 1))
    assert found.high - found.estimate == pytest.approx(found.estimate - found.low)
    half = stats.t.ppf(0.975, found.freedom) * found.error
    assert found.high - found.estimate == pytest.approx(half)
    assert found.p == pytest.approx(2 * stats.t.cdf(-found.estimate / found.error, found.freedom))


def test_crossed_change_with_a_rest_by_hand():
    """As above with [[2, 0, -1], [3, 2, 0]] after, 50 times the seed means [-1, 1]·2/3, user means [3, 0, -3]/2, and
    a rest of [1, -2, 1]/6 and its negative: MS_seed 3·(8/9), MS_user 2·(9/2)/2, MS_rest (1/3)/2, over 6.
    """
    before = np.full((2, 3), 2.0)
    found = crossed_change(before, before + np.array([[2.0, 0, -1], [3, 2, 0]]))
    terms = np.array([8 / 3, 9 / 2, -1 / 6]) / 6 * 50**2
    assert found.estimate == pytest.approx(50)
    assert found.error == pytest.approx(np.sqrt(terms.sum()))
    assert found.freedom == pytest.approx(terms.sum() ** 2 / (terms**2 / [1, 2, 2]).sum())


def test_a_comparison_turned_around():
    found = Comparison(2.0, -1.0, 5.0, 1.5, 4.0, 0.2)
    assert found.negated() == Comparison(-2.0, -5.0, 1.0, 1.5, 4.0, 0.2)


def test_crossed_change_without_any_change():
    same = np.random.default_rng(0).random((3, 20))
    found = crossed_change(same, same)
    assert found == Comparison(0, 0, 0, 0, np.inf, 1)
    twice = crossed_change(same, 2 * same)
    assert (twice.estimate, twice.low, twice.p) == (pytest.approx(100), twice.high, 0)
    tiny = crossed_change(np.ones((2, 2)), np.array([[1.0, 1.0], [1.0, 1.001]]))
    assert 0 < tiny.error < 1, "a variance below 1 is one"


def test_the_rest_is_a_bound_where_it_is_larger_than_what_it_is_taken_from():
    """Seed and user means are all the same and the values are not: MS_rest, 2 · 2, over 4 is all that is known."""
    found = crossed_change(np.full((2, 2), 2.0), np.array([[4.0, 2.0], [2.0, 4.0]]))
    assert found.estimate == pytest.approx(50) and found.error == pytest.approx(50 * np.sqrt(4 / 4))
    # Effects of users and seeds below the rest: mean squares of 2 · 2 (¼)² each against 4 (1.25)².
    found = crossed_change(np.full((2, 2), 2.0), np.array([[4.0, 2.0], [2.0, 5.0]]))
    assert found.error == pytest.approx(50 * np.sqrt(4 * 1.25**2 / 4))


@pytest.mark.parametrize("before", [np.zeros((2, 3)), np.full((2, 3), np.nan)])
def test_an_undefined_change_is_no_number(before):
    with pytest.raises(ValueError, match="no change"):
        crossed_change(before, np.ones((2, 3)))
    with pytest.raises(ValueError, match="no change"):
        seed_change(before[0], np.ones(3))
    assert seed_change(np.zeros(2), np.array([1.0, 2.0]), relative=False).estimate == 1.5
    assert user_bootstrap(np.zeros(3), np.ones(3), resamples=10).text() == "undefined"


def one_hit(users: int) -> tuple[np.ndarray, np.ndarray]:
    """Only the first user has a hit, and it gets twice as good."""
    return 0.5 * (np.arange(users) == 0), 1.0 * (np.arange(users) == 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("before", "after"), [one_hit(12), one_hit(1), (one_hit(12)[0], one_hit(12)[0])])
def test_too_few_hits_have_no_interval(before, after):
    """A resample that misses the only user with a hit has no change in percent, and one user no resamples."""
    found = user_bootstrap(before, after)
    assert not found.has_limits and found.estimate == relative_change(before, after)
    assert found.text(1) in ("+100.0\xa0% (no interval)", "0.0\xa0% (no interval)")
    many = user_bootstrap(np.tile(before, 40), np.tile(after, 40))
    assert many.has_limits and "[" in many.text(1)


def test_one_seed_leaves_the_users():
    """With one seed the interval is the paired t interval of the first-order terms."""
    rng = np.random.default_rng(0)
    before = rng.random(200)
    after = before + rng.normal(0.1, 1, 200)
    found = crossed_change(before, after)
    left = 100 * (after - after.mean() / before.mean() * before) / before.mean()
    assert found.error == pytest.approx(left.std(ddof=1) / np.sqrt(200)) and found.freedom == pytest.approx(199)


# Standard deviations of what seeds, users and the rest do to the change, in units of a metric whose mean is 0.2.
@pytest.mark.parametrize(
    ("of_seed", "of_user", "of_rest"), [(0.005, 0.1, 0.1), (0.02, 0.1, 0.1), (0.05, 0.1, 0.1), (0.02, 0.1, 0.3)]
)
def test_crossed_intervals_cover_at_their_level(of_seed, of_user, of_rest):
    """1,000 worlds of 5 seeds and 200 users with user and seed effects, true change 3 %: 93 to 97 % are covered."""
    rng, covered, shape = np.random.default_rng(5), 0, (5, 200)
    for _ in range(1000):
        before = 0.4 * rng.random((1, 200)) * np.ones(shape)
        effects = [rng.normal(0, s, size) for s, size in ((of_seed, (5, 1)), (of_user, (1, 200)), (of_rest, shape))]
        found = crossed_change(before, 1.03 * before + sum(effects))
        covered += found.low <= 3 <= found.high
    assert 930 <= covered <= 970


def test_the_smallest_effect_is_found_at_its_power():
    """A true effect of that size is significant in about 80 % of repetitions."""
    rng, found_it, shape = np.random.default_rng(2), 0, (5, 200)
    before = np.ones(shape)

    def noise():
        return rng.normal(0, 0.02, (5, 1)) + rng.normal(0, 0.2, (1, 200)) + rng.normal(0, 0.2, shape)

    errors = [crossed_change(before, before + noise()) for _ in range(200)]
    size = np.median([one.smallest_effect() for one in errors])
    for _ in range(500):
        found_it += crossed_change(before, before + size / 100 + noise()).low > 0
    assert found_it / 500 == pytest.approx(0.8, abs=0.07)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.1, 3, None, "reproduced"), (-3, -0.1, None, "contradicted"), (-0.9, 0.9, None, "no effect"),
        (-0.9, 1.1, None, "inconclusive"), (0.1, 3, 0.06, "inconclusive"), (0.1, 0.9, 0.06, "no effect"),
        (0.1, 3, 0.04, "reproduced"), (0.1, 3, 0.05, "inconclusive"), (0, 3, None, "inconclusive"),
        (-3, 0, None, "inconclusive"), (-1, 0.5, None, "inconclusive"), (-0.5, 1, None, "inconclusive"),
    ],
)  # fmt: skip
def test_verdicts(low, high, p, expected):
    assert verdict(Comparison((low + high) / 2, low, high, 1.0, 4.0, 0.01), p) == expected


def test_crossed_arms_that_do_not_match_are_refused():
    for before, after in ((np.ones((2, 3)), np.ones((3, 3))), (np.ones((3, 1)), np.ones((3, 1)))):
        with pytest.raises(ValueError, match="same seeds and users"):
            crossed_change(before, after)


def test_change_over_seeds_by_hand():
    """Values 1, 2 become 2, 2: the mean rises by a third; terms 100 (after - 4/3 before) / 1.5 = 400/9 [1, -1]."""
    found = seed_change(np.array([1.0, 2.0]), np.array([2.0, 2.0]))
    assert found.estimate == pytest.approx(100 / 3) and found.error == pytest.approx(400 / 9) and found.freedom == 1
    half = stats.t.ppf(0.975, 1) * 400 / 9
    assert (found.low, found.high) == pytest.approx((100 / 3 - half, 100 / 3 + half))
    assert found.p == pytest.approx(2 * stats.t.cdf(-(100 / 3) / (400 / 9), 1))
    absolute = seed_change(np.array([1.0, 2.0]), np.array([2.0, 2.0]), relative=False)
    assert (absolute.estimate, absolute.error) == pytest.approx((0.5, 0.5))
    for before, after in ((np.ones(1), np.ones(1)), (np.ones(2), np.ones(3)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="at least two"):
            seed_change(before, after)


def test_the_same_change_at_every_seed_has_no_interval():
    before = np.array([1.0, 2.0, 4.0])
    assert seed_change(before, before) == Comparison(0, 0, 0, 0, 2, 1)
    assert seed_change(before, before + 0.5, relative=False) == Comparison(0.5, 0.5, 0.5, 0, 2, 0)


def test_a_mean_over_seeds_by_hand():
    found = seed_mean(np.array([1.0, 2.0, 6.0]))
    half = stats.t.ppf(0.975, 2) * np.sqrt(7 / 3)  # squares around the mean 3: 4 + 1 + 9, over 2, over 3
    assert (found.estimate, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))
    alone = seed_mean(np.array([5.0]))
    assert alone.estimate == 5 and np.isnan([alone.low, alone.high]).all()


def test_the_smallest_effect_shown_grows_with_the_tests_that_share_the_error():
    found = Comparison(0.0, 0.0, 0.0, error=2.0, freedom=np.inf, p=1.0)
    assert found.smallest_effect() == pytest.approx(2 * (1.959964 + 0.841621), rel=1e-5)
    assert found.smallest_effect(tests=2) == pytest.approx(2 * (2.241403 + 0.841621), rel=1e-5)
