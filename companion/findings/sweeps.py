"""One setting at a time, around those that were chosen for `topk`: the rows of the grid called `setting=value`."""

from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from companion.evidence.comparison import changes, complete_pairs, quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings.runs import MARK, began_elsewhere
from rodpo_lite.evaluation.statistics import Interval

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
    table = _changes(grid, [(name, "topk") for name in _varied(grid, "hard.") + _varied(grid)], ledger)
    name = table["after"].str.removeprefix("hard.").str.split("=")
    table.insert(0, "of", name.str[0].map(SETTINGS))
    table.insert(1, "selector", ["hard" if row.startswith("hard.") else "topk" for row in table["after"]])
    table.insert(2, "value", name.str[1].astype(float))
    table = table[table.groupby("of")["value"].transform("nunique") > 1].sort_values("value", kind="stable")
    place = table["of"].map(list(SETTINGS.values()).index)
    return table.iloc[place.argsort(kind="stable")].drop(columns=["after", "before"])


def over_hard(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `hard` to `topk` at the same settings, the largest first.

    Columns setting (in words), seeds, change %, low, high. What was chosen comes once, as such.
    """
    chosen = Experiment(grid, DATASET, AS_CHOSEN[0]).chosen(ledger)
    pairs = {name: (f"hard.{name}", _label(name)) for name in _varied(grid) if f"hard.{name}" in grid.rows}
    pairs = {row: other for row, other in pairs.items() if Experiment(grid, DATASET, row).chosen(ledger) != chosen}
    if AS_CHOSEN[1] in grid.rows:
        pairs[AS_CHOSEN[0]] = AS_CHOSEN[1], "as chosen"
    table = _changes(grid, [(row, other) for row, (other, _) in pairs.items()], ledger)
    table.insert(0, "setting", table["after"].map({row: label for row, (_, label) in pairs.items()}))
    return table.sort_values("change %", ascending=False).drop(columns=["after", "before"])


def strongest(apart: pd.DataFrame, swept: pd.DataFrame, short: pd.DataFrame) -> dict[str, Any]:
    """Settings of `over_hard`, and whose change it is by `against_topk`: the range for topk and for hard, where both
    have the setting; short: `from_a_short_reference`."""
    both = swept[swept["of"].isin(swept.loc[swept["selector"] == "hard", "of"])].groupby("selector")["change %"]
    ranges = {name: (values.min(), values.max()) for name, values in both}
    return {"settings": apart, "ranges": ranges, "short": short}


def from_a_short_reference(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change from other rows to `topk` where the reference has not converged: before, seeds, change %, low, high."""
    after, others = SHORT
    table = _changes(grid, [(after, other) for other in others if {after, other} <= grid.rows.keys()], ledger)
    return table.assign(before=table["before"].str.removeprefix("short_")).drop(columns="after")


def tried(trials: pd.DataFrame, grid: Grid) -> dict[str, Any]:
    """What may be said of `tuning.trials`: how many, how many above their reference, and medians by the anchor.

    together: the rank correlation of K and β over the settings with a pool; starts: where trials began at a reference
    that was trained once more, and by how much its validation differs from the one on record, %.
    """
    if trials.empty:
        return {"trials": 0}
    preference = trials[trials["row"] != "none"]
    anchored, free = (
        preference.loc[which, "change %"]
        for which in (preference["training.lambda_ce"] > 0, preference["training.lambda_ce"] == 0)
    )
    settings = preference.dropna(subset=["negatives.k", "loss.beta"]).drop_duplicates(["negatives.k", "loss.beta"])
    elsewhere = trials[trials["start %"] != 0].groupby("dataset", sort=False)["start %"]
    return {
        "trials": len(trials),
        "above": (trials["change %"] > 0).sum(),
        "with_anchor": {"trials": len(anchored), "median": anchored.median()},
        "without": {"trials": len(free), "median": free.median()},
        "together": spearmanr(settings["negatives.k"], settings["loss.beta"]).statistic,
        "elsewhere": (trials["start %"] != 0).sum(),
        "starts": [{"dataset": grid.label(dataset), "change": start.iloc[0]} for dataset, start in elsewhere],
        "mark": MARK,
    }


def chosen(trials: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of `tuning.trials` those that were chosen, by dataset; rows that began at another reference are marked."""
    trials = trials[trials["chosen"].astype(bool)]
    rows = [f"{row} {MARK}" if start else row for row, start in zip(trials["row"], trials["start %"], strict=True)]
    parts = trials.assign(row=rows).groupby("dataset")
    return {dataset: part.drop(columns=["chosen", "dataset", "start %"]) for dataset, part in parts}


def unknown(grid: Grid, choices: list[tuple[str, str, tuple[str, str] | None]], ledger: Ledger) -> pd.DataFrame:
    """What each choice that we do not know changes of test NDCG@5, all items ranked: choice, what is taken, pair."""
    pairs = [pair for *_, pair in choices if pair]
    effects = complete_pairs(grid, changes(grid, pairs, ledger, grid.real))
    lines: dict[tuple[str, str] | None, list[str]] = {}
    for row in effects[effects["protocol"] == "all items"].to_dict("records"):
        text = Interval(row["change %"], row["low"], row["high"]).text(1, "")
        lines.setdefault((row["after"], row["before"]), []).append(f"{grid.label(row['dataset'])} {text}")
    moved = ["shown above" if pair is None else "; ".join(lines.get(pair, [])) or "not run yet" for *_, pair in choices]
    columns = ["not known to us", "taken here; the other choice", "what the other changes, %"]
    rows = [(choice, taken, text) for (choice, taken, _), text in zip(choices, moved, strict=True)]
    return pd.DataFrame(rows, columns=columns)


def on_reported_seeds(trials: pd.DataFrame, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Validation NDCG@5 of the chosen setting against its reference, %: on the tuning seed, on the reported seeds.

    Rows whose runs began at another reference than the one on record are left out.
    """
    validation = quality(grid, ledger).set_index(["dataset", "row"])["validation"]
    chosen = trials[trials["chosen"].astype(bool)].set_index(["dataset", "row"])["change %"]
    chosen = chosen[chosen.index.isin(validation.index) & ~chosen.index.isin(began_elsewhere(grid, ledger))]
    again = [100 * (validation[key] / validation[key[0], grid.rows[key[1]].reference] - 1) for key in chosen.index]
    return pd.DataFrame({"as tuned, %": chosen, "reported seeds, %": again})


def _varied(grid: Grid, prefix: str = "") -> list[str]:
    return [name for name in grid.rows if name.partition("=")[0] in {f"{prefix}{setting}" for setting in SETTINGS}]


def _label(name: str) -> str:
    setting, value = name.split("=")
    return f"{SETTINGS[setting]} {value}" if setting != "dropout" else ("no dropout", "dropout")[int(value)]


def _changes(grid: Grid, pairs: list[tuple[str, str]], ledger: Ledger) -> pd.DataFrame:
    table = complete_pairs(grid, changes(grid, pairs, ledger, [DATASET]))
    return table[table["protocol"] == "all items"].drop(columns=["dataset", "protocol"])
