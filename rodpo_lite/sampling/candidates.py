"""Which items may be rejected at a position, and everything that a selector may look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.model.recommender import pair_scores


@dataclass(frozen=True)
class Candidates:
    """What a selector may look at, for a block of R positions.

    scores [R, N]: excluded items at -inf; by the scorer that the selector asks for, [0] where it asks for none.
    positive_scores [R]: the positive's, from the same scorer. excluded [R, M]: sorted unique ids of the items that must
    not be selected, padded with N. popularity [N]: training interactions of each item. in_batch [N]: how often each
    item is a positive of this batch. rows [R]: which training positions these are, as indices into `Dataset.items`.
    state: what a selector remembers between steps; saved with the checkpoint. exact: for scores that are a rounded
    block; None where they are exact themselves.
    """

    scores: Tensor
    positive_scores: Tensor
    excluded: Tensor
    popularity: Tensor
    in_batch: Tensor
    rows: Tensor
    epoch: int = 1
    state: dict[str, Tensor] = field(default_factory=dict)
    exact: "ExactScores | None" = None

    @property
    def n_items(self) -> int:
        return len(self.popularity)

    @property
    def eligible(self) -> Tensor:
        """Number of eligible items per position, [R, 1]."""
        return self.n_items - (self.excluded < self.n_items).sum(1, keepdim=True)

    def scores_at(self, items: Tensor) -> Tensor:
        """Scores of the items [R, n], as precise as the block, in the dtype of the positive's."""
        return self.scores.gather(1, items).to(self.positive_scores.dtype)

    @property
    def is_excluded(self) -> Tensor:
        """Mask over the catalogue, [R, N]."""
        return item_mask(self.excluded, self.n_items)


@dataclass(frozen=True)
class ExactScores:
    """Scores of a block before they were rounded: hidden states [R, C], vectors [N, C], less a penalty [N] if any.

    length: of the vectors, the root of the mean square.
    """

    hidden: Tensor
    vectors: Tensor
    length: Tensor
    penalty: Tensor | None = None

    def at(self, items: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Of items [R, n], or of one item for each of these rows, [r]."""
        scores = pair_scores(self.hidden[rows], self.vectors, items)
        return scores if self.penalty is None else scores - self.penalty[items]

    def of(self, rows: Tensor) -> Tensor:
        """Of all items, for r of the positions, [r, N]."""
        scores = self.hidden[rows] @ self.vectors.T
        return scores if self.penalty is None else scores - self.penalty

    def noise(self) -> Tensor:
        """How far off products of operands rounded to bf16 are at most, but for one in a few hundred, [R]; the penalty,
        which is rounded too, included."""
        off = 1.5 * self.hidden.norm(dim=1) * self.length / self.hidden.shape[1] ** 0.5
        return (off if self.penalty is None else off + self.penalty.amax()) / 2**8


def exclusions(rule: str, users: Tensor, rows: Tensor, positives: Tensor, owned: "OwnedItems") -> Tensor:
    """Items that may not be selected at each position: the positive, and the user's own by `rule`.

    Shapes: users, rows (index of the last known interaction in `Dataset.items`) and positives are [P]; the result is
    [P, M], sorted and unique in each row, padded with N. `none` adds nothing, `past` the user's items up to that row,
    `train` and `planted` all that are in `owned`: training items, and for the latter what was planted, too.
    """
    positive = positives[:, None]
    if rule == "none":
        return positive
    items, first_row = owned.items_of(users)
    if rule == "past":
        items = items.masked_fill(first_row > rows[:, None], owned.n_items)
    elif bool((items == positive).any(1).all()):  # sorted and unique as they are
        return items
    merged = torch.cat([items, positive], 1).sort(1).values
    merged = merged.masked_fill(repeats(merged), owned.n_items).sort(1).values
    width = int((merged < owned.n_items).sum(1).max()) if len(merged) else 0
    return merged[:, :width]


@dataclass(frozen=True)
class OwnedItems:
    """Each user's distinct items, and the row of `Dataset.items` where each first occurs, in CSR form.

    offsets [U + 1]; keys [M], sorted: user · N + item; first_row [M].
    """

    offsets: Tensor
    keys: Tensor
    first_row: Tensor
    n_items: int

    @classmethod
    def within(cls, items: np.ndarray, start: np.ndarray, end: np.ndarray, n_items: int, device="cpu") -> "OwnedItems":
        """Collect items[start[u]:end[u]] of every user u."""
        lengths = end - start
        users = np.repeat(np.arange(len(start)), lengths)
        rows = np.arange(lengths.sum()) + np.repeat(start - (lengths.cumsum() - lengths), lengths)
        pairs, first = np.unique(users * n_items + items[rows], return_index=True)
        offsets = np.concatenate([[0], np.bincount(pairs // n_items, minlength=len(start)).cumsum()])
        tensors = (torch.as_tensor(array, device=device) for array in (offsets, pairs, rows[first]))
        return cls(*tensors, n_items)

    @classmethod
    def in_training(cls, dataset: Dataset, device="cpu") -> "OwnedItems":
        """Collect the training items of every user."""
        return cls.within(dataset.items, *leave_one_out(dataset).history("valid"), dataset.n_items, device)

    def with_planted(self, keys: Tensor) -> "OwnedItems":
        """The same with further pairs, keys user · N + item, which are in no row: first_row is -1."""
        new = keys[~torch.isin(keys, self.keys)]
        keys, order = torch.cat([self.keys, new]).sort()
        first_row = torch.cat([self.first_row, torch.full_like(new, -1)])[order]
        users = torch.arange(len(self.offsets), device=keys.device)
        return OwnedItems(torch.searchsorted(keys, users * self.n_items), keys, first_row, self.n_items)

    def items_of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Items and first rows of the given users, both [P, M], padded with N and 0."""
        start, count = self.offsets[users], self.offsets[users + 1] - self.offsets[users]
        column = torch.arange(int(count.max()) if len(count) else 0, device=users.device)
        present = column < count[:, None]
        index = torch.where(present, start[:, None] + column, 0)
        items = (self.keys[index] % self.n_items).masked_fill(~present, self.n_items)
        return items, self.first_row[index].masked_fill(~present, 0)

    def first_rows(self, users: Tensor, items: Tensor) -> Tensor:
        """The row where each of the items [P, n] first occurs with its user [P], or -1 where the user never has it."""
        keys = users[:, None] * self.n_items + items
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, self.first_row[place], -1)


def renumbered(items: Tensor, pool: Tensor) -> Tensor:
    """The place of each item in the sorted pool [S], S where it is not in it; any shape."""
    place = torch.searchsorted(pool, items.contiguous()).clamp(max=len(pool) - 1)
    return torch.where(pool[place] == items, place, len(pool))


def repeats(rows: Tensor) -> Tensor:
    """Which values of sorted rows [R, M] are in the place before them, too."""
    return F.pad(rows[:, 1:] == rows[:, :-1], (1, 0))


def item_mask(items: Tensor, n_items: int) -> Tensor:
    """Items [R, M], padded with N, as a mask over the catalogue, [R, N]."""
    mask = torch.zeros(len(items), n_items + 1, dtype=torch.bool, device=items.device)
    return mask.scatter_(1, items, True)[:, :-1]


@contextmanager
def masked(scores: Tensor, excluded: Tensor) -> Iterator[Tensor]:
    """Within the context, excluded items of the score block [R, N] are at -inf; after it, the block is as it was.

    excluded [R, M] is padded with N. Raises ValueError if a row has nothing left.
    """
    n_items = scores.shape[1]
    if excluded.shape[1] >= n_items and bool(((excluded < n_items).sum(1) == n_items).any()):
        raise ValueError("a position has no eligible negative: every item of the catalogue is excluded")
    place = (excluded + n_items * torch.arange(len(scores), device=scores.device)[:, None])[excluded < n_items]
    flat = scores.view(-1)
    before = flat[place]
    flat.index_fill_(0, place, -torch.inf)
    try:
        yield scores
    finally:
        flat[place] = before
