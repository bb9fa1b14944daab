"""Preference losses against hand-worked numbers and autograd."""

import math

import pytest
import torch

from rodpo_lite.losses import LOSSES, dpo, margin
from rodpo_lite.mechanism import suppression


def test_policy_equal_to_reference_gives_log_2_and_suppression_beta_over_2():
    positive, negative = torch.tensor([1.3, -0.2]), torch.tensor([[0.4], [2.0]])
    h = margin(positive, negative, positive, negative)
    assert torch.equal(h, torch.zeros(2, 1))
    for beta in (0.1, 0.5, 2.0):
        torch.testing.assert_close(dpo(h, beta), torch.full((2, 1), math.log(2)))
        torch.testing.assert_close(suppression(h, beta), torch.full((2, 1), beta / 2))


def test_dpo_by_hand():
    # h = (2 - 0.5) - (1 - 1.5) = 2; βh = 1; -log σ(1) = log(1 + e^-1); w = 0.5 σ(-1)
    h = margin(torch.tensor([2.0]), torch.tensor([[0.5]]), torch.tensor([1.0]), torch.tensor([[1.5]]))
    assert h.item() == 2.0
    assert dpo(h, 0.5).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert suppression(h, 0.5).item() == pytest.approx(0.5 / (1 + math.e))


def test_the_partition_function_cancels():
    policy, reference = torch.randn(4, 9, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    log_ratio = policy.log_softmax(1) - reference.log_softmax(1)
    h = margin(policy[:, 0], policy[:, 3:5], reference[:, 0], reference[:, 3:5])
    torch.testing.assert_close(h, log_ratio[:, :1] - log_ratio[:, 3:5])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradcheck(name):
    h = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: LOSSES[name](h, 0.7), h)


def test_suppression_is_the_gradient_on_the_negative_score():
    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    negative = scores[2:, :]
    h = margin(scores[0], negative.T, scores[1].detach(), negative.T.detach() * 0.5)
    (gradient,) = torch.autograd.grad(dpo(h, 1.3).sum(), scores)
    torch.testing.assert_close(gradient[2:].T, suppression(h.detach(), 1.3))
    torch.testing.assert_close(gradient[0], -suppression(h.detach(), 1.3).sum(1))


def test_dpo_is_stable_far_from_zero():
    h = torch.tensor([-1e4, 1e4])
    assert torch.equal(dpo(h, 1.0), torch.tensor([1e4, 0.0]))
