"""Negative selection: which item is pushed down as the rejected one.

A selector is a function of a `Selection` (one block of positions) and a `torch.Generator`, and returns item ids [R, n].
It never sees the optimiser. Items in `Selection.excluded` (the positive among them) are never returned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """What a selector may look at, for a block of R positions.

    scores: policy scores [R, N], excluded items at -inf.
    excluded: sorted unique ids of the items that must not be selected [R, M], padded with N.
    k, n: pool size and number of negatives per position.
    """

    scores: Tensor
    excluded: Tensor
    k: int
    n: int

    @property
    def eligible(self) -> Tensor:
        """Number of eligible items per position, [R, 1]."""
        n_items = self.scores.shape[1]
        return n_items - (self.excluded < n_items).sum(1, keepdim=True)


Selector = Callable[[Selection, torch.Generator], Tensor]


def uniform(selection: Selection, generator: torch.Generator) -> Tensor:
    """Uniform over the eligible items, with replacement between the n draws."""
    draw = _below(selection.eligible, selection.n, generator)
    # The r-th eligible item is r plus the number of excluded items at or below it (excluded is sorted).
    n_items, column = selection.scores.shape[1], torch.arange(selection.excluded.shape[1], device=draw.device)
    gaps = torch.where(selection.excluded < n_items, selection.excluded - column, n_items)
    return draw + torch.searchsorted(gaps, draw, right=True)


def hard(selection: Selection, generator: torch.Generator) -> Tensor:
    """The eligible item with the highest policy score, n times: `topk` with K = 1."""
    return selection.scores.argmax(1, keepdim=True).expand(-1, selection.n)


def topk(selection: Selection, generator: torch.Generator) -> Tensor:
    """Uniform over the K eligible items that the *current* policy scores highest: RoDPO as we read Huang et al. 2026.

    Whether the paper draws uniformly, and whether policy or reference ranks the pool, is not known to us.
    """
    pool = selection.scores.topk(min(selection.k, selection.scores.shape[1]), dim=1).indices
    size = selection.eligible.clamp(max=selection.k)
    return pool.gather(1, _below(size, selection.n, generator))


SELECTORS: dict[str, Selector] = {"uniform": uniform, "hard": hard, "topk": topk}
POOLED = {"topk"}  # the selectors that use K


def _below(size: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Uniform integers [R, n] in [0, size), size [R, 1]."""
    draw = torch.rand((len(size), n), generator=generator, device=size.device, dtype=torch.float64)
    return (draw * size).long()


def exclusions(rule: str, users: Tensor, rows: Tensor, positives: Tensor, owned: "OwnedItems") -> Tensor:
    """Items that may not be selected at each position: the positive, and the user's own by `rule`.

    Shapes: users, rows (index of the last known interaction in `Dataset.items`) and positives are [P]; the result is
    [P, M], sorted and unique in each row, padded with N. `none` adds nothing, `past` the user's items up to that row,
    `train` all training items of the user.
    """
    positive = positives[:, None]
    if rule == "none":
        return positive
    items, first_row = owned.of(users)
    if rule == "past":
        items = items.masked_fill(first_row > rows[:, None], owned.n_items)
    merged = torch.cat([items, positive], 1).sort(1).values
    repeated = torch.zeros_like(merged, dtype=torch.bool)
    repeated[:, 1:] = merged[:, 1:] == merged[:, :-1]
    merged = merged.masked_fill(repeated, owned.n_items).sort(1).values
    width = int((merged < owned.n_items).sum(1).max()) if len(merged) else 0
    return merged[:, :width]


@dataclass(frozen=True)
class OwnedItems:
    """Each user's distinct training items, and the row of `Dataset.items` where each first occurs, in CSR form."""

    offsets: Tensor
    items: Tensor
    first_row: Tensor
    n_items: int

    @classmethod
    def of_training(
        cls, items: np.ndarray, start: np.ndarray, end: np.ndarray, n_items: int, device="cpu"
    ) -> "OwnedItems":
        """Collect items[start[u]:end[u]] of every user u."""
        lengths = end - start
        users = np.repeat(np.arange(len(start)), lengths)
        rows = np.arange(lengths.sum()) + np.repeat(start - (lengths.cumsum() - lengths), lengths)
        pairs, first = np.unique(users * n_items + items[rows], return_index=True)
        offsets = np.concatenate([[0], np.bincount(pairs // n_items, minlength=len(start)).cumsum()])
        tensors = (torch.as_tensor(array, device=device) for array in (offsets, pairs % n_items, rows[first]))
        return cls(*tensors, n_items)

    def of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Items and first rows of the given users, both [P, M], padded with N and 0."""
        start, count = self.offsets[users], self.offsets[users + 1] - self.offsets[users]
        column = torch.arange(int(count.max()) if len(count) else 0, device=users.device)
        present = column < count[:, None]
        index = torch.where(present, start[:, None] + column, 0)
        return self.items[index].masked_fill(~present, self.n_items), self.first_row[index].masked_fill(~present, 0)


def mask_excluded(scores: Tensor, excluded: Tensor) -> Tensor:
    """Set excluded items of a score block [R, N] to -inf, in place; raises ValueError if a row has none left."""
    n_items = scores.shape[1]
    real = excluded < n_items
    if bool((real.sum(1) >= n_items).any()):
        raise ValueError("a position has no eligible negative: every item of the catalogue is excluded")
    rows = torch.arange(len(scores), device=scores.device)[:, None].expand_as(excluded)
    scores[rows[real], excluded[real]] = -torch.inf
    return scores


def rank_probabilities(name: str, k: int, eligible: np.ndarray, depth: int) -> np.ndarray:
    """q_r: the probability that a selector draws the item at rank r (0 is best) among the eligible ones, [P, depth].

    eligible [P]: number of eligible items. Raises KeyError for a selector without a law over ranks.
    """
    pool = {
        "hard": lambda: np.ones_like(eligible),
        "topk": lambda: np.minimum(k, eligible),
        "uniform": lambda: eligible,
    }
    size = pool[name]()[:, None]
    return (np.arange(depth) < size) / size
