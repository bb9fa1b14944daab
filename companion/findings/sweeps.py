"""One setting at a time, around those that were chosen for `topk`: the rows of the grid called `setting=value`."""

from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from companion.evidence.comparison import RANKED, changes, quality
from companion.evidence.grid import CHOSEN, Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.findings.changes import labelled, texts
from companion.findings.names import NAMES
from companion.findings.runs import MARK, began_elsewhere
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.files import read_json
from rodpo_lite.settings import build, read_preset

DATASET = "toys"
SETTINGS = NAMES["settings"]  # by what a row's name begins with
AS_CHOSEN = "topk", "hard_as_topk"
OWN = "topk", "towers_topk"  # the pool on our own bases
TUNED = ("toys", "one tower", "cause.topk"), ("toys-timed", "HM4SR", "hm4sr_topk")
CANDIDATES = {  # for one default; rows for each of TUNED
    "recommended": ("cause.topk", "hm4sr_recommended"),
    "share": ("cause.share", "hm4sr_share"),
    "gentle": ("cause.gentle", "hm4sr_topk"),
}
DROPOUT = "training.dropout"


def against_topk(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `topk` as it was chosen to rows of sweeps of two values or more."""
    table = _changes(grid, [(name, "topk") for name in _varied(grid, "hard.") + _varied(grid)], ledger)
    names = table.pop("after").str.extract(r"(?P<selector>hard)?\.?(?P<of>\w+)=(?P<value>.+)")
    names = names.assign(selector=names["selector"].fillna("topk"), of=names["of"].map(SETTINGS))
    table = names[["of", "selector"]].assign(value=names["value"].astype(float)).join(table)
    table = table[table.groupby("of")["value"].transform("nunique") > 1].sort_values("value", kind="stable")
    order = table["of"].map(list(SETTINGS.values()).index).sort_values(kind="stable").index
    return table.loc[order].drop(columns="before")


def over_hard(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change of test NDCG@5, all items ranked, from `hard` to `topk` at the same settings, the largest first."""
    chosen = Experiment(grid, DATASET, AS_CHOSEN[0]).chosen(ledger)
    others = [row for row in _varied(grid) if Experiment(grid, DATASET, row).chosen(ledger) != chosen]
    table = _changes(grid, [*((row, f"hard.{row}") for row in others), AS_CHOSEN], ledger)
    table.insert(0, "setting", ["as chosen" if row == AS_CHOSEN[0] else _label(row) for row in table["after"]])
    return table.sort_values("change %", ascending=False).drop(columns=["after", "before"])


def strongest(apart: pd.DataFrame, swept: pd.DataFrame, short: pd.DataFrame) -> dict[str, Any]:
    """Settings of `over_hard`, whose change it is by `against_topk` where both have it, and the short reference."""
    both = swept[swept["of"].isin(swept.loc[swept["selector"] == "hard", "of"])].groupby("selector")["change %"]
    ranges = {name: (values.min(), values.max()) for name, values in both}
    return {"settings": apart, "ranges": ranges, "short": short}


def from_a_short_reference(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Change from other rows to `topk` where the reference has not converged."""
    table = _changes(grid, [("short_topk", "short_hard"), ("short_topk", "short_none")], ledger)
    return table.assign(before=table["before"].str.removeprefix("short_")).drop(columns="after")


def tried(trials: pd.DataFrame, grid: Grid) -> dict[str, Any]:
    """What may be said of `tuning.trials`: how many, how many above their reference, and medians by the anchor.

    together: the rank correlation of K and β; elsewhere: those that began at a reference that was trained once more.
    """
    if trials.empty:
        return {"trials": 0}
    preference = trials[trials["row"] != "none"]
    anchor, change = preference["training.lambda_ce"], preference["change %"]
    settings = preference[["negatives.k", "loss.beta"]].dropna().drop_duplicates()
    return {
        "trials": len(trials),
        "above": (trials["change %"] > 0).sum(),
        "with_anchor": {"trials": (anchor > 0).sum(), "median": change[anchor > 0].median()},
        "without": {"trials": (anchor == 0).sum(), "median": change[anchor == 0].median()},
        "together": spearmanr(settings["negatives.k"], settings["loss.beta"]).statistic,
        "elsewhere": labelled(grid, trials[trials["start %"] != 0]),
        "mark": MARK,
    }


def overruled(grid: Grid, ledger: Ledger) -> list[dict[str, Any]]:
    """Reported settings that are not those of the chosen trial, because the row sets them: dataset, row, key, both."""
    found = []
    for experiment in grid.experiments(grid.known):
        if experiment.tuned != experiment or not (path := experiment.trials_file(ledger)).exists():
            continue
        kept, ran = read_json(path), experiment.chosen(ledger)
        for key, value in kept["trials"][kept[CHOSEN]]["settings"].items():
            if ran[key] != value:
                where = {"dataset": grid.label(experiment.dataset), "row": experiment.name}
                found.append(where | {"key": key, "chosen": value, "ran": ran[key]})
    return found


def chosen(trials: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of `tuning.trials` those that were chosen, by dataset; rows that began at another reference are marked."""
    trials = trials[trials["chosen"].astype(bool)]
    trials = trials.assign(**{DROPOUT: trials[DROPOUT].map({True: "yes", False: "no"})})
    rows = [f"{row} {MARK}" if start else row for row, start in zip(trials["row"], trials["start %"], strict=True)]
    parts = trials.assign(row=rows).groupby("dataset")
    return {dataset: part.drop(columns=["chosen", "dataset", "start %"]) for dataset, part in parts}


def unknown(grid: Grid, choices: list[tuple[str, str, tuple[str, str] | None]], ledger: Ledger) -> pd.DataFrame:
    """What each choice that we do not know changes of test NDCG@5, all items ranked: choice, what is taken, pair."""
    columns = ["not known to us", "taken here; the other choice", "what the other changes, %"]
    table = pd.DataFrame(choices, columns=columns)
    pairs = table[columns[2]].dropna()
    effects = labelled(grid, changes(grid, dict(pairs), ledger, protocols=[RANKED]))
    effects["text"] = effects["dataset"] + " " + pd.Series(texts(effects), dtype=str)
    moved = effects.groupby("what")["text"].agg("; ".join).reindex(pairs.index).fillna("not run yet")
    return table.assign(**{columns[2]: moved.reindex(table.index).fillna("shown above")})


def on_reported_seeds(trials: pd.DataFrame, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Validation NDCG@5 of the chosen setting against its reference, rows that `began_elsewhere` left out."""
    validation = quality(grid, ledger).set_index(["dataset", "row"])["validation"]
    chosen = trials[trials["chosen"].astype(bool)].set_index(["dataset", "row"])["change %"]
    chosen = chosen[chosen.index.isin(validation.index) & ~chosen.index.isin(began_elsewhere(grid, ledger))]
    again = [100 * (validation[key] / validation[key[0], grid.rows[key[1]].reference] - 1) for key in chosen.index]
    return pd.DataFrame({"as tuned, %": chosen, "reported seeds, %": again})


def recommended(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """What may be said of `--preset recommended`, by the rule beside the rows in workflow/grid.yaml.

    settings; of how many searches on our own bases, and same, in how many they chose these, to a tenth; lines, a row
    for each candidate, base and protocol with its change of validation and of test NDCG@5 from what was tuned there, in
    percent; default, the candidate that the rule chooses, None while one has not run; enough, whether none of its
    changes is a loss for sure.
    """
    preset = build(AlignmentConfig, read_preset("recommended"))
    settings = {"negatives.k": preset.negatives.k, "loss.beta": preset.loss.beta}
    settings |= {
        "training.learning_rate": preset.training.learning_rate, "training.lambda_ce": preset.training.lambda_ce,
    }  # fmt: skip
    searched = [Experiment(grid, name, row).chosen(ledger) for row in OWN for name in grid.real]
    searched = [one for one in searched if one]
    same = [all(abs(one[key] - value) <= 0.1 * value for key, value in settings.items()) for one in searched]
    lines = _candidates(grid, ledger)
    complete = len(lines) == len(CANDIDATES) * len(TUNED) * len(PROTOCOLS)
    default = lines.groupby("candidate", sort=False)["validation %"].min().idxmax() if complete else None
    losses = lines[(lines["candidate"] == default) & (lines["high"] < 0)]
    told = {"lines": lines, "default": default, "enough": losses.empty}
    return {"settings": settings, "same": sum(same), "of": len(same)} | told


def _candidates(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    means, rows = quality(grid, ledger).set_index(["dataset", "row"]), []
    for name, candidates in CANDIDATES.items():
        for (dataset, base, tuned), row in zip(TUNED, candidates, strict=True):
            test = changes(grid, [(row, tuned)], ledger, [dataset]).set_index("protocol")
            for protocol in test.index:
                column = "validation" if protocol == RANKED else "validation_masked"
                validation = 100 * (means.loc[(dataset, row), column] / means.loc[(dataset, tuned), column] - 1)
                limits = test.loc[protocol, ["change %", "low", "high"]]
                rows.append((name, base, grid.label(dataset), protocol, validation, *limits))
    columns = ["candidate", "base", "dataset", "protocol", "validation %", "change %", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _varied(grid: Grid, prefix: str = "") -> list[str]:
    return [name for name in grid.rows if name.partition("=")[0] in {f"{prefix}{setting}" for setting in SETTINGS}]


def _label(name: str) -> str:
    setting, value = name.split("=")
    return f"{SETTINGS[setting]} {value}" if setting != "dropout" else ("no dropout", "dropout")[int(value)]


def _changes(grid: Grid, pairs: list[tuple[str, str]], ledger: Ledger) -> pd.DataFrame:
    return changes(grid, pairs, ledger, [DATASET], [RANKED]).drop(columns=["dataset", "what", "protocol"])
