"""The data and the measure that every library shares: numpy alone, so that each environment can import it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

Part = Literal["validation", "test"]
Score = Callable[[list[np.ndarray]], np.ndarray]  # histories of R users → scores [R, N]


@dataclass(frozen=True)
class Interactions:
    """Sequences [U] of item ids, oldest first; the last item is for the test, the one before for validation."""

    sequences: list[np.ndarray]
    n_items: int

    @cached_property
    def training(self) -> list[np.ndarray]:
        """What may be trained on: inputs and targets before the validation item."""
        return [sequence[:-2] for sequence in self.sequences]

    def histories(self, part: Part) -> list[np.ndarray]:
        """What is known when the `part` item is to be ranked."""
        return self.training if part == "validation" else [sequence[:-1] for sequence in self.sequences]

    def targets(self, part: Part) -> np.ndarray:
        return np.array([sequence[-2 if part == "validation" else -1] for sequence in self.sequences])

    def training_targets(self, max_length: int) -> int:
        """Next items to predict when only the last `max_length` inputs of each user count."""
        return sum(min(len(sequence) - 1, max_length) for sequence in self.training)


def read_interactions(path: str | Path) -> Interactions:
    """Interactions of a CSV file with a header and the columns user, item, position; ids count from 0 without gaps.

    Raises ValueError if ids have gaps, or if a user has fewer than four items and so nothing to train on.
    """
    user, item, position = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2).T
    order = np.lexsort((position, user))
    user, item = user[order], item[order]
    for name, ids in (("user", user), ("item", item)):
        if not np.array_equal(np.unique(ids), np.arange(ids.max() + 1)):
            raise ValueError(f"{path}: {name} ids must count from 0 without gaps")
    sequences = np.split(item, np.flatnonzero(np.diff(user)) + 1)
    if min(map(len, sequences)) < 4:
        raise ValueError(f"{path}: every user needs at least four items")
    return Interactions(sequences, int(item.max()) + 1)


def rank_targets(scores: np.ndarray, targets: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
    """Ranks from 0 [R] of the targets in the catalogue without the history.

    scores [R, N], -inf where a library does not know the item; targets [R]; histories of the same R users, repeats
    allowed. The rank is the number of items with a strictly greater score plus half of the ties, rounded up; the target
    itself is never dropped. Raises ValueError if a score is NaN or +inf, or if the shape does not fit.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or len(scores) != len(targets):
        raise ValueError(f"scores must be [{len(targets)}, items], not {scores.shape}")
    if not (scores < np.inf).all():  # also catches NaN
        raise ValueError("a score is NaN or infinite")
    at_target = scores[np.arange(len(targets)), targets][:, None]
    dropped = np.zeros(scores.shape, dtype=bool)
    for row, history in enumerate(histories):
        dropped[row, history] = True
    dropped[np.arange(len(targets)), targets] = True  # not a rival of itself
    greater = ((scores > at_target) & ~dropped).sum(1)
    equal = ((scores == at_target) & ~dropped).sum(1)
    return greater + (equal + 1) // 2


def ndcg(ranks: np.ndarray, k: int = 10) -> float:
    """Mean NDCG@k when each user has one relevant item, at `ranks` counted from 0."""
    return float(np.where(ranks < k, 1 / np.log2(np.asarray(ranks) + 2.0), 0).mean())


def evaluate(score: Score, interactions: Interactions, part: Part = "validation", batch: int = 256) -> float:
    """NDCG@10 of every user's `part` item over the full catalogue, history masked."""
    histories, targets = interactions.histories(part), interactions.targets(part)
    starts = range(0, len(targets), batch)
    rows = [slice(start, start + batch) for start in starts]
    return ndcg(np.concatenate([rank_targets(score(histories[r]), targets[r], histories[r]) for r in rows]))


def left_padded(histories: list[np.ndarray], length: int, padding: int, shift: int = 0) -> np.ndarray:
    """The last `length` items of each history [R, length], newest at the right, each id plus `shift`."""
    rows = np.full((len(histories), length), padding, dtype=np.int64)
    for row, history in zip(rows, histories):
        last = history[-length:]
        row[length - len(last) :] = last + shift
    return rows
