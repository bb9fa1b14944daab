"""Planted false negatives: known positives that are taken out before anything is trained.

A share of all training interactions is taken out of a dataset and kept beside what is left. A planted interaction is
a false negative at every position before its own time: the user was going to take that item, and no model knows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rodpo_lite.data import checks
from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.schema import Dataset, read_dataset, write_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError

PLANTED = "planted/interactions.parquet"


@dataclass(frozen=True)
class Planted:
    """The planted pairs, P of them: sorted keys user · N + item [P], before which of the user's remaining items each
    stood, counted from 0 (places [P]), and where each user's items begin in the dataset (offsets [U + 1])."""

    keys: Tensor
    places: Tensor
    offsets: Tensor
    n_items: int

    @classmethod
    def of(cls, dataset: Dataset, folder: Path) -> "Planted | None":
        """Read what was planted beside a dataset; None where nothing was."""
        path = Path(folder) / PLANTED
        if not path.is_file():
            return None
        limits = {"user": dataset.n_users, "item": dataset.n_items, "place": len(dataset.items)}
        table = checks.read_parquet(path.parent, path.name, dict.fromkeys(limits))
        for column, limit in limits.items():
            if table[column].dtype.kind != "i" or not table[column].between(0, limit - 1).all():
                raise InputError(f"{path}: the column {column!r} must hold whole numbers from 0 to {limit - 1}.")
        if table.empty:
            return None
        table = table.sort_values("place").drop_duplicates(["user", "item"], keep="last")  # false until the last time
        keys = table["user"].to_numpy(np.int64) * dataset.n_items + table["item"].to_numpy(np.int64)
        order = keys.argsort()
        columns = (keys[order], table["place"].to_numpy(np.int64)[order], dataset.offsets)
        return cls(*(torch.as_tensor(column) for column in columns), dataset.n_items)

    def to(self, device: torch.device) -> "Planted":
        return Planted(self.keys.to(device), self.places.to(device), self.offsets.to(device), self.n_items)

    def hit(self, batch: PackedBatch, items: Tensor) -> Tensor:
        """Which of the items [P, n] are false negatives at their positions, [P, n]."""
        users = batch.user_of_position
        keys = users[:, None] * self.n_items + items
        index = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        taken_so_far = (batch.rows + 1 - self.offsets[users])[:, None]
        return (self.keys[index] == keys) & (self.places[index] >= taken_so_far)


def plant(folder: Path, out: Path, share: float = 0.1, seed: int = 0, name: str | None = None) -> Path:
    """Hide a share of all training interactions of a dataset and write the rest to the folder `out`.

    The result is called `name`, by default as the dataset with -planted. At least two training interactions per user
    and one per item stay. Raises InputError if so many cannot be hidden.
    """
    import pandas as pd

    if not 0 < share < 1:
        raise InputError(f"--share {share} is not valid: it must lie between 0 and 1.")
    folder, dataset = Path(folder), read_dataset(folder)
    users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    planted = _choose(dataset, users, share, seed)
    kept_before = np.cumsum(~planted) - ~planted
    place = kept_before - kept_before[dataset.offsets[users]]
    stamps = pd.array(pd.Series(dataset.timestamps).round(), dtype="Int64")
    table = pd.DataFrame({"user": users, "item": dataset.items, "position": place, "timestamp": stamps})
    record = table[planted].rename(columns={"position": "place"}).astype({"user": np.int32, "item": np.int32})
    extra = {PLANTED: record.reset_index(drop=True)}
    if (folder / "users.parquet").is_file():
        extra["users.parquet"] = checks.read_parquet(folder, "users.parquet")
    about = {key: dataset.manifest[key] for key in ("source", "licence", "has_timestamps") if key in dataset.manifest}
    return write_dataset(
        out,
        name or f"{dataset.name}-planted",
        table[~planted].reset_index(drop=True),
        checks.read_parquet(folder, "items.parquet"),
        dataset.features,
        extra=extra,
        origin={name: entry.get("origin", "not stated") for name, entry in dataset.manifest["modalities"].items()},
        notes=f"{planted.sum()} training interactions ({share:.0%}, seed {seed}) are hidden and kept in {PLANTED}.",
        **about,
    )


def _choose(dataset: Dataset, users: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which interactions are planted [I], taken in random order as long as user and item keep enough."""
    split = leave_one_out(dataset)
    training = np.arange(len(dataset.items)) < split.train_end[users]
    wanted = round(share * training.sum())
    if wanted == 0:
        raise InputError(f"--share {share} of {training.sum()} training interactions is none; use a larger one.")
    user_counts = split.train_end - split.start
    item_counts = np.bincount(dataset.items[training], minlength=dataset.n_items)
    planted, count = np.zeros(len(dataset.items), bool), 0
    for row in np.random.default_rng(seed).permutation(np.flatnonzero(training)):
        user, item = users[row], dataset.items[row]
        if count < wanted and user_counts[user] > 2 and item_counts[item] > 1:
            planted[row] = True
            user_counts[user] -= 1
            item_counts[item] -= 1
            count += 1
    if count < wanted:
        raise InputError(
            f"Only {count} training interactions of {dataset.name} can be hidden, {share:.0%} would be {wanted}: every "
            "user keeps two and every item one. Use a smaller --share."
        )
    return planted
