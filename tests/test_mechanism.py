"""Erroneous suppression: closed form, autograd and Monte-Carlo agree on the oracle world."""

import numpy as np
import pytest
import torch

from rodpo_lite import runs
from rodpo_lite.config import AlignmentConfig, build
from rodpo_lite.data.synthetic import Oracle
from rodpo_lite.losses import dpo
from rodpo_lite.mechanism import rank_profile
from rodpo_lite.negatives import rank_probabilities


@pytest.fixture(scope="module")
def profile(world, world_folder, reference_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("aligned") / "topk"
    training = {"epochs": 2, "batches_per_epoch": 4, "learning_rate": 5e-3}
    runs.align(world, reference_folder, build(AlignmentConfig, {"training": training}), out)
    policy, reference = runs.load(out, world), runs.load(reference_folder, world)
    return rank_profile(policy.model, reference.model, world, Oracle.of(world, world_folder), 12, positions=300)


def test_the_profile_is_a_ranking_of_the_eligible_items(profile, world):
    positions, depth = profile.margin.shape
    assert depth == world.n_items and positions >= 200
    assert profile.eligible.max() < world.n_items, "at least the positive is excluded"
    for row in range(0, positions, 37):
        assert np.isinf(profile.margin[row, profile.eligible[row] :]).all()
        assert not profile.false_negative[row, profile.eligible[row] :].any()
    assert 0 < profile.false_negative.mean() < 0.5
    finite = profile.margin[np.isfinite(profile.margin)]
    assert finite.std() > 0, "the policy must have moved for the margins to mean anything"


@pytest.mark.parametrize(("name", "k"), [("hard", 1), ("topk", 20), ("uniform", 1)])
def test_closed_form_autograd_and_monte_carlo_agree(profile, name, k):
    beta, depth = 0.7, profile.margin.shape[1]
    law = rank_probabilities(name, k, profile.eligible, depth)
    erroneous, informative = profile.expected(law, beta)

    # Autograd in float64: the gradient of the expected loss on the score at each rank is q_r w_r.
    scores = torch.zeros(profile.margin.shape, dtype=torch.float64, requires_grad=True)
    margins = torch.from_numpy(np.where(np.isinf(profile.margin), 60.0, profile.margin)) - scores
    (torch.from_numpy(law) * dpo(margins, beta)).sum().backward()
    push = scores.grad.numpy()
    np.testing.assert_allclose((push * profile.false_negative).sum(1), erroneous, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose((push * ~profile.false_negative).sum(1), informative, rtol=1e-10, atol=1e-14)

    # Monte-Carlo: draw ranks, add up what lands on false negatives; agreement within 4 standard errors.
    rng, draws = np.random.default_rng(0), 400
    ranks = np.floor(rng.random((len(law), draws)) * (law > 0).sum(1)[:, None]).astype(int)
    weight = beta / (1 + np.exp(beta * np.take_along_axis(profile.margin, ranks, 1)))
    landed = (weight * np.take_along_axis(profile.false_negative, ranks, 1)).mean(0)
    error = max(landed.std(ddof=1) / np.sqrt(draws), 1e-12)
    assert abs(landed.mean() - erroneous.mean()) < 4 * error


def test_pool_size_curve_holds_hard_and_uniform_at_its_ends(profile):
    erroneous, informative = profile.by_pool_size(0.5)
    depth = profile.margin.shape[1]
    for name, k, entry in (("hard", 1, 0), ("topk", 20, 19), ("uniform", 1, depth - 1)):
        law = rank_probabilities(name, k, profile.eligible, depth)
        expected = [part.mean() for part in profile.expected(law, 0.5)]
        assert [erroneous[entry], informative[entry]] == pytest.approx(expected)


def test_at_the_reference_every_push_is_beta_over_2(world, world_folder, reference_folder):
    model = runs.load(reference_folder, world).model
    start = rank_profile(model, model, world, Oracle.of(world, world_folder), 12, positions=300)
    law = rank_probabilities("topk", 10, start.eligible, start.margin.shape[1])
    erroneous, informative = start.expected(law, 0.4)
    np.testing.assert_allclose(erroneous + informative, 0.2)
