"""For whom a change is: what groups of users, by popularity of the next item or length of the history, add to it."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from companion.evidence.comparison import arms, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.evaluation.statistics import crossed_change

POPULARITY, TENTHS = "popularity", 10
SHOWN = [(row, POPULARITY, TENTHS) for row in ("topk", "hard", "none")] + [("topk", "history", 5)]


def contributions(
    after: Experiment, before: Experiment, ledger: Ledger, by: str, groups: int = 10, column: str = "rank"
) -> pd.DataFrame:
    """What each group of users adds to the change: group (from 1, the lowest), users, from, to, change %, low, high.

    by: popularity (of the test item) or history (items before it); groups of about as many users each. Percent are of
    the mean over all users before, so that contributions add up to the whole change.
    """
    first, second = arms(paired_seeds(after, before, ledger), ledger, column)
    values = ledger.users(after.dataset)[by]
    group = pd.qcut(values, groups, labels=False, duplicates="drop")
    rows = []
    for number, members in values.groupby(group):
        inside = np.zeros(len(values), bool)
        inside[members.index] = True
        one = crossed_change(first, np.where(inside, second, first))
        rows.append((int(number) + 1, len(members), members.min(), members.max(), one.estimate, one.low, one.high))
    return pd.DataFrame(rows, columns=["group", "users", "from", "to", "change %", "low", "high"])


def over_the_reference(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`contributions` to the change of test NDCG@5 over the reference, all items ranked, for each of SHOWN.

    Columns row, by, dataset, group, users, from, to, change %, low, high.
    """
    parts = [
        contributions(*pair, ledger, by, count).assign(row=name, by=by, dataset=dataset)
        for name, by, count in SHOWN
        for dataset, pair in _recorded(grid, ledger, name)
    ]
    columns = ["row", "by", "dataset", "group", "users", "from", "to", "change %", "low", "high"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def sure_groups(grid: Grid, table: pd.DataFrame, row: str = "topk") -> list[dict[str, Any]]:
    """Groups of `over_the_reference` whose interval leaves zero out under a row.

    Of each: dataset, verb (gains or loses), groups, of (how many there are), by.
    """
    lines = []
    for (by, dataset), part in table[table["row"] == row].groupby(["by", "dataset"], sort=False):
        for verb, which in (("gains", part["low"] > 0), ("loses", part["high"] < 0)):
            if which.any():
                line = {"dataset": grid.label(dataset), "verb": verb, "groups": part.loc[which, "group"].tolist()}
                lines.append(line | {"of": len(part), "by": by})
    return lines


def popular(grid: Grid, ledger: Ledger, others: Iterable[str] = ("hard", "hard_as_topk")) -> dict[str, pd.DataFrame]:
    """How much of what `topk` has over other rows lies with users whose next item is of the most popular tenth.

    shares: other, dataset, change % with low and high (of that tenth), all (the whole change), share (of it, 0 where
    the whole is no gain); all items ranked.
    """
    rows = []
    for other in others:
        for dataset, pair in _recorded(grid, ledger, "topk", other):
            part = contributions(*pair, ledger, POPULARITY, TENTHS)
            top, whole = part.iloc[-1][["change %", "low", "high"]], part["change %"].sum()
            share = top["change %"] / whole if whole > 0 else 0.0
            rows.append({"other": other, "dataset": grid.label(dataset), **top, "all": whole, "share": share})
    return {"shares": pd.DataFrame(rows)}


def _recorded(
    grid: Grid, ledger: Ledger, after: str, before: str | None = None
) -> Iterator[tuple[str, tuple[Experiment, Experiment]]]:
    """Datasets, and the experiments of a row and of another one, by default its reference, where both have runs."""
    for dataset in grid.real:
        names = after, before or (grid.rows[after].reference if after in grid.rows else None)
        if all(name in grid.rows and grid.runs_on(name, dataset) for name in names):
            pair = Experiment(grid, dataset, names[0]), Experiment(grid, dataset, names[1])
            if paired_seeds(*pair, ledger):
                yield dataset, pair
