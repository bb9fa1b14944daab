"""False negatives: who rejects hidden purchases, what is pushed down by it, and whether they sink."""

from collections.abc import Iterable
from itertools import chain, product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from companion.evidence.comparison import (
    PUSHED,
    RANKED,
    alike_seeds,
    arms,
    changes,
    mechanism,
    over_seeds,
    require_rows,
)
from companion.evidence.grid import Experiment, Grid
from companion.evidence.interventions import BESIDE, answers
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.evidence.record import Record
from companion.findings.changes import POPULARITY, TENTHS, in_groups, labelled, popular
from companion.findings.names import NAMES
from companion.findings.runs import MARK, began_elsewhere
from rodpo_lite.evaluation.statistics import crossed_change, seed_mean

DRIFTS, SELECTION = NAMES["drifts"], NAMES["selection"]
EXCLUSIONS = {"not repeating": ("_all", "_past"), "future purchases": ("_past", "")}  # rows after and before


def _counted(grid: Grid, ledger: Ledger, dataset: str) -> pd.DataFrame:
    """`mechanism` of the rows that start where topk does; InputError where hard, topk or uniform has no run."""
    alike = [name for name, row in grid.rows.items() if row.reference == grid.rows["topk"].reference]
    counted = mechanism(grid, ledger)
    return require_rows(counted[counted["row"].isin(alike)], dataset, ("hard", "topk", "uniform"))


def hits(grid: Grid, ledger: Ledger, dataset: str) -> dict[str, Any]:
    """Means of `mechanism` over seeds by row, in the order of hits on hidden purchases; `k`: the size of the pool."""
    columns = ["hidden", "on_hidden", "validation", "push", PUSHED]
    means = _counted(grid, ledger, dataset).groupby("row")[columns].mean().dropna(subset="hidden")
    settings = Experiment(grid, dataset, "topk").chosen(ledger) or {}
    return means.sort_values("hidden").to_dict("series") | {"k": settings.get("negatives.k", 20)}


def hits_and_shares(grid: Grid, ledger: Ledger, dataset: str) -> pd.DataFrame:
    """`over_seeds` of hits and of the share of the push, in the order of hits."""
    runs = _counted(grid, ledger, dataset)
    named = {"hits per 10,000 draws": "hidden", "share of the push, per 10,000": "on_hidden"}
    hits, shares = (over_seeds(runs, name).set_index("row").assign(what=label) for label, name in named.items())
    hits = hits.sort_values("mean")
    return pd.concat([hits, shares.loc[hits.index]]).reset_index()


def selection(grid: Grid, counted: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`mechanism` of every dataset, a line for each row, mean over its seeds; sweeps are left out."""
    shown = [grid.tier(*experiment) != "C" for experiment in zip(counted["row"], counted["dataset"], strict=True)]
    by_row = counted[shown].drop(columns="seed").groupby(["dataset", "row"], sort=False)
    means = by_row.mean().assign(seeds=by_row.size()).reset_index()
    return {
        dataset: part.drop(columns="dataset").dropna(axis=1, how="all").rename(columns=SELECTION)
        for dataset, part in means.groupby("dataset", sort=False)
    }


def drifts(grid: Grid, ledger: Ledger, dataset: str) -> pd.DataFrame:
    """`over_seeds` of the drift of hidden purchases and of validation items, index (of, row)."""
    runs = _counted(grid, ledger, dataset)
    parts = [over_seeds(runs, column).assign(of=label) for column, label in DRIFTS.items()]
    return pd.concat(parts).set_index(["of", "row"])


def drift(grid: Grid, ledger: Ledger, dataset: str) -> dict[str, Any]:
    """What may be said of `drifts`: whose interval lies below zero, how many above, and rank correlations with hits."""
    table, often = drifts(grid, ledger, dataset), hits(grid, ledger, dataset)["hidden"]
    means = table["mean"].unstack("of").reindex(often.index)
    return {
        "below": table[table["high"] < 0].reset_index(),
        "above": int((table["low"] > 0).sum()),
        "cases": len(table),
        "selectors": len(often),
        "together": {label: spearmanr(often, means[label]).statistic for label in DRIFTS.values()},
        "moved": table.loc["hidden purchases"].loc[["hard", "topk", "uniform"]],
        "validation": table.loc["validation items"].loc[["hard", "topk"]],
        "exceptions": against_the_trend(_counted(grid, ledger, dataset)),
    }


def against_the_trend(counted: pd.DataFrame) -> pd.DataFrame:
    """Rows of a dataset's `mechanism` under which hidden purchases sink more than under `hard`, which hits them so many
    times as often; the rarest first."""
    means = counted.groupby("row")[["drift", "hidden"]].mean()
    rows = means[(means < means.reindex(["hard"]).iloc[0]).all(axis=1)].sort_values("hidden")
    return pd.DataFrame({"row": rows.index, "times": means["hidden"].get("hard", np.nan) / rows["hidden"].to_numpy()})


def pushed(grid: Grid, ledger: Ledger) -> dict[str, pd.DataFrame]:
    """hidden: change in % from `hard` to `topk` of the share of the push that lands on hidden purchases, and of the
    amount, in tier A; validation: how many of 10,000 draws of either reject the user's validation item."""
    means = mechanism(grid, ledger).groupby(["row", "dataset"])[["on_hidden", PUSHED, "validation"]].mean()
    hard, topk = (means.reindex([row], level="row").droplevel("row") for row in ("hard", "topk"))
    both = [dataset for dataset in grid.datasets if dataset in hard.index and dataset in topk.index]
    more = (100 * (topk / hard - 1)).rename(columns={"on_hidden": "share", PUSHED: "amount"})
    rejects = pd.DataFrame({"hard": hard["validation"], "topk": topk["validation"]})
    hidden = more.loc[[name for name in both if name in grid.planted and grid.tier("topk", name) == "A"]]
    validation = rejects.loc[[name for name in both if name in grid.real]]
    return {"hidden": labelled(grid, hidden.reset_index()), "validation": labelled(grid, validation.reset_index())}


def believed(grid: Grid, ledger: Ledger, dataset: str) -> dict[str, Any]:
    """What share of its pairs `rpo` believes to be the wrong way round when it ends, and what share of what it rejects
    is a hidden purchase, in percent: a row for each selector of which every seed is on record."""
    rows = []
    for experiment in grid.experiments([dataset]):
        chosen, files = experiment.chosen(ledger) or {}, experiment.recorded(ledger)
        if chosen.get("loss.name") != "rpo" or set(files) != set(experiment.seeds):
            continue
        curves = [Record.read(ledger.folder / file).curve for file in files.values()]
        wrong = seed_mean(np.array([100 * (1 - curve[-1]["right_share"]) for curve in curves]))
        hidden = 100 * np.mean([line["planted_rate"] for curve in curves for line in curve])
        rows.append({"row": chosen["negatives.name"], "hidden": hidden} | vars(wrong))
    return {"dataset": grid.label(dataset), "rows": rows}


def for_whom_popular(grid: Grid, ledger: Ledger, dataset: str) -> pd.DataFrame:
    """What taking popularity off the scores changes for whom: test NDCG@5 of PENALISED, by protocol, of the `popular`
    tenth of the users, by their next items, of the `others` and of `all`; empty unless every seed of all is on record.
    All runs of a seed began at the same weights, where there are such runs."""
    names = list(dict.fromkeys(chain(*PENALISED.values())))
    files = alike_seeds([Experiment(grid, dataset, name) for name in names], ledger)
    columns = ["what", "protocol", "users", "change %", "low", "high"]
    if len(files) < len(grid.seeds_of(names[0], dataset)):
        return pd.DataFrame(columns=columns)
    tenths, lines = in_groups(ledger.users(dataset)[POPULARITY], TENTHS), []
    top = (tenths == tenths.max()).to_numpy()
    groups = {"popular": top, "others": ~top, "all": np.ones_like(top)}
    for (label, pair), (protocol, column) in product(PENALISED.items(), PROTOCOLS.items()):
        after, before = (names.index(name) for name in pair)
        first, second = arms([(of_seed[after], of_seed[before]) for of_seed in files], ledger, column)
        for users, group in groups.items():
            one = crossed_change(first[:, group], second[:, group])
            lines.append((label, protocol, users, one.estimate, one.low, one.high))
    return pd.DataFrame(lines, columns=columns)


PENALISED = {  # rows after and before
    "topk over hard": ("cause.topk", "cause.hard"),
    "topk over hard, both by s - log n": ("cause.topk_less_popular", "cause.hard_less_popular"),
    "hard by s - log n over hard": ("cause.hard_less_popular", "cause.hard"),
    "topk by s - log n over topk": ("cause.topk_less_popular", "cause.topk"),
}


def over_the_reference(grid: Grid, ledger: Ledger, dataset: str, rows: list[str]) -> pd.DataFrame:
    """Change of test NDCG@5 over `fused`, all items ranked; rows that `began_elsewhere` are marked."""
    elsewhere = began_elsewhere(grid, ledger, [dataset])
    pairs = {f"{name} {MARK}" if (dataset, name) in elsewhere else name: (name, "fused") for name in rows}
    table = changes(grid, pairs, ledger, [dataset], [RANKED], partial=True)
    return table.rename(columns={"what": "row"}).drop(columns=["dataset", "after", "protocol"])


def gaps(grid: Grid, ledger: Ledger, dataset: str) -> pd.DataFrame:
    """`changes` of topk over hard and none, all items ranked, in the order of the share that is hidden."""
    shares = {grid.source(dataset): 0} | {name: planted.share for name, planted in grid.planted.items()}
    table = changes(grid, [("topk", "hard"), ("topk", "none")], ledger, shares, [RANKED], partial=True)
    table = table.drop(columns=["what", "protocol"])
    return table.assign(**{"hidden, %": [100 * shares[name] for name in table["dataset"]]}).sort_values("hidden, %")


def as_more_is_hidden(gaps: pd.DataFrame, counted: pd.DataFrame) -> dict[str, Any]:
    """What becomes of `gaps` over `hard` as a larger share is hidden, and of its hits in 10,000 draws, by `mechanism`.

    trend: the slope, in percentage points for every tenth that is hidden, of a line through the changes, each weighed
    by its interval, as if they were independent.
    """
    if gaps["dataset"].nunique() < 2:
        return {"gaps": []}
    often = counted[counted["row"] == "hard"].groupby("dataset")["hidden"].mean()
    shares, change = gaps["hidden, %"].to_numpy(float), gaps["change %"].to_numpy(float)
    error = (gaps["high"] - gaps["low"]).to_numpy(float) / (2 * 1.96)
    (slope, _), covariance = np.polyfit(shares / 10, change, 1, w=1 / error, cov="unscaled")
    half = 1.96 * float(np.sqrt(covariance[0, 0]))
    rows = gaps.assign(share=shares, hits=gaps["dataset"].map(often))[["share", "seeds", "hits"]]
    return {"gaps": rows, "trend": {"estimate": slope, "low": slope - half, "high": slope + half}}


def out_of_scale(values: pd.Series, times: float = 4) -> list[str]:
    """Names whose values are beyond so many times the median distance from zero: they would flatten the others."""
    return values[values.abs() > times * values.abs().median()].index.tolist()


def exclusions(grid: Grid, ledger: Ledger, rows: Iterable[str] = ("uniform", "hard", "topk")) -> pd.DataFrame:
    """`changes` from each rule of what is never rejected to the next, by the steps of EXCLUSIONS."""
    parts = [
        changes(grid, {name: (name + after, name + before) for name in rows}, ledger, partial=True).assign(step=step)
        for step, (after, before) in EXCLUSIONS.items()
    ]
    table = pd.concat(parts).rename(columns={"what": "row"})
    return table[["dataset", "row", "step", "protocol", "seeds", "change %", "low", "high"]]


def repeating(grid: Grid, ledger: Ledger, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of `exclusions` those of `hard` and `topk`, and `past`: draws, in %, on what the user has if all is allowed."""
    table = table[table["row"].isin(["hard", "topk"])].sort_values("row", kind="stable")
    spent = mechanism(grid, ledger).groupby(["dataset", "row"])["past"].mean()
    past = [spent.get((line.dataset, f"{line.row}_all"), np.nan) for line in table.itertuples()]
    return {"changes": labelled(grid, table.assign(past=past))}


QUESTIONS = ("spared", "popular", "loss")  # interventions: why the pool beats the hardest item
MEMORY = ("memory", "training", "rivals")  # interventions: whether the pool is good against memorising
CAUSES = {  # the question, and what is changed
    "spared": ("spared", "hidden purchases spared"),
    "hardest": ("popular", "the hardest by s - log n"),
    "losses": ("loss", None),
    "stopped": ("training", "stopped early"),
}
NULLS = {"skipping": ("rank_window", "topk"), "later": ("topk", "topk_past")}  # what should help, were they the cause


def because(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """What was shown of the reason why, and what not: the push, what sparing and hiding does, two that should help.

    hidden: of `pushed`; spared, hardest, losses, stopped: members of the interventions in CAUSES that decide;
    believes: of `believed`; trend: of `as_more_is_hidden`, of the dataset of which most shares are hidden, None where
    there is one share alone; skipping, later: how many of NULLS are above and below, all items ranked, and of how many;
    lies: in how many of `changes.popular` more than half of the lead over the hardest item lies there.
    """
    sources = pd.Series({name: grid.source(name) for name in grid.planted})
    most = sources.value_counts().idxmax() if len(sources) else None
    table = gaps(grid, ledger, most) if most else pd.DataFrame()
    table = table[table["before"] == "hard"] if len(table) else table
    known = len(table) and table["dataset"].nunique() > 1
    found = {"trend": as_more_is_hidden(table, mechanism(grid, ledger)).get("trend") if known else None}
    for name, pair in NULLS.items():
        part = changes(grid, [pair], ledger, protocols=[RANKED])
        sure = {"above": int((part["low"] > 0).sum()), "below": int((part["high"] < 0).sum()), "of": len(part)}
        found[name] = sure
    shares = popular(grid, ledger)["shares"]
    found["lies"] = {"of": len(shares), "most": int((shares["share"] > 0.5).sum())}
    asked = answers(grid, ledger, {question for question, _ in CAUSES.values()})
    for name, (question, what) in CAUSES.items():
        members = asked[question]["members"]
        found[name] = members[
            (members["verdict"] != BESIDE) & members["what"].isin([what] if what else members["what"])
        ]
    hidden = [name for name, one in grid.planted.items() if one.tier == "A"]
    found["believes"] = [row for name in hidden for row in believed(grid, ledger, name)["rows"]]
    return pushed(grid, ledger) | found
