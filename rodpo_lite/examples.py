"""A few users before and after alignment: the top of the list by each row, kept in the ledger as item numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rodpo_lite import checkpoint
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError
from rodpo_lite.grid import FINAL, Cell, Grid
from rodpo_lite.ranking import encode_histories
from rodpo_lite.runs import load

ROWS = ("fused", "none", "hard", "topk")
TOP = 10


def write(
    dataset: Dataset, grid: Grid, runs: Path, ledger: Path, rows: tuple[str, ...] = ROWS, users: int = 12
) -> Path:  # fmt: skip
    """Write examples/<dataset>.json: users drawn at random among those whose test item some row has in its top 10.

    Every row is taken at the first reported seed, from the folder of runs; all items are ranked. Of each user it holds
    history (the last ten items), target, and for each row the top ten. Raises InputError if a
    row has not been run.
    """
    seed, first = grid.seeds[0], {}
    for row in rows:
        folder = Cell(grid, dataset.name, row).folder(runs) / FINAL / f"seed-{seed}"
        if not (folder / checkpoint.MODEL).is_file():
            raise InputError(f"{folder} has not been run; rodpo grid --datasets {dataset.name} --rows {row} does that.")
        first[row] = _best(dataset, folder)
    start, end = leave_one_out(dataset).history("test")
    targets = dataset.items[end]
    hit = np.any([(best == targets[:, None]).any(1) for best in first.values()], axis=0)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(hit))[:users]
    found = [
        {
            "user": int(user),
            "history": dataset.items[max(start[user], end[user] - TOP) : end[user]].tolist(),
            "target": int(targets[user]),
            "top": {row: best[user].tolist() for row, best in first.items()},
        }
        for user in chosen
    ]
    path = Path(ledger) / "examples" / f"{dataset.name}.json"
    checkpoint.write_json(path, {"seed": seed, "of": int(hit.sum()), "users": found})
    return path


def read(dataset: str, ledger: Path) -> dict[str, Any] | None:
    """What `write` left for a dataset, None where there is nothing."""
    path = Path(ledger) / "examples" / f"{dataset}.json"
    return checkpoint.read_json(path) if path.is_file() else None


def table(example: dict[str, Any], titles: list[str] | None = None) -> pd.DataFrame:
    """The top ten of one user, a column for each row: ★ marks the next item, ↩ what the user has already."""

    def told(item: int) -> str:
        mark = "★ " if item == example["target"] else "↩ " if item in example["history"] else ""
        return mark + (titles[item].removeprefix("Title: ")[:40] if titles else f"item {item}")

    columns = {row: [told(item) for item in items] for row, items in example["top"].items()}
    return pd.DataFrame(columns, index=pd.RangeIndex(1, TOP + 1, name="place"))


@torch.no_grad()
def _best(dataset: Dataset, folder: Path) -> np.ndarray:
    """The ten best items of every user after all but the test item, [U, 10]."""
    run = load(folder, dataset)
    start, end = leave_one_out(dataset).history("test")
    found = np.empty((dataset.n_users, TOP), np.int64)
    for users, hidden, vectors in encode_histories(run.model, dataset, start, end, run.encoder.max_length):
        for who, states in zip(users.split(500), hidden.split(500), strict=True):
            found[who.numpy()] = (states @ vectors.T).topk(TOP).indices.numpy()
    return found
