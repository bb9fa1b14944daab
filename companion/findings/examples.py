"""Lists before and after alignment, kept in the ledger as item numbers; and a table as a shop might have it."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from companion.evidence.grid import FINAL, Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings.changes import labelled
from companion.findings.names import NAMES
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.data.synthetic import WorldSizes, open_world
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.ranking import encode_histories
from rodpo_lite.files import read_json, write_json
from rodpo_lite.training import checkpoint
from rodpo_lite.training.runs import load

ROWS = ("fused", "none", "uniform", "hard", "topk")
TOP = 10
DEPTH = 20  # of a list in which moves are counted
LOSERS = 10
MOVES, LISTS = NAMES["moves"], NAMES["lists"]
SCALES = {"owned": 100, "next": 1e4}  # of MOVES
TAKEN_NEXT = MOVES["next"]
SHOP = WorldSizes(users=500, items=300)


def write(
    dataset: Dataset, grid: Grid, runs: Path, ledger: Ledger, rows: tuple[str, ...] = ROWS, users: int = 12
) -> Path:  # fmt: skip
    """Write examples/<dataset>.json: users drawn at random among those whose test item some row has in its top 10, at
    the first reported seed, all items ranked. Raises InputError if a row has not been run."""
    seed, lists = grid.seeds[0], {}
    for row in rows:
        folder = Experiment(grid, dataset.name, row).folder(runs) / FINAL / f"seed-{seed}"
        if not (folder / checkpoint.MODEL).is_file():
            raise InputError(f"{folder} has not been run; rodpo grid --datasets {dataset.name} --rows {row} does that.")
        lists[row] = _best(dataset, folder)
    start, end = leave_one_out(dataset).history("test")
    targets = dataset.items[end]
    hit = np.any([(best[:, :TOP] == targets[:, None]).any(1) for best in lists.values()], axis=0)
    examples = [
        {
            "user": int(user),
            "history": dataset.items[max(start[user], end[user] - TOP) : end[user]].tolist(),
            "target": int(targets[user]),
            "top": {row: best[user, :TOP].tolist() for row, best in lists.items()},
        }
        for user in np.random.default_rng(0).permutation(np.flatnonzero(hit))[:users]
    ]
    before = lists.pop(rows[0])
    moved = {
        row: {"moves": moves(dataset, before, after), "losers": losers(before, after, targets)}
        for row, after in lists.items()
    }
    path = ledger.folder / "examples" / f"{dataset.name}.json"
    write_json(path, {"seed": seed, "of": int(hit.sum()), "users": examples, "moved": moved})
    return path


def moves(dataset: Dataset, before: np.ndarray, after: np.ndarray) -> dict[str, dict[str, float]]:
    """Of the items that left the lists [U, D] at test, came in and stayed: how many a user, and, where there are any,
    which share the user had already and which is the test item, and their median training interactions."""
    owner = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    end = leave_one_out(dataset).history("test")[1]
    keys = owner * dataset.n_items + dataset.items  # a pair of user and item as one number
    past = keys[np.arange(len(keys)) < end[owner]]
    first, second = (np.arange(dataset.n_users)[:, None] * dataset.n_items + lists for lists in (before, after))
    stays = np.isin(first, second)
    kinds = {"left": first[~stays], "came": second[~np.isin(second, first)], "stayed": first[stays]}
    popularity, summary = training_counts(dataset), {}
    for kind, pairs in kinds.items():
        summary[kind] = {"items": len(pairs) / dataset.n_users}
        if len(pairs):
            summary[kind]["owned"] = float(np.isin(pairs, past).mean())
            summary[kind]["next"] = float(np.isin(pairs, keys[end]).mean())
            summary[kind]["popularity"] = float(np.median(popularity[pairs % dataset.n_items]))
    return summary


def losers(before: np.ndarray, after: np.ndarray, targets: np.ndarray) -> list[dict[str, int]]:
    """The ten items that leave most lists [U, D] on balance; `wanted` are those that a user who lost them took next."""
    had, has = ((lists == targets[:, None]).any(1) for lists in (before, after))
    size = int(max(before.max(), after.max())) + 1
    items = {"before": before.ravel(), "after": after.ravel(), "wanted": targets[had & ~has]}
    counts = pd.DataFrame({name: np.bincount(which, minlength=size) for name, which in items.items()})
    worst = (counts["after"] - counts["before"]).sort_values(kind="stable").index[:LOSERS]
    return counts.loc[worst].rename_axis("item").reset_index().to_dict("records")


def read(dataset: str, ledger: Ledger) -> dict[str, Any] | None:
    """What `write` left for a dataset, None where there is nothing."""
    path = ledger.folder / "examples" / f"{dataset}.json"
    return read_json(path) if path.is_file() else None


def moves_table(kept: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """`moves` of what `read` returns for each dataset."""
    return pd.DataFrame(
        {"dataset": dataset, "row": row, "what": what}
        | {label: SCALES.get(key, 1) * values[key] for key, label in MOVES.items() if key in values}
        for dataset, lists in kept.items()
        for row, moved in lists["moved"].items()
        for what, values in moved["moves"].items()
    )


def came_and_left(grid: Grid, table: pd.DataFrame, rows: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Of 10,000 items that came in and that left, how many were taken next."""
    taken = table.set_index(["dataset", "row", "what"])[TAKEN_NEXT].unstack("what")
    taken = taken.loc[list(product(table["dataset"].unique(), rows)), ["came", "left"]]
    return {"rows": labelled(grid, taken.reset_index())}


def losers_table(kept: dict[str, dict[str, Any]], titles: dict[str, list[str]], rows: Iterable[str]) -> pd.DataFrame:
    """The five items that leave most lists, of each dataset and row; by title where a dataset has any."""
    lines = [
        {"dataset": dataset, "row": row} | line
        for dataset, lists in kept.items()
        for row in rows
        for line in lists["moved"][row]["losers"][:5]
    ]
    for line in lines:
        if line["dataset"] in titles:
            line["item"] = short(titles[line["dataset"]][line["item"]])
    return pd.DataFrame(lines, columns=["dataset", "row", "item", *LISTS]).rename(columns=LISTS)


def short(text: str) -> str:
    """The title in an item's text, cut at a word to 40 characters; Amazon's texts go on with a description after it."""
    title = " ".join(text.removeprefix("Title: ").split(" ;")[0].split())
    return title if len(title) <= 40 else title[:39].rsplit(" ", 1)[0] + " …"


def table(example: dict[str, Any], titles: list[str] | None = None) -> pd.DataFrame:
    """The top ten of one user, a column for each row: ★ marks the next item, ↩ what the user has already."""

    def marked(item: int) -> str:
        mark = "★ " if item == example["target"] else "↩ " if item in example["history"] else ""
        return mark + (short(titles[item]) if titles else f"item {item}")

    return pd.DataFrame(example["top"], index=pd.RangeIndex(1, TOP + 1, name="place")).map(marked)


def write_example(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write clicks.csv (customer, product, time) and products.csv (product, title) into `folder`; returns both."""
    dataset, _ = open_world(seed=seed, sizes=SHOP)
    names = np.array([f"sku-{number:04d}" for number in range(dataset.n_items)])
    customers = np.array([f"c{number:05d}" for number in range(dataset.n_users)])
    time = pd.to_datetime(dataset.timestamps, unit="s").strftime("%Y-%m-%dT%H:%M:%S")
    clicks = {"customer_id": customers.repeat(dataset.lengths), "product_id": names[dataset.items], "time": time}
    files = Path(folder) / "clicks.csv", Path(folder) / "products.csv"
    for file, columns in zip(files, (clicks, {"product_id": names, "title": dataset.titles}), strict=True):
        pd.DataFrame(columns).to_csv(file, index=False)
    return files


@torch.no_grad()
def _best(dataset: Dataset, folder: Path) -> np.ndarray:
    """The best items of every user after all but the test item, [U, DEPTH]."""
    run = load(folder, dataset)
    start, end = leave_one_out(dataset).history("test")
    best = np.empty((dataset.n_users, DEPTH), np.int64)
    for users, hidden, vectors in encode_histories(run.model, dataset, start, end, run.encoder.max_length):
        for who, states in zip(users.split(500), hidden.split(500), strict=True):
            best[who.numpy()] = (states @ vectors.T).topk(DEPTH).indices.numpy()
    return best
