"""The rule of `rodpo report`: what it says of differences that are known, and how often it is wrong."""

from collections import Counter

import numpy as np
import pytest
import scipy

from companion.own_log.decision import ALIGNMENTS, Decision, decide, users_needed

TRAINED = ("reference", "smoothed", "none")
BASELINES = {"popularity": -0.6, "item_knn": -0.3}


def simulated(chance, users: int, effects=(), hits=0.1, seeds=5, seed_deviation=0.03):
    """NDCG@5 on validation and on test of each model: [S, U], of baselines [1, U].

    effects: the relative gain in hits of each model over the reference. The same users are easy for all models, and
    more so for those of one seed; models of other seeds are better or worse by `seed_deviation`, whatever the users.
    """
    effects = {**dict.fromkeys(TRAINED, 0.0), **dict.fromkeys(ALIGNMENTS, 0.0), **BASELINES, **dict(effects)}
    lucks = {name: np.exp(chance.normal(0, seed_deviation, (seeds, 1))) for name in effects}
    parts = []
    for _ in ("validation", "test"):
        easy, of_seed = chance.normal(size=(1, users)), chance.normal(size=(seeds, users))
        part = {}
        for name, effect in effects.items():
            own = chance.normal(size=(seeds, users))
            place = scipy.special.ndtr(np.sqrt(0.6) * easy + np.sqrt(0.2) * of_seed + np.sqrt(0.2) * own)
            rank = np.floor(5 * place / (hits * (1 + effect) * lucks[name]))
            ndcg = np.where(rank < 5, 1 / np.log2(rank + 2), 0)
            part[name] = ndcg[:1] if name in BASELINES else ndcg
        parts.append(part)
    return parts


def verdicts(logs: int, users: int, effects=(), worth=2.0, **options) -> tuple[Counter, list[Decision]]:
    chance, decisions = np.random.default_rng(0), []
    for _ in range(logs):
        valid, test = simulated(chance, users, effects, **options)
        decisions.append(decide(valid, test.__getitem__, worth))
    return Counter(decision.verdict for decision in decisions), decisions


def at_most(share: float, logs: int) -> int:
    """More than so many of the logs would tell that the share is larger."""
    return int(scipy.stats.binom.ppf(0.999, logs, share))


@pytest.mark.parametrize("options", [{}, {"hits": 0.02}, {"seeds": 3}, {"seed_deviation": 0.1}])
@pytest.mark.parametrize("users", [200, 2000])
def test_without_an_effect_hardly_ever_kept(users, options):
    counts, _ = verdicts(150, users, **options)
    assert counts["keep"] <= at_most(0.01, 150), counts


@pytest.mark.parametrize("effects", [{}, {"topk": 0.1}, {"popularity": 0.0, "item_knn": 0.0}])
def test_a_few_users_are_too_few(effects):
    """Also where many models are alike, so that the incumbent is the luckiest."""
    counts, decisions = verdicts(150, 200, effects, hits=0.05)
    assert counts["too small"] >= 142, counts
    assert all(decision.test is None for decision in decisions if decision.valid.p > 0.05 and decision.valid.high > 2)


def test_an_effect_is_kept_and_its_interval_holds_the_truth():
    counts, decisions = verdicts(100, 4000, {"topk": 0.3})
    assert counts["keep"] >= 80, counts
    kept = [decision for decision in decisions if decision.verdict == "keep"]
    assert {decision.candidate for decision in kept} == {"topk"}
    assert {decision.incumbent for decision in kept} == set(TRAINED)
    held = sum(decision.test.low <= 30 <= decision.test.high for decision in kept)
    assert held >= len(kept) - at_most(0.07, len(kept))
    assert abs(np.mean([decision.test.estimate for decision in kept]) - 30) < 2, "test does not flatter"


def test_harm_is_discarded():
    counts, _ = verdicts(100, 4000, dict.fromkeys(ALIGNMENTS, -0.3))
    assert counts["discard"] >= 95 and counts["keep"] == 0, counts


def test_what_is_worth_it_decides_where_an_effect_is_small():
    """Two percent more hits, which so many users tell from nothing no more than from five percent."""
    counts, _ = verdicts(10, 20_000, {"topk": 0.02}, worth=2.0, seed_deviation=0)
    assert counts["too small"] >= 7, counts
    counts, _ = verdicts(10, 20_000, {"topk": 0.02}, worth=15.0, seed_deviation=0)
    assert counts["discard"] >= 8, counts


def test_a_better_baseline_is_the_incumbent():
    counts, decisions = verdicts(50, 4000, {"item_knn": 0.4, "topk": 0.2})
    assert {decision.incumbent for decision in decisions} == {"item_knn"}
    assert counts["keep"] == 0


@pytest.mark.parametrize("gain", [15, 30])
def test_so_many_users_show_such_a_gain_in_about_three_logs_of_four(gain):
    _, decisions = verdicts(40, 1000, seed_deviation=0)
    needed = int(np.median([users_needed(decision.valid, 1000, 5, gain) for decision in decisions]))
    counts, _ = verdicts(100, needed, {"topk": gain / 100}, seed_deviation=0)
    assert 60 <= counts["keep"] <= 90, (needed, counts)
    half, whole = (users_needed(decisions[0].valid, 1000, 5, part * gain) for part in (0.5, 1))
    assert half == pytest.approx(4 * whole, abs=4)


# by hand


USERS = np.random.default_rng(1).random((3, 500))


def known(**gains):
    """Models that are so much better than the reference, for every user alike but for a little noise."""
    noise = np.random.default_rng(2)
    return {
        name: USERS * (1 + gain / 100) + 0.01 * noise.random(USERS.shape)
        for name, gain in {**dict.fromkeys((*TRAINED, *ALIGNMENTS), 0), **gains}.items()
    }


@pytest.mark.parametrize(
    ("valid", "test", "verdict"),
    [
        ({"topk": 20}, {"topk": 20}, "keep"),
        ({"topk": 20}, {"topk": 0}, "discard"),
        ({"topk": 20}, {"topk": -20}, "discard"),
        ({}, {}, "discard"),
        ({"hard": -20}, {}, "discard"),
        ({}, {"uniform": 20, "hard": 20, "topk": 20}, "too small"),
        ({"reference": 30, "topk": 20}, {"reference": 30, "topk": 20}, "discard"),
        ({"smoothed": 30, "topk": 20}, {"smoothed": 30, "topk": 20}, "discard"),
        ({"topk": 1}, {"topk": 1}, "discard"),
        ({"topk": 20}, {"topk": 1}, "discard"),
        ({"topk": 1}, {"topk": 20}, "keep"),
    ],
)
def test_validation_proposes_and_test_confirms(valid, test, verdict):
    decision = decide(known(**valid), known(**test).__getitem__)
    assert decision.verdict == verdict and decision.test is not None


def test_test_is_read_for_two_models_once_and_not_at_all_if_validation_cannot_tell():
    read = []

    def test(name):
        read.append(name)
        return known(topk=20)[name]

    decide(known(topk=20), test)
    assert sorted(read) == sorted({"topk", *read}) and len(read) == 2
    unsure = known()
    unsure["topk"] = unsure["topk"][:, ::-1] * 1.05
    decision = decide(unsure, lambda name: pytest.fail("test was read"))
    assert decision.verdict == "too small" and decision.test is None and decision.candidate == "topk"


@pytest.mark.parametrize("part", ["valid", "test"])
def test_where_nobody_has_a_hit_it_is_too_small(part):
    nothing = {name: 0 * values for name, values in known().items()}
    valid, test = (nothing, known()) if part == "valid" else (known(topk=20), nothing)
    decision = decide(valid, test.__getitem__)
    assert decision.verdict == "too small" and (decision.valid is None) == (part == "valid") and decision.test is None
