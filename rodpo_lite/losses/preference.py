"""Preference losses: functions of the scores of chosen and rejected items, unreduced.

With a softmax policy over the catalogue the normalisers of log π(i+|S) - log π(i-|S) cancel, within the policy and
within the reference, so scores are all that a loss needs. A loss with a batch-level part (`dr_dpo`, `beta_dpo`) sees
the whole batch, and what it remembers lies in an explicit state that the trainer saves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rodpo_lite.settings import Settings, one_of

State = dict[str, Tensor]


class LossConfig(Settings):
    """The preference loss."""

    name: Annotated[str, one_of(lambda: LOSSES)] = Field("dpo", description="preference loss")
    beta: float = Field(0.5, gt=0, description="strength β of the implicit reward")
    epsilon: float = Field(
        0.1, ge=0, lt=0.5, description="ε of cdpo and rdpo: share of pairs that are the wrong way round"
    )
    gamma: float = Field(0.5, ge=0, description="γ of simpo: the margin that is aimed at")
    beta_prime: float = Field(1.0, gt=0, description="β' of dr_dpo: the smaller, the less a bad pair counts")
    alpha: float = Field(0.6, ge=0, description="α of beta_dpo: how far β follows the batch")
    rho: float = Field(0.2, ge=0, lt=1, description="ρ of beta_dpo: share of the batch that is left out")
    eta: float = Field(0.9, gt=0, lt=1, description="η of rpo: the share of right labels that it starts from")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the running values of beta_dpo and rpo")


@dataclass(frozen=True)
class Pairs:
    """Scores of P positives, each against n negatives, by the policy and by the reference.

    policy_positive, reference_positive [P]; policy_negative, reference_negative [P, n].
    """

    policy_positive: Tensor
    policy_negative: Tensor
    reference_positive: Tensor
    reference_negative: Tensor

    @property
    def margin(self) -> Tensor:
        """h = [s(i+) - s(i-)] - [s_ref(i+) - s_ref(i-)], [P, n]. Source: Rafailov et al. 2023, eq. 7."""
        return self.policy_margin - (self.reference_positive[:, None] - self.reference_negative)

    @property
    def policy_margin(self) -> Tensor:
        """s(i+) - s(i-), [P, n]: the margin without a reference."""
        return self.policy_positive[:, None] - self.policy_negative


def dpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-log σ(βh), [P, n]. Source: Rafailov et al. 2023, eq. 7."""
    return F.softplus(-config.beta * pairs.margin)


def bpr(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-log σ(β[s(i+) - s(i-)]), [P, n]: DPO without its reference; β = 1 is Rendle et al. 2009."""
    return F.softplus(-config.beta * pairs.policy_margin)


def cdpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-(1-ε) log σ(βh) - ε log σ(-βh), [P, n]: labels wrong with probability ε. Source: Mitchell 2023."""
    right, wrong = F.softplus(-config.beta * pairs.margin), F.softplus(config.beta * pairs.margin)
    return (1 - config.epsilon) * right + config.epsilon * wrong


def rdpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """[-(1-ε) log σ(βh) + ε log σ(-βh)] / (1-2ε), [P, n]: unbiased under flipped labels.

    Source: Chowdhury et al. 2024.
    """
    right, wrong = F.softplus(-config.beta * pairs.margin), F.softplus(config.beta * pairs.margin)
    return ((1 - config.epsilon) * right - config.epsilon * wrong) / (1 - 2 * config.epsilon)


def ipo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """(h - 1/(2β))², [P, n]. Source: Azar et al. 2023, eq. 17."""
    return (pairs.margin - 1 / (2 * config.beta)) ** 2


def simpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-log σ(β[log π(i+) - log π(i-)] - γ), [P, n], an item being one token long. Source: Meng et al. 2024."""
    return F.softplus(config.gamma - config.beta * pairs.policy_margin)


def dr_dpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-β' log E_batch exp(-ℓ/β') with ℓ the DPO loss, a scalar: pairs with a high loss count less.

    Source: Wu et al. 2024, Towards Robust Alignment of Language Models.
    """
    loss = dpo(pairs, config, state).flatten()
    return -config.beta_prime * (torch.logsumexp(-loss / config.beta_prime, 0) - math.log(len(loss)))


def beta_dpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-log σ(β_b h) with β_b = β[1 + α(mean h - M₀)], at least 1e-3, over a share 1-ρ of the batch; [kept].

    The kept pairs are drawn without replacement in proportion to exp(-½((h - M₀)/σ)²); M₀ and σ are running means
    (share `momentum` of the past) of the batch mean and deviation of h, in `state`. Draws from the global generator.
    Source: Wu et al. 2024, β-DPO.
    """
    margin = pairs.margin.flatten()
    h = margin.detach()
    spread = h.std(correction=0)
    centre, width = state.get("margin_mean", h.mean()), state.get("margin_std", spread)
    strength = (config.beta * (1 + config.alpha * (h.mean() - centre))).clamp_min(1e-3)
    log_weight = -0.5 * ((h - centre) / width.clamp_min(1e-6)) ** 2
    # The largest Gumbel-perturbed log weights are a draw without replacement in proportion to the weights.
    perturbed = log_weight - torch.empty_like(h).exponential_().log()
    kept = perturbed.topk(max(1, round((1 - config.rho) * len(h)))).indices
    state["margin_mean"] = config.momentum * centre + (1 - config.momentum) * h.mean()
    state["margin_std"] = config.momentum * width + (1 - config.momentum) * spread
    return F.softplus(-strength * margin[kept])


def rpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-w log σ(βh) - (1-w) log σ(-βh), [P, n], w being the posterior that a label is right, without gradient.

    w = ηp / (ηp + (1-η)(1-p)) with p = σ(βh). η, the share of right labels, is the running mean (share `momentum` of
    the past) of w, from `eta`, in `state`: expectation-maximisation. Source: Cao et al. 2025, arXiv 2509.24159.
    """
    logits = config.beta * pairs.margin
    share = state.get("right_share", logits.new_tensor(config.eta)).to(logits.dtype)
    right = (logits.detach() + share.logit()).sigmoid()
    state["right_share"] = config.momentum * share + (1 - config.momentum) * right.mean()
    return right * F.softplus(-logits) + (1 - right) * F.softplus(logits)


def sdpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-log σ(-log Σ_l exp(-β h_l)) over the n negatives of a position, [P]. Source: Chen et al. 2024."""
    return F.softplus(torch.logsumexp(-config.beta * pairs.margin, 1))


def dmpo(pairs: Pairs, config: LossConfig, state: State) -> Tensor:
    """-log σ(β mean_l h_l) over the n negatives of a position, [P]. Source: Bai et al. 2024."""
    return F.softplus(-config.beta * pairs.margin.mean(1))


@dataclass(frozen=True)
class Loss:
    """A loss; its suppression w = ∂ℓ/∂s(i-) in closed form, [P, n], None where that of a pair depends on other pairs;
    the keys of `loss` that it reads; whether it looks at the reference; and what of its state is reported by epoch."""

    function: Callable[[Pairs, LossConfig, State], Tensor]
    suppression: Callable[[Pairs, LossConfig], Tensor] | None = None
    uses: tuple[str, ...] = ("beta",)
    reference: bool = True
    tells: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        return (self.function.__doc__ or "").strip().splitlines()[0]


def _dpo_suppression(pairs: Pairs, config: LossConfig) -> Tensor:
    return config.beta * torch.sigmoid(-config.beta * pairs.margin)


def _rpo_suppression(pairs: Pairs, config: LossConfig) -> Tensor:
    """At the share of right labels that it starts from: β [w - σ(βh)]."""
    logits = config.beta * pairs.margin
    return config.beta * ((logits + logits.new_tensor(config.eta).logit()).sigmoid() - logits.sigmoid())


LOSSES: dict[str, Loss] = {
    "dpo": Loss(dpo, _dpo_suppression),
    "bpr": Loss(bpr, lambda p, c: c.beta * (-c.beta * p.policy_margin).sigmoid(), reference=False),
    "cdpo": Loss(cdpo, lambda p, c: _dpo_suppression(p, c) - c.beta * c.epsilon, ("beta", "epsilon")),
    "rdpo": Loss(
        rdpo, lambda p, c: _dpo_suppression(p, c) + c.beta * c.epsilon / (1 - 2 * c.epsilon), ("beta", "epsilon")
    ),
    "ipo": Loss(ipo, lambda p, c: 1 / c.beta - 2 * p.margin),
    "simpo": Loss(
        simpo, lambda p, c: c.beta * (c.gamma - c.beta * p.policy_margin).sigmoid(), ("beta", "gamma"), reference=False
    ),
    "dr_dpo": Loss(dr_dpo, uses=("beta", "beta_prime")),
    "beta_dpo": Loss(beta_dpo, uses=("beta", "alpha", "rho", "momentum")),
    "rpo": Loss(rpo, _rpo_suppression, ("beta", "eta", "momentum"), tells=("right_share",)),
    "sdpo": Loss(sdpo),
    "dmpo": Loss(dmpo),
}


def suppression_by_autograd(name: str, pairs: Pairs, config: LossConfig, weights: Tensor | float = 1.0) -> Tensor:
    """w = ∂L/∂s(i-), the suppression of each rejected score, [P, n], L being the weighted sum of the batch's losses.

    By automatic differentiation, so it holds for every registered loss; `Loss.suppression` is the closed form of some.
    """
    negative = pairs.policy_negative.detach().requires_grad_()
    with torch.enable_grad():
        losses = LOSSES[name].function(replace(pairs, policy_negative=negative), config, {})
        return torch.autograd.grad((weights * losses).sum(), negative)[0]
