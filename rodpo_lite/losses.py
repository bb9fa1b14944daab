"""Preference losses: pure, unreduced functions of the margin.

The margin is h = [s(i+) - s(i-)] - [s_ref(i+) - s_ref(i-)]: with a softmax policy over the catalogue the normalisers of
log π(i+|S) - log π(i-|S) cancel, so no partition function is needed.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, float], Tensor]


def margin(policy_positive: Tensor, policy_negative: Tensor, reference_positive: Tensor, reference_negative: Tensor):
    """Reference-offset margin h.

    Shapes: positives [P], negatives [P, n]; the result is [P, n].
    Source: Rafailov et al. 2023, the argument of eq. 7, with the partition function cancelled.
    """
    policy = policy_positive[:, None] - policy_negative
    reference = reference_positive[:, None] - reference_negative
    return policy - reference


def dpo(margin: Tensor, beta: float) -> Tensor:
    """-log σ(βh), unreduced, in the shape of `margin`. Source: Rafailov et al. 2023, eq. 7."""
    return F.softplus(-beta * margin)


LOSSES: dict[str, Loss] = {"dpo": dpo}
