"""Training without the whole catalogue: the items that one step touches, and a softmax over a sample of them."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.engine import rounded_up


@dataclass(frozen=True)
class Shortlist:
    """The items of one step, renumbered from 0, so that its cost does not depend on the size of the catalogue.

    items [S]: sorted ids, the last one repeated up to a convenient length. inputs, targets [P] and candidates [M] or
    [P]: numbers of the inputs, of their targets, and of sampled items. Of M candidates that all positions share,
    log_expected [M] is the logarithm of how often each is expected in a sample.
    """

    items: Tensor
    inputs: Tensor
    targets: Tensor
    candidates: Tensor
    log_expected: Tensor


@dataclass(frozen=True)
class Step:
    """A batch and what follows each of its positions, [P]; the items of a shortlist, or None for the catalogue."""

    batch: PackedBatch
    positives: Tensor
    shortlist: Shortlist | None = None

    @property
    def inputs(self) -> PackedBatch:
        """The batch as the model reads it, with inputs as numbers within the items."""
        return replace(self.batch, items=self.shortlist.inputs) if self.shortlist else self.batch

    @property
    def items(self) -> Tensor | None:
        """The items that are encoded, [S]; None for all."""
        return self.shortlist.items if self.shortlist else None

    @property
    def targets(self) -> Tensor:
        """The positives as numbers within the items."""
        return self.shortlist.targets if self.shortlist else self.positives


class Proposal:
    """Draws M items with replacement in proportion to (training interactions + 1)^exponent; 0 is uniform."""

    def __init__(self, popularity: Tensor, size: int, exponent: float = 0.0):
        self.size = size
        weight = (popularity.double() + 1) ** exponent
        self.cumulative = weight.cumsum(0)
        self.log_expected = (size * weight / self.cumulative[-1]).log().float()

    def shortlist(self, inputs: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Shortlist:
        """A shortlist with a sample that all positions share, for inputs and targets [P]."""
        point = torch.rand(self.size, generator=generator, device=targets.device, dtype=torch.float64)
        sample = torch.searchsorted(self.cumulative, point * self.cumulative[-1], right=True)
        sample = sample.clamp(max=len(self.cumulative) - 1)
        return shortlist(inputs, targets, sample, self.log_expected[sample])


def shortlist(inputs: Tensor, targets: Tensor, candidates: Tensor, log_expected: Tensor) -> Shortlist:
    """Renumber the items that are inputs, targets or candidates."""
    items, number = torch.cat([inputs, targets, candidates]).unique(return_inverse=True)
    padded = torch.cat([items, items[-1:].expand(rounded_up(len(items)) - len(items))])
    return Shortlist(padded, *number.split([len(inputs), len(targets), len(candidates)]), log_expected)


def others(targets: Tensor, n_items: int, generator: torch.Generator | None = None) -> Tensor:
    """For each target another item, uniformly, [P]."""
    drawn = torch.randint(n_items - 1, targets.shape, generator=generator, device=targets.device)
    return drawn + (drawn >= targets)


def sampled_cross_entropy(
    hidden: Tensor, vectors: Tensor, targets: Tensor, candidates: Tensor, log_expected: Tensor
) -> Tensor:
    """Mean of -log [e^s+ / (e^s+ + Σ_j e^(s_j) / E_j)] over the M candidates j, E_j their expected numbers.

    The sum is an unbiased estimate of the normaliser of the full softmax, its target left out (the logQ correction:
    Bengio and Senécal 2008). hidden [P, D], vectors [S, D]; targets [P], candidates [M] index the vectors;
    log_expected [M]. A candidate that is the target of a position does not count there.
    """
    scores = (hidden @ vectors[candidates].T).to(hidden.dtype) - log_expected
    scores = scores.masked_fill(targets[:, None] == candidates, -torch.inf)
    at_target = (hidden * vectors[targets]).sum(1)
    return (torch.logaddexp(scores.logsumexp(1), at_target) - at_target).mean()


def binary_cross_entropy(hidden: Tensor, vectors: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """Mean of -log σ(s+) - log σ(-s-), one candidate for each position: targets and candidates [P] index the vectors.

    Source: Kang and McAuley 2018, eq. 7.
    """
    at_target, at_candidate = ((hidden * vectors[items]).sum(1) for items in (targets, candidates))
    return (F.softplus(-at_target) + F.softplus(at_candidate)).mean()
