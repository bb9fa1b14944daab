"""Leave-one-out split by position: the last item is the test target, the one before it the validation target."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rodpo_lite.data.schema import Dataset

Part = Literal["valid", "test"]


@dataclass(frozen=True)
class Split:
    """Where each user's parts begin and end in `Dataset.items`; all arrays are [U]."""

    start: np.ndarray
    train_end: np.ndarray

    def history(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Start and end of what is known before the target of `part`; the target stands at the end index."""
        return self.start, self.train_end + (part == "test")


def leave_one_out(dataset: Dataset) -> Split:
    """Split a dataset whose users have at least three interactions each (the reader guarantees it)."""
    return Split(start=dataset.offsets[:-1], train_end=dataset.offsets[1:] - 2)


def training_counts(dataset: Dataset) -> np.ndarray:
    """Training interactions of each item, [N]."""
    held_out = dataset.offsets[1:, None] - [2, 1]
    return np.bincount(np.delete(dataset.items, held_out.ravel()), minlength=dataset.n_items)
