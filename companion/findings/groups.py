"""For whom a change is: what groups of users, by popularity of the next item or length of the history, add to it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from companion.evidence.comparison import arms, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings.story import listed
from rodpo_lite.evaluation.statistics import Interval, crossed_change, signed

POPULARITY, TENTHS = "popularity", 10
SHOWN = [(row, POPULARITY, TENTHS) for row in ("topk", "hard", "none")] + [("topk", "history", 5)]


def contributions(
    after: Experiment, before: Experiment, ledger: Ledger, by: str, groups: int = 10, column: str = "rank"
) -> pd.DataFrame:
    """What each group of users adds to the change: group, users, from, to, change %, low, high.

    by: popularity (of the test item) or history (items before it); groups of about as many users each. Percent are of
    the mean over all users before, so that contributions add up to the whole change.
    """
    first, second = arms(paired_seeds(after, before, ledger), ledger, column)
    values = ledger.users(after.dataset)[by]
    group = pd.qcut(values, groups, labels=False, duplicates="drop")
    found = []
    for number, members in values.groupby(group):
        inside = np.zeros(len(values), bool)
        inside[members.index] = True
        one = crossed_change(first, np.where(inside, second, first))
        found.append((int(number), len(members), members.min(), members.max(), one.estimate, one.low, one.high))
    return pd.DataFrame(found, columns=["group", "users", "from", "to", "change %", "low", "high"])


def over_the_reference(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`contributions` to the change of test NDCG@5 over the reference, all items ranked, for each of SHOWN.

    Columns row, by, dataset, group (from 1, the lowest), users, from, to, change %, low, high.
    """
    found = []
    for name, by, count in SHOWN:
        for dataset, experiments in _recorded(grid, ledger, name):
            part = contributions(*experiments, ledger, by, count)
            found.append(part.assign(row=name, by=by, dataset=dataset, group=part["group"] + 1))
    columns = ["row", "by", "dataset", "group", "users", "from", "to", "change %", "low", "high"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def told(grid: Grid, found: pd.DataFrame, row: str = "topk") -> str:
    """Groups of `over_the_reference` whose interval leaves zero out under a row, as a list; empty if there are none."""
    lines = []
    for (by, dataset), part in found[found["row"] == row].groupby(["by", "dataset"], sort=False):
        for kind, which in (("gains", part["low"] > 0), ("loses", part["high"] < 0)):
            if which.any():
                numbers = listed(map(str, part.loc[which, "group"]))
                groups = f"group{'s' if which.sum() > 1 else ''} {numbers} of {len(part)} by {by}"
                lines.append(f"- **{grid.label(dataset)}** {kind} in {groups}.")
    return "\n".join(lines)


def with_the_most_popular(grid: Grid, ledger: Ledger, others: Iterable[str] = ("hard", "hard_as_topk")) -> str:
    """How much of what `topk` has over other rows lies with users whose next item is of the most popular tenth.

    In words and a list, all items ranked; empty where no two rows are on record.
    """
    lines, shares = [], []
    for other in others:
        numbers = []
        for dataset, experiments in _recorded(grid, ledger, "topk", other):
            part = contributions(*experiments, ledger, POPULARITY, TENTHS)
            top, whole = part.iloc[-1], part["change %"].sum()
            shares.append(top["change %"] / whole if whole > 0 else 0.0)
            of_top = Interval(*top[["change %", "low", "high"]]).text(1)
            numbers.append(f"{of_top} of {signed(whole, 1)}\u00a0% on {grid.label(dataset)}")
        if numbers:
            which = ", which has its settings," if other.endswith("_as_topk") else ","
            lines.append(f"- over `{other}`{which} {listed(numbers)}")
    if not lines:
        return ""
    most = sum(share > 0.5 for share in shares)
    asked = (
        "How much of the gap comes from the tenth of the users whose next item is the most popular? Of what `topk` has"
    )
    answer = (
        f"In {most} of {len(shares)} comparisons it is more than half. This was looked at when the verdicts were known."
    )
    return "\n".join([asked, "", *lines, "", answer])


def _recorded(grid: Grid, ledger: Ledger, after: str, before: str | None = None):
    """Datasets, and the experiments of a row and of another one, by default its reference, where both have runs."""
    for dataset in grid.real:
        names = after, before or (grid.rows[after].reference if after in grid.rows else None)
        if all(name in grid.rows and grid.runs_on(name, dataset) for name in names):
            experiments = tuple(Experiment(grid, dataset, name) for name in names)
            if paired_seeds(*experiments, ledger):
                yield dataset, experiments
