"""One setting at a time, around those that were chosen for `topk`: the rows of the grid called `setting=value`."""

from pathlib import Path

import pandas as pd

from rodpo_lite.comparison import changes, whole
from rodpo_lite.grid import Cell, Grid
from rodpo_lite.statistics import Interval

DATASET = "toys"
SETTINGS = {  # what a row's name begins with
    "k": "pool size K",
    "beta": "β",
    "lambda": "weight of the anchor",
    "rate": "learning rate",
    "n": "negatives a position",
    "dropout": "dropout (1 is on)",
}
OTHERS = {"topk": ("hard_as_topk", "as chosen"), "short_topk": ("short_hard", "a reference trained a third as long")}


def against_topk(grid: Grid, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `topk` as it was chosen to each row of a sweep.

    table: `ledger.records`. Columns of (the setting), selector (topk or hard), value, seeds, change %, low, high, in
    the order of the values; a setting of which one value is on record is left out.
    """
    found = _changes(grid, [(name, "topk") for name in _varied(grid, "hard.") + _varied(grid)], table, folder)
    name = found["after"].str.removeprefix("hard.").str.split("=")
    found.insert(0, "of", name.str[0].map(SETTINGS))
    found.insert(1, "selector", ["hard" if row.startswith("hard.") else "topk" for row in found["after"]])
    found.insert(2, "value", name.str[1].astype(float))
    found = found[found.groupby("of")["value"].transform("nunique") > 1].sort_values("value", kind="stable")
    place = found["of"].map(list(SETTINGS.values()).index)
    return found.iloc[place.argsort(kind="stable")].drop(columns=["after", "before"])


def over_hard(grid: Grid, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `hard` to `topk` at the same settings, the largest first.

    Columns setting (in words), seeds, change %, low, high. What was chosen stands once, as such.
    """
    chosen = Cell(grid, DATASET, "topk").chosen(folder)
    pairs = {name: (f"hard.{name}", _told(name)) for name in _varied(grid) if f"hard.{name}" in grid.rows}
    pairs = {row: told for row, told in pairs.items() if Cell(grid, DATASET, row).chosen(folder) != chosen}
    pairs |= {row: told for row, told in OTHERS.items() if {row, told[0]} <= grid.rows.keys()}
    found = _changes(grid, [(row, other) for row, (other, _) in pairs.items()], table, folder)
    found.insert(0, "setting", found["after"].map({row: told for row, (_, told) in pairs.items()}))
    return found.sort_values("change %", ascending=False).drop(columns=["after", "before"])


def strongest(apart: pd.DataFrame) -> str:
    """The largest and the smallest of `over_hard`, in words."""
    most, least = (
        f"*{row['setting']}*, by {Interval(*row[['change %', 'low', 'high']]).text(1)}"
        for _, row in apart.iloc[[0, -1]].iterrows()
    )
    ahead = (apart["low"] > 0).sum()
    return (
        f"At {ahead} of {len(apart)} settings the interval lies above zero. The pool is ahead the furthest at {most}, "
        f"and the least at {least}."
    )


def _varied(grid: Grid, prefix: str = "") -> list[str]:
    return [name for name in grid.rows if name.partition("=")[0] in {f"{prefix}{setting}" for setting in SETTINGS}]


def _told(name: str) -> str:
    setting, value = name.split("=")
    return f"{SETTINGS[setting]} {value}" if setting != "dropout" else ("no dropout", "dropout")[int(value)]


def _changes(grid: Grid, pairs: list[tuple[str, str]], table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    found = whole(grid, changes(grid, pairs, table, folder, [DATASET]))
    return found[found["protocol"] == "all items"].drop(columns=["dataset", "protocol"])
