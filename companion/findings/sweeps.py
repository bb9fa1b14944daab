"""One setting at a time, around those that were chosen for `topk`: the rows of the grid called `setting=value`."""

import pandas as pd

from companion.evidence.comparison import changes, complete_pairs
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings.story import listed
from rodpo_lite.evaluation.statistics import Interval, signed

DATASET = "toys"
SETTINGS = {  # what a row's name begins with
    "k": "pool size K",
    "beta": "β",
    "lambda": "weight of the anchor",
    "rate": "learning rate",
    "n": "negatives a position",
    "dropout": "dropout (1 is on)",
}
AS_CHOSEN = "topk", "hard_as_topk"
SHORT = "short_topk", ("short_hard", "short_none")  # from a reference trained a third as long


def against_topk(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `topk` as it was chosen to each row of a sweep.

    Columns of (the setting), selector (topk or hard), value, seeds, change %, low, high, in
    the order of the values; a setting of which one value is on record is left out.
    """
    found = _changes(grid, [(name, "topk") for name in _varied(grid, "hard.") + _varied(grid)], ledger)
    name = found["after"].str.removeprefix("hard.").str.split("=")
    found.insert(0, "of", name.str[0].map(SETTINGS))
    found.insert(1, "selector", ["hard" if row.startswith("hard.") else "topk" for row in found["after"]])
    found.insert(2, "value", name.str[1].astype(float))
    found = found[found.groupby("of")["value"].transform("nunique") > 1].sort_values("value", kind="stable")
    place = found["of"].map(list(SETTINGS.values()).index)
    return found.iloc[place.argsort(kind="stable")].drop(columns=["after", "before"])


def over_hard(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `hard` to `topk` at the same settings, the largest first.

    Columns setting (in words), seeds, change %, low, high. What was chosen stands once, as such.
    """
    chosen = Experiment(grid, DATASET, AS_CHOSEN[0]).chosen(ledger)
    pairs = {name: (f"hard.{name}", _told(name)) for name in _varied(grid) if f"hard.{name}" in grid.rows}
    pairs = {row: other for row, other in pairs.items() if Experiment(grid, DATASET, row).chosen(ledger) != chosen}
    if AS_CHOSEN[1] in grid.rows:
        pairs[AS_CHOSEN[0]] = AS_CHOSEN[1], "as chosen"
    found = _changes(grid, [(row, other) for row, (other, _) in pairs.items()], ledger)
    found.insert(0, "setting", found["after"].map({row: told for row, (_, told) in pairs.items()}))
    return found.sort_values("change %", ascending=False).drop(columns=["after", "before"])


def strongest(apart: pd.DataFrame, swept: pd.DataFrame) -> str:
    """The range of `over_hard`, and whose change it is by `against_topk`, in words."""
    most, least = (
        f"{Interval(*row[['change %', 'low', 'high']]).text(1)} at *{row['setting']}*"
        for _, row in apart.iloc[[0, -1]].iterrows()
    )
    both = swept[swept["of"].isin(swept.loc[swept["selector"] == "hard", "of"])].groupby("selector")["change %"]
    ranges = [
        f"`{name}` changes by {signed(both.min()[name], 1)} to {signed(both.max()[name], 1)} %"
        for name in ("topk", "hard")
    ]
    return (
        f"At {(apart['low'] > 0).sum()} of {len(apart)} settings the interval lies above zero; nothing is corrected "
        f"for so many. The change from `hard` to `topk` runs from {least} to {most}. Whose it is, the sweeps above "
        f"tell, where both are held against `topk` as chosen: in those that have both, {listed(ranges)}."
    )


def from_a_short_reference(grid: Grid, ledger: Ledger) -> str:
    """What becomes of `topk` from a reference that has not converged, in words; empty where that has not run."""
    after, others = SHORT
    found = _changes(grid, [(after, other) for other in others if {after, other} <= grid.rows.keys()], ledger)
    told = [
        f"over `{row['before'].removeprefix('short_')}` {Interval(*row[['change %', 'low', 'high']]).text(1)}"
        for _, row in found.iterrows()
    ]
    if not told:
        return ""
    return (
        "From a reference that was trained a third as long, each row with the settings that were chosen for it from "
        f"the full one, `topk` changes test NDCG@5 {listed(told)}."
    )


def _varied(grid: Grid, prefix: str = "") -> list[str]:
    return [name for name in grid.rows if name.partition("=")[0] in {f"{prefix}{setting}" for setting in SETTINGS}]


def _told(name: str) -> str:
    setting, value = name.split("=")
    return f"{SETTINGS[setting]} {value}" if setting != "dropout" else ("no dropout", "dropout")[int(value)]


def _changes(grid: Grid, pairs: list[tuple[str, str]], ledger: Ledger) -> pd.DataFrame:
    found = complete_pairs(grid, changes(grid, pairs, ledger, [DATASET]))
    return found[found["protocol"] == "all items"].drop(columns=["dataset", "protocol"])
