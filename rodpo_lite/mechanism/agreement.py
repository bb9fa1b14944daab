"""Expected suppression without its formula: by automatic differentiation, and by drawing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from rodpo_lite.losses.preference import LossConfig, suppression_by_autograd
from rodpo_lite.mechanism.rank_profiles import RankProfile
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig


def by_autograd(profile: RankProfile, negatives: NegativesConfig, loss: LossConfig) -> np.ndarray:
    """`RankProfile.expected`, from the gradient of the expected loss Σ_r q_r ℓ_r on the score at each rank."""
    probabilities = torch.from_numpy(profile.probabilities(negatives))
    return profile.by_kind(suppression_by_autograd(loss.name, profile.pairs, loss, probabilities).numpy())


def by_drawing(profile: RankProfile, negatives: NegativesConfig, loss: LossConfig, draws: int) -> np.ndarray:
    """`RankProfile.expected`, [2, P], from draws of the selector; the state of one that remembers starts empty."""
    selector, config = SELECTORS[negatives.name], negatives.model_copy(update={"n": 1})
    candidates = profile.candidates[selector.scorer or "policy"]
    candidates = replace(candidates, state=selector.state(int(candidates.rows.max()) + 1, None))
    rank, suppression = profile.items.argsort(1), profile.suppression(loss)
    generator = torch.Generator().manual_seed(0)
    total = np.zeros((2, len(suppression)))
    for _ in range(draws):
        drawn = np.take_along_axis(rank, selector.draw(candidates, config, generator).numpy(), 1)
        amount, wrong = (np.take_along_axis(table, drawn, 1)[:, 0] for table in (suppression, profile.false_negative))
        total += amount * wrong, amount * ~wrong
    return total / draws


def standard_errors(profile: RankProfile, negatives: NegativesConfig, loss: LossConfig, draws: int) -> np.ndarray:
    """Standard errors of the two averages over positions of `by_drawing`, by the probabilities, [2]."""
    probabilities, suppression = profile.probabilities(negatives), profile.suppression(loss)
    squares, means = (profile.by_kind(probabilities * suppression**power) for power in (2, 1))
    return np.sqrt((squares - means**2).clip(min=0).sum(1) / draws) / len(probabilities)


def three_ways(profile: RankProfile, selectors: list[NegativesConfig], loss: LossConfig, draws: int) -> pd.DataFrame:
    """Mean erroneous suppression of selectors: in closed form, by autograd in float64, and by drawing."""
    rows = []
    for negatives in selectors:
        of = profile, negatives, loss
        ways = profile.expected(negatives, loss), by_autograd(*of), by_drawing(*of, draws)
        exact, gradient, drawn = (float(erroneous.mean()) for erroneous, _ in ways)
        error, _ = standard_errors(*of, draws)
        certain = 0.0 if abs(drawn - exact) < 1e-9 else np.inf  # a certain draw has no error
        gap = (drawn - exact) / error if error > 1e-12 else certain
        rows.append((negatives.name, exact, gradient - exact, drawn, error, gap))
    columns = ["closed form", "autograd − closed form", "Monte-Carlo", "standard error", "gap in errors"]
    return pd.DataFrame(rows, columns=["selector", *columns])


def anchor_error(profile: RankProfile, positions: int = 50) -> float:
    """Largest difference, over some positions, of π(j|S) from the gradient of the cross-entropy in float64."""
    scores = profile.pairs.policy_negative[:positions].detach().requires_grad_()
    with torch.enable_grad():
        loss = scores.logsumexp(1).sum()  # less the target's own score, which is a constant to j
    gradient = torch.autograd.grad(loss, scores)[0].numpy()
    return float(np.abs(gradient - profile.anchor[:positions])[profile.real[:positions]].max())
