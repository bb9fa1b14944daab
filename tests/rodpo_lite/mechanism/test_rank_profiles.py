"""Erroneous suppression: closed form, autograd and Monte-Carlo agree on the oracle world."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism.agreement import anchor_error, by_autograd, by_drawing, standard_errors, three_ways
from rodpo_lite.mechanism.rank_profiles import noise, rank_profile, suppression_table
from rodpo_lite.mechanism.relevance import future_relevance, oracle_relevance
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig
from rodpo_lite.settings import build
from rodpo_lite.training import runs


@pytest.fixture(scope="module")
def profile(world, world_folder, reference_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned") / "topk"
    training = {"epochs": 2, "batches_per_epoch": 4, "learning_rate": 5e-3}
    runs.align(world, reference_folder, build(AlignmentConfig, {"training": training}), out)
    policy, reference = runs.load(out, world), runs.load(reference_folder, world)
    relevance = oracle_relevance(world, Oracle.of(world, world_folder))
    return rank_profile(policy.model, reference.model, world, relevance, 12, positions=300)


def test_the_profile_is_a_ranking_of_the_eligible_items(profile, world):
    positions, depth = profile.items.shape
    assert depth == world.n_items and positions >= 200
    assert profile.eligible.max() < world.n_items, "at least the positive is excluded"
    for row in range(0, positions, 37):
        assert profile.real[row].sum() == profile.eligible[row] and profile.real[row, : profile.eligible[row]].all()
        assert not profile.false_negative[row, profile.eligible[row] :].any()
    assert 0 < profile.false_negative.mean() < 0.5
    assert profile.pairs.margin.numpy()[profile.real].std() > 0, (
        "the policy must have moved for the margins to mean anything"
    )


NEGATIVES = {
    "hard": {},
    "static_hard": {},
    "topk": {"k": 20},
    "static_topk": {"k": 20},
    "topk_softmax": {"k": 20, "temperature": 0.5},
    "rank_window": {"k": 10, "skip": 5},
    "dns": {"k": 3, "candidates": 20},
    "uniform": {},
    "popularity": {},
    "in_batch": {},
}


@pytest.mark.parametrize("loss", ["dpo", "bpr", "cdpo", "rdpo", "ipo", "simpo"])
@pytest.mark.parametrize("name", sorted(NEGATIVES))
def test_closed_form_and_autograd_agree(profile, name, loss):
    """In float64, the gradient of the expected loss on the score at each rank is q_r w_r."""
    negatives = NegativesConfig(name=name, **NEGATIVES[name])
    config = LossConfig(name=loss, beta=0.7)
    erroneous, informative = profile.expected(negatives, config)
    np.testing.assert_allclose(profile.probabilities(negatives).sum(1), 1)
    for part, expected in zip(by_autograd(profile, negatives, config), (erroneous, informative), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", sorted(NEGATIVES))
def test_closed_form_and_monte_carlo_agree(profile, name):
    """The selector itself draws, and what lands on false negatives agrees within 4 standard errors of the draws."""
    negatives, loss = NegativesConfig(name=name, **NEGATIVES[name]), LossConfig(beta=0.7)
    ways = (profile.expected(negatives, loss), by_drawing(profile, negatives, loss, draws=100))
    for expected, landed, error in zip(*ways, standard_errors(profile, negatives, loss, draws=100), strict=True):
        assert abs(landed.mean() - expected.mean()) <= max(4 * error, 1e-12)
        assert landed.mean() > 0


@pytest.mark.parametrize("name", ["srns", "ahns"])
def test_selectors_without_probabilities_are_sampled(profile, name):
    erroneous, informative = by_drawing(profile, NegativesConfig(name=name, candidates=20), LossConfig(), draws=5)
    assert erroneous.mean() > 0 and informative.mean() > erroneous.mean()


def test_score_drift_by_hand(profile):
    wrong, right = profile.score_drift(depth=3)
    position = int(np.flatnonzero(np.isfinite(wrong) & np.isfinite(right))[0])
    eligible = profile.eligible[position]
    policy, reference = (
        scores[position, :eligible].numpy()
        for scores in (profile.pairs.policy_negative, profile.pairs.reference_negative)
    )
    change, best = policy - reference, np.argsort(-reference)[:3]
    marked = profile.false_negative[position, best]
    assert wrong[position] == pytest.approx(change[best][marked].mean() - change.mean())
    assert right[position] == pytest.approx(change[best][~marked].mean() - change.mean())


def test_a_value_in_the_pool_by_hand(profile):
    values = np.arange(profile.items.shape[1], dtype=float)
    wrong, right = [], []
    for row in range(len(profile.items)):
        for rank in range(min(3, profile.eligible[row])):
            (wrong if profile.false_negative[row, rank] else right).append(profile.items[row, rank])
    assert profile.in_pool(values, 3) == pytest.approx((np.mean(wrong), np.mean(right)))


def test_a_sure_draw_has_no_noise_and_a_wide_pool_has_more(profile):
    suppression = profile.suppression(LossConfig())
    assert noise(profile.probabilities(NegativesConfig(name="hard")), suppression) == pytest.approx(0, abs=1e-12)
    few, many = (noise(profile.probabilities(NegativesConfig(name="topk", k=k)), suppression) for k in (5, 50))
    # With equal suppression the mean is w / K at K items: (w² - w² / K) / (w² / K) = K - 1.
    assert few == pytest.approx(4, rel=0.2) and many > 8 * few


def test_pool_size_curve_holds_hard_and_uniform_at_its_ends(profile):
    loss = LossConfig()
    erroneous, informative = profile.by_pool_size(loss)
    depth = profile.items.shape[1]
    for name, k, entry in (("hard", 1, 0), ("topk", 20, 19), ("uniform", 1, depth - 1)):
        expected = [part.mean() for part in profile.expected(NegativesConfig(name=name, k=k), loss)]
        assert [erroneous[entry], informative[entry]] == pytest.approx(expected)


def test_a_position_with_nothing_to_reject_suppresses_nothing(profile):
    none = replace(profile, eligible=np.where(np.arange(len(profile.eligible)) == 0, 0, profile.eligible))
    for before, after in zip(profile.by_pool_size(LossConfig()), none.by_pool_size(LossConfig()), strict=True):
        assert np.isfinite(after).all() and (after <= before).all() and (after < before).any()


def test_informative_suppression_of_the_best_ranks_only(profile):
    complete, best = (profile.by_pool_size(LossConfig(), depth) for depth in (None, 10))
    np.testing.assert_array_equal(complete[0], best[0])
    np.testing.assert_allclose(complete[1][:10], best[1][:10])
    np.testing.assert_allclose(best[1][19], best[1][9] / 2, rtol=1e-12)
    assert (best[1][10:] < complete[1][10:]).all()


def test_at_the_reference_every_suppression_is_beta_over_2(world, world_folder, reference_folder):
    model = runs.load(reference_folder, world).model
    relevance = oracle_relevance(world, Oracle.of(world, world_folder))
    start = rank_profile(model, model, world, relevance, 12, positions=300)
    erroneous, informative = start.expected(NegativesConfig(name="topk", k=10), LossConfig(beta=0.4))
    np.testing.assert_allclose(erroneous + informative, 0.2)


def test_the_anchor_suppresses_what_cross_entropy_does(profile, world):
    """Autograd of the cross-entropy in float64 gives it item by item; it sums to what excluded items leave."""
    assert anchor_error(profile) < 1e-6
    shuffled = replace(profile, anchor=profile.anchor[:, ::-1])
    assert anchor_error(shuffled) > 1e-4
    erroneous, informative = profile.by_kind(profile.anchor)
    assert bool((erroneous >= 0).all()) and bool((erroneous + informative < 1).all())
    assert erroneous.mean() > 0
    candidates = profile.candidates["policy"]
    row = 7
    scores = torch.full((world.n_items,), -torch.inf).scatter(
        0, torch.from_numpy(profile.items[row]), profile.pairs.policy_negative[row].float()
    )
    expected = scores.softmax(0)[~candidates.is_excluded[row]].sum().item()
    assert erroneous[row] + informative[row] == pytest.approx(expected, rel=1e-4)


def test_a_selector_without_probabilities_says_so(profile):
    with pytest.raises(KeyError, match="srns has no probabilities"):
        profile.probabilities(NegativesConfig(name="srns"))


def test_tables_hold_what_the_profile_says(profile):
    settings = [NegativesConfig(name=name, **NEGATIVES[name]) for name in ("hard", "topk", "dns")]
    losses = [LossConfig(beta=beta) for beta in (0.3, 2.0)]
    table = three_ways(profile, settings, losses[1], draws=50).set_index("selector")
    assert table["autograd − closed form"].abs().max() < 1e-12 and table["gap in errors"].abs().max() < 4
    assert table.loc["hard", "gap in errors"] == 0 and table.loc["topk", "standard error"] > 0
    table = suppression_table(profile, settings, losses).set_index(["setting", "loss"])
    assert len(table) == 6
    for number, negatives in enumerate(settings):
        expected = [part.mean() for part in profile.expected(negatives, losses[1])]
        assert table.loc[(number, 1), ["erroneous", "informative"]].tolist() == pytest.approx(expected)
        alone = noise(profile.probabilities(negatives), profile.suppression(losses[1]))
        assert table.loc[(number, 1), "noise"] == pytest.approx(alone)


def test_a_draw_that_breaks_its_probabilities_is_seen(profile, monkeypatch):
    """`hard` has no sampling error; if it drew another item than its probabilities say, the gap would be infinite."""
    wrong = replace(SELECTORS["hard"], draw=SELECTORS["uniform"].draw)
    monkeypatch.setitem(SELECTORS, "hard", wrong)
    assert three_ways(profile, [NegativesConfig(name="hard")], LossConfig(), 5)["gap in errors"].abs().min() == np.inf


def test_a_loss_over_several_pairs_has_no_suppression_of_one(profile):
    with pytest.raises(KeyError, match="sdpo on a pair depends on other pairs"):
        profile.suppression(LossConfig(name="sdpo"))


def test_future_relevance_is_what_the_user_takes_later_but_never_the_test_item(world):
    split = leave_one_out(world)
    batch = next(PackedSequences(world.items, split.start, split.train_end - 1, 12).epoch(200))
    relevant = future_relevance(world)(batch)
    for position in range(0, len(batch.rows), 17):
        user, row = int(batch.user_of_position[position]), int(batch.rows[position])
        later = world.items[row + 2 : world.offsets[user + 1] - 1]
        assert set(relevant[position].nonzero()[:, 0].tolist()) == set(later.tolist())
