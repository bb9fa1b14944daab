"""Preference losses against hand-worked numbers, limit cases and autograd."""

import math

import pytest
import torch
import torch.nn.functional as F

from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs, suppression_by_autograd

PAIRWISE = ["dpo", "bpr", "cdpo", "rdpo", "ipo", "simpo", "rpo"]


def pairs_of(margins, reference_margins=None) -> Pairs:
    """Pairs [P, n] whose policy margins are given; the reference's are zero unless given."""
    policy = torch.as_tensor(margins, dtype=torch.float64)
    reference = torch.zeros_like(policy) if reference_margins is None else torch.as_tensor(reference_margins).double()
    nothing = policy.new_zeros(len(policy))
    return Pairs(nothing, -policy, nothing, -reference)


def value(name: str, pairs: Pairs, **settings) -> torch.Tensor:
    return LOSSES[name].function(pairs, LossConfig(name=name, **settings), {})


@pytest.fixture
def random_pairs() -> Pairs:
    generator = torch.Generator().manual_seed(0)
    shapes = ((7,), (7, 3), (7,), (7, 3))
    return Pairs(*(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Policy margin 3, reference margin 1, so h = 2; β = 0.5, so βh = 1 and β times the policy margin is 1.5.
@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("dpo", {}, -math.log(sigmoid(1))),
        ("bpr", {}, -math.log(sigmoid(1.5))),
        ("cdpo", {"epsilon": 0.2}, -0.8 * math.log(sigmoid(1)) - 0.2 * math.log(sigmoid(-1))),
        ("rdpo", {"epsilon": 0.2}, (-0.8 * math.log(sigmoid(1)) + 0.2 * math.log(sigmoid(-1))) / 0.6),
        ("ipo", {}, (2 - 1) ** 2),
        ("simpo", {"gamma": 0.7}, -math.log(sigmoid(1.5 - 0.7))),
        ("dr_dpo", {"beta_prime": 0.5}, -math.log(sigmoid(1))),
        ("beta_dpo", {"rho": 0.0}, -math.log(sigmoid(1))),
        ("rpo", {"eta": 0.5}, -sigmoid(1) * math.log(sigmoid(1)) - sigmoid(-1) * math.log(sigmoid(-1))),
        ("sdpo", {}, -math.log(sigmoid(1))),
        ("dmpo", {}, -math.log(sigmoid(1))),
    ],
)
def test_one_pair_by_hand(name, settings, expected):
    pairs = Pairs(*(torch.tensor(x, dtype=torch.float64) for x in ([2.5], [[-0.5]], [1.0], [[0.0]])))
    assert pairs.margin.item() == 2 and pairs.policy_margin.item() == 3
    assert value(name, pairs, beta=0.5, **settings).mean().item() == pytest.approx(expected)


def test_several_negatives_by_hand():
    pairs = pairs_of([[1.0, 3.0]])
    assert value("sdpo", pairs, beta=1.0).item() == pytest.approx(math.log(1 + math.exp(-1) + math.exp(-3)))
    assert value("dmpo", pairs, beta=1.0).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_dr_dpo_by_hand():
    losses = [math.log(1 + math.exp(-h)) for h in (1.0, -2.0)]
    soft = -0.5 * math.log(sum(math.exp(-loss / 0.5) for loss in losses) / 2)
    found = value("dr_dpo", pairs_of([[1.0], [-2.0]]), beta=1.0, beta_prime=0.5).item()
    assert found == pytest.approx(soft)
    assert found < sum(losses) / 2, "the bad pair counts less than in the mean"


def test_beta_dpo_by_hand():
    """Batch means 1, then 3: β follows the distance from the running mean, which then moves by a tenth of it."""
    config, state = LossConfig(name="beta_dpo", beta=0.5, alpha=0.6, rho=0.0, momentum=0.9), {}
    loss = LOSSES["beta_dpo"].function
    first = loss(pairs_of([[0.0], [2.0]]), config, state)
    assert sorted(first.tolist()) == pytest.approx(sorted(-math.log(sigmoid(0.5 * h)) for h in (0, 2)))
    assert state["margin_mean"].item() == pytest.approx(1) and state["margin_std"].item() == pytest.approx(1)
    second = loss(pairs_of([[1.0], [5.0]]), config, state)
    beta = 0.5 * (1 + 0.6 * (3 - 1))
    assert sorted(second.tolist()) == pytest.approx(sorted(-math.log(sigmoid(beta * h)) for h in (1, 5)))
    assert state["margin_mean"].item() == pytest.approx(1.2) and state["margin_std"].item() == pytest.approx(1.1)


def test_beta_dpo_leaves_out_the_outliers_and_never_turns_around():
    torch.manual_seed(0)
    h = torch.cat([torch.zeros(80), torch.full((20,), 50.0)])[:, None]
    state = {"margin_mean": torch.tensor(0.0), "margin_std": torch.tensor(1.0)}
    kept = LOSSES["beta_dpo"].function(pairs_of(h), LossConfig(name="beta_dpo", rho=0.2, alpha=0.0), state)
    assert kept.tolist() == pytest.approx([math.log(2)] * 80)
    state = {"margin_mean": torch.tensor(1e6), "margin_std": torch.tensor(1e6)}
    low = LOSSES["beta_dpo"].function(pairs_of([[1.0], [2.0]]), LossConfig(name="beta_dpo", rho=0.0), state)
    assert sorted(low.tolist()) == pytest.approx(sorted(-math.log(sigmoid(1e-3 * h)) for h in (1, 2)))


def test_beta_dpo_keeps_pairs_in_proportion_to_their_weights():
    """One of h = 1, 2, 5 is kept; M₀ = 2 and σ = 2 weigh them exp(-1/8), 1 and exp(-9/8)."""
    torch.manual_seed(0)
    config, h, kept = LossConfig(name="beta_dpo", beta=1.0, alpha=0.0, rho=0.6), [1.0, 2.0, 5.0], []
    for _ in range(4000):
        state = {"margin_mean": torch.tensor(2.0), "margin_std": torch.tensor(2.0)}
        kept += LOSSES["beta_dpo"].function(pairs_of([[x] for x in h]), config, state).tolist()
    weights = torch.tensor([-1 / 8, 0, -9 / 8]).softmax(0)
    for x, weight in zip(h, weights.tolist()):
        share = sum(math.isclose(loss, -math.log(sigmoid(x)), rel_tol=1e-5) for loss in kept) / 4000
        assert share == pytest.approx(weight, abs=0.03)


def test_beta_dpo_moves_its_running_values_slowly():
    state = {"margin_mean": torch.tensor(4.0), "margin_std": torch.tensor(3.0)}
    LOSSES["beta_dpo"].function(pairs_of([[0.0], [2.0]]), LossConfig(name="beta_dpo", momentum=0.9), state)
    assert state["margin_mean"].item() == pytest.approx(0.9 * 4 + 0.1 * 1)
    assert state["margin_std"].item() == pytest.approx(0.9 * 3 + 0.1 * 1)


def test_rpo_by_hand():
    """The posterior of Bayes' rule, and η as its running mean."""
    config, state = LossConfig(name="rpo", beta=0.5, eta=0.8, momentum=0.9), {}
    p = [sigmoid(0.5 * h) for h in (2.0, -4.0)]
    w = [0.8 * x / (0.8 * x + 0.2 * (1 - x)) for x in p]
    found = LOSSES["rpo"].function(pairs_of([[2.0], [-4.0]]), config, state)
    expected = [-weight * math.log(x) - (1 - weight) * math.log(1 - x) for weight, x in zip(w, p)]
    assert found.flatten().tolist() == pytest.approx(expected)
    assert state["right_share"].item() == pytest.approx(0.9 * 0.8 + 0.1 * sum(w) / 2)


def test_rpo_finds_the_share_of_right_labels():
    """Labels are flipped with probability .3, and the margin is the true log odds: η ends at .7."""
    generator = torch.Generator().manual_seed(0)
    config, state = LossConfig(name="rpo", beta=1.0, momentum=0.9), {}
    for _ in range(200):
        truth = 3 * torch.randn(4000, 1, generator=generator)
        prefers = torch.rand(4000, 1, generator=generator) < truth.sigmoid()
        flipped = torch.rand(4000, 1, generator=generator) < 0.3
        LOSSES["rpo"].function(pairs_of(torch.where(prefers ^ flipped, truth, -truth)), config, state)
    assert state["right_share"].item() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
def test_no_label_noise_is_dpo(name, random_pairs):
    torch.testing.assert_close(value(name, random_pairs, epsilon=0.0), value("dpo", random_pairs))
    assert not torch.allclose(value(name, random_pairs, epsilon=0.3), value("dpo", random_pairs))


def test_rdpo_is_unbiased_under_flips(random_pairs):
    """ε-flipped labels on average: (1-ε) L(h) + ε L(-h) is DPO on the true label."""
    flipped = Pairs(
        random_pairs.policy_positive * 0,
        random_pairs.policy_margin,
        random_pairs.reference_positive * 0,
        random_pairs.policy_margin - random_pairs.margin,
    )
    torch.testing.assert_close(flipped.margin, -random_pairs.margin)
    mean = 0.8 * value("rdpo", random_pairs, epsilon=0.2) + 0.2 * value("rdpo", flipped, epsilon=0.2)
    torch.testing.assert_close(mean, value("dpo", random_pairs))


@pytest.mark.parametrize("name", ["sdpo", "dmpo"])
def test_one_negative_is_dpo(name, random_pairs):
    one = Pairs(
        random_pairs.policy_positive,
        random_pairs.policy_negative[:, :1],
        random_pairs.reference_positive,
        random_pairs.reference_negative[:, :1],
    )
    torch.testing.assert_close(value(name, one), value("dpo", one)[:, 0])
    assert value(name, random_pairs).shape == (7,)


def test_no_reference_is_bpr(random_pairs):
    constant = torch.full_like(random_pairs.reference_negative, 3.0)
    flat = Pairs(random_pairs.policy_positive, random_pairs.policy_negative, constant[:, 0], constant)
    torch.testing.assert_close(value("dpo", flat), value("bpr", flat))
    torch.testing.assert_close(value("simpo", random_pairs, gamma=0.0), value("bpr", random_pairs))
    assert not torch.allclose(value("dpo", random_pairs), value("bpr", random_pairs))


def test_dr_dpo_tends_to_the_mean(random_pairs):
    mean = value("dpo", random_pairs).mean()
    torch.testing.assert_close(value("dr_dpo", random_pairs, beta_prime=1e6), mean, rtol=1e-5, atol=0)
    assert value("dr_dpo", random_pairs, beta_prime=0.1) < mean


def test_beta_dpo_without_its_parts_is_dpo(random_pairs):
    plain = value("beta_dpo", random_pairs, alpha=0.0, rho=0.0)
    torch.testing.assert_close(plain.sort().values, value("dpo", random_pairs).flatten().sort().values)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"rpo"}))  # no gradient through its posterior
def test_gradcheck(name, random_pairs):
    scores = [score.clone().requires_grad_() for score in (random_pairs.policy_positive, random_pairs.policy_negative)]
    fixed = random_pairs.reference_positive, random_pairs.reference_negative
    # rho = 0 leaves no draw in beta_dpo, and its batch β is a constant to the gradient: α = 0 makes it one.
    settings = {"beta": 0.7, "rho": 0.0, "alpha": 0.0}
    assert torch.autograd.gradcheck(lambda p, n: value(name, Pairs(p, n, *fixed), **settings).sum(), scores)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_suppression_is_positive_towards_the_right_order_and_mirrors_the_positive(name, random_pairs):
    config = LossConfig(name=name, beta=0.3, epsilon=0.1, rho=0.0)
    suppression = suppression_by_autograd(name, random_pairs, config)
    positive = random_pairs.policy_positive.clone().requires_grad_()
    moved = Pairs(
        positive, random_pairs.policy_negative, random_pairs.reference_positive, random_pairs.reference_negative
    )
    (pull,) = torch.autograd.grad(LOSSES[name].function(moved, config, {}).sum(), positive)
    torch.testing.assert_close(suppression.sum(1), -pull)
    assert (suppression > 0).all() or name in ("ipo", "cdpo", "rdpo")


def test_suppression_in_closed_form(random_pairs):
    h, beta, epsilon = random_pairs.margin, 1.3, 0.2
    config = LossConfig(beta=beta, epsilon=epsilon, gamma=0.4)
    right, wrong = torch.sigmoid(-beta * h), torch.sigmoid(beta * h)
    by_hand = {
        "dpo": beta * right,
        "bpr": beta * torch.sigmoid(-beta * random_pairs.policy_margin),
        "cdpo": beta * ((1 - epsilon) * right - epsilon * wrong),
        "rdpo": beta * ((1 - epsilon) * right + epsilon * wrong) / (1 - 2 * epsilon),
        "ipo": -2 * (h - 1 / (2 * beta)),
        "simpo": beta * torch.sigmoid(0.4 - beta * random_pairs.policy_margin),
        "dmpo": beta / 3 * torch.sigmoid(-beta * h.mean(1, keepdim=True)).expand(-1, 3),
        "rpo": beta * ((beta * h + math.log(9)).sigmoid() - (beta * h).sigmoid()),
        "sdpo": beta * F.softmax(-beta * h, 1) * torch.sigmoid(torch.logsumexp(-beta * h, 1, keepdim=True)),
    }
    for name, expected in by_hand.items():
        torch.testing.assert_close(suppression_by_autograd(name, random_pairs, config), expected)
    stated = {name: loss.suppression for name, loss in LOSSES.items() if loss.suppression}
    assert set(stated) == set(PAIRWISE)
    for name, suppression in stated.items():
        torch.testing.assert_close(suppression(random_pairs, config), by_hand[name])


def test_at_the_reference_every_dpo_suppression_is_beta_over_2():
    positive, negative = torch.tensor([1.3, -0.2]), torch.tensor([[0.4], [2.0]])
    pairs = Pairs(positive, negative, positive, negative)
    for beta in (0.1, 0.5, 2.0):
        torch.testing.assert_close(value("dpo", pairs, beta=beta), torch.full((2, 1), math.log(2)))
        torch.testing.assert_close(
            suppression_by_autograd("dpo", pairs, LossConfig(beta=beta)), torch.full((2, 1), beta / 2)
        )


def test_the_partition_function_cancels():
    policy, reference = torch.randn(4, 9, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    log_ratio = policy.log_softmax(1) - reference.log_softmax(1)
    pairs = Pairs(policy[:, 0], policy[:, 3:5], reference[:, 0], reference[:, 3:5])
    torch.testing.assert_close(pairs.margin, log_ratio[:, :1] - log_ratio[:, 3:5])


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"ipo"}))
def test_losses_are_finite_far_from_zero(name):
    assert torch.isfinite(value(name, pairs_of([[-1e4, 1e4], [1e4, -1e4]]), beta=1.0)).all()
