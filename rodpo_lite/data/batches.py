"""Packed batches: sequences of different lengths back to back, without padding."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out


@dataclass(frozen=True)
class PackedBatch:
    """B sequences packed into P positions, longest sequence first.

    rows [P]: index of each input interaction in `Dataset.items`, whose successor is the target; items [P]: input items;
    steps [P]: position within the sequence window; lengths [B]; users [B]; times [P]: when each input happened, Unix
    seconds, NaN where unknown; None if no time is known or wanted.
    """

    rows: Tensor
    items: Tensor
    steps: Tensor
    lengths: Tensor
    users: Tensor
    times: Tensor | None = None

    @property
    def last(self) -> Tensor:
        """Index of each sequence's last position in the packed order, [B]."""
        return self.lengths.cumsum(0) - 1

    @property
    def user_of_position(self) -> Tensor:
        """The user that each packed position belongs to, [P]."""
        return self.users.repeat_interleave(self.lengths)


class PackedSequences:
    """Windows of the interaction array, one per user, served as packed batches.

    items: the dataset's item array [I]. start, end: [U] window of inputs per user; only its last `max_length` inputs
    are kept, and users whose window is empty are left out. times: the dataset's timestamps [I], if a model wants them.
    """

    def __init__(
        self, items: np.ndarray, start: np.ndarray, end: np.ndarray, max_length: int, device="cpu",
        times: np.ndarray | None = None,
    ):  # fmt: skip
        start = np.maximum(start, end - max_length)
        users = np.flatnonzero(end > start)
        self.items = torch.as_tensor(items, device=device)
        known = times is not None and not np.isnan(times).all()
        self.times = torch.as_tensor(times, device=device) if known else None
        self.users = torch.as_tensor(users, device=device)
        self.start = torch.as_tensor(start[users], device=device)
        self.lengths = torch.as_tensor((end - start)[users], device=device)

    @classmethod
    def for_training(cls, dataset: Dataset, max_length: int, device="cpu") -> "PackedSequences":
        """Each user's training window: the last training item has no successor to predict, so it ends one before."""
        split = leave_one_out(dataset)
        return cls(dataset.items, split.start, split.train_end - 1, max_length, device, dataset.timestamps)

    @property
    def n_positions(self) -> int:
        return int(self.lengths.sum())

    def epoch(
        self, batch_positions: float, generator: torch.Generator | None = None, part: int = 0, parts: int = 1
    ) -> Iterator[PackedBatch]:
        """All sequences once, in random order if a generator is given, about `batch_positions` positions a batch.

        A batch holds at least one sequence. The number of batches is that of `n_batches` in every epoch. Of each batch
        every `parts`-th sequence, by length, is served: one of `parts` shares of about the same size.
        """
        count = len(self.users)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        order = order.to(self.users.device)
        for chosen in torch.tensor_split(order, self.n_batches(batch_positions)):
            yield self._pack(chosen, part, parts)

    def n_batches(self, batch_positions: float) -> int:
        """Batches per epoch: constant, so that a schedule over steps is exact."""
        return min(len(self.users), max(1, round(self.n_positions / batch_positions)))

    def _pack(self, chosen: Tensor, part: int, parts: int) -> PackedBatch:
        chosen = chosen[self.lengths[chosen].argsort(descending=True, stable=True)][part::parts]
        lengths = self.lengths[chosen]
        first = lengths.cumsum(0) - lengths
        steps = torch.arange(int(lengths.sum()), device=lengths.device) - first.repeat_interleave(lengths)
        rows = self.start[chosen].repeat_interleave(lengths) + steps
        times = None if self.times is None else self.times[rows]
        return PackedBatch(rows, self.items[rows], steps, lengths, self.users[chosen], times)
