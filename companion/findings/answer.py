"""The answer, first: what the first page says in a few sentences, counted over datasets, bases and protocols."""

from typing import Any

import numpy as np
import pandas as pd

from companion.evidence.comparison import changes, given_up, quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.evidence.tuning import trials
from companion.findings.bases import as_good
from rodpo_lite.files import read_json

BASES = {"fused": "", "towers": "towers_"}  # references, and what the names of their alignments begin with

THEIRS = {  # what the pool is held against on HM4SR, and the rows
    "over its reference": ("hm4sr_topk", "hm4sr"),
    "over more training": ("hm4sr_topk", "hm4sr_none"),
    "over any item": ("hm4sr_topk", "hm4sr_uniform"),
    "over the hardest item": ("hm4sr_topk", "hm4sr_hard"),
}

WIDER = {  # the same on one tower, after the wider search of the second edition
    "over its reference": ("fused_topk", "cause"),
    "over any item": ("fused_topk", "fused_uniform"),
    "over the hardest item": ("fused_topk", "fused_hard"),
}


def answer(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """Facts for the sentences of `answer.md.j2`; a comparison is one of a dataset, a base and a protocol.

    hard, pool, gap, any, mixture: `question` of the hardest item and of the pool over the reference, of the pool over
    the hardest item and over any item, and of the mixture over none. refused: seeds in which `hard` validates no better
    than its reference. left, kept: gap and pool where the reference may stay if it validates better. base, dropped: the
    least and the largest change by the other base, and by dropping the history. use: the settings that were chosen for
    the pool. theirs: `on_their_base`. wider: `searched_wider`. plainer: `as_good`.
    """
    hard = _compared(grid, ledger, "hard", "")
    if hard.empty:
        return {"hard": _tally(hard)}
    stays = {"or_reference": True}
    gap, left, pool, kept, any_item = (
        question(grid, _compared(grid, ledger, "topk", other, **options))
        for other, options in (("hard", {}), ("hard", stays), ("", {}), ("", stays), ("uniform", {}))
    )
    base = changes(grid, [("towers", "fused")], ledger)
    refused = [(given_up(one, ledger), len(one.seeds)) for one in _experiments(grid, hard["after"], hard["dataset"])]
    tests = quality(grid, ledger).query("row in @BASES and dataset in @grid.real")
    dropped = 100 * (tests["test_masked"] / tests["test"] - 1)
    return {
        "hard": _tally(hard) | {"refused": sum(times for times, _ in refused), "seeds": sum(of for _, of in refused)},
        "gap": gap | {"left": left},
        "pool": pool | {"kept": kept},
        "any": any_item,
        "mixture": mixture(grid, ledger),
        "base": {"least": base["change %"].min(), "most": base["change %"].max()},
        "dropped": {"least": dropped.min(), "most": dropped.max()},
        "use": _settings(grid, ledger),
        "theirs": on_their_base(grid, ledger),
        "wider": searched_wider(grid, ledger),
        "plainer": as_good(grid, ledger),
    }


def over_their_base(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`changes` of the pool on HM4SR, which is likely the paper's base, where all seeds are on record."""
    return changes(grid, THEIRS, ledger, grid.known)


def searched_wider(grid: Grid, ledger: Ledger) -> list[dict[str, Any]]:
    """`changes` of WIDER on every dataset where they have run, a row each, for `wider.md.j2`."""
    table = changes(grid, WIDER, ledger)
    return table.assign(dataset=table["dataset"].map(grid.label)).to_dict("records")


def by_the_rule(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`over_their_base` over the hardest item alone, where the reference may stay."""
    against = "over the hardest item"
    return changes(grid, {against: THEIRS[against]}, ledger, grid.known, or_reference=True)


def on_their_base(grid: Grid, ledger: Ledger) -> list[dict[str, Any]]:
    """Facts for `theirs.md.j2` and `waiting.md.j2`, by dataset: its name, lines (of `over_their_base`), what was chosen
    for the pool, of how many items, whether the paper's mixture has run, and `waiting`, datasets that have not."""
    found, declared = [], [name for name in grid.known if grid.runs_on("hm4sr_topk", name)]
    for dataset, part in over_their_base(grid, ledger).groupby("dataset", sort=False):
        items = ledger.records.loc[ledger.records["dataset"] == dataset, "n_items"].iloc[0]
        chosen = Experiment(grid, dataset, "hm4sr_topk").chosen(ledger)
        mixture = bool(Experiment(grid, dataset, "hm4sr_topk_on_moe").recorded(ledger))
        facts = {"dataset": grid.label(dataset, whole=False), "chosen": chosen, "n_items": items, "mixture": mixture}
        found.append(facts | {"lines": part.to_dict("records")})
        declared.remove(dataset)
    return [one | {"waiting": [grid.label(name) for name in declared]} for one in found]


def tuned_on_their_base(grid: Grid, ledger: Ledger) -> list[dict[str, Any]]:
    """How the rows on HM4SR were tuned, by dataset: its name; `rows`, the trials of each that began and that ran to the
    end; `pools`, the sizes that were tried and the change of validation NDCG@5, the smallest first."""
    found, tried = [], trials(grid, ledger)
    for dataset in over_their_base(grid, ledger)["dataset"].unique():
        rows = []
        names = {row: None for pair in THEIRS.values() for row in pair if grid.rows[row].reference}
        files = {name: Experiment(grid, dataset, name).trials_file(ledger) for name in names}
        for name, file in files.items():
            begun = read_json(file)["trials"] if file.exists() else []
            ended = sum("valid" in trial for trial in begun)
            rows += [{"row": name, "begun": len(begun), "ended": ended}] * bool(begun)
        pools = tried[(tried["row"] == "hm4sr_topk") & (tried["dataset"] == dataset)].sort_values("negatives.k")
        pools = pools[["negatives.k", "change %"]].rename(columns={"negatives.k": "k"}).to_dict("records")
        found.append({"dataset": grid.label(dataset), "rows": rows, "pools": pools})
    return found


def _settings(grid: Grid, ledger: Ledger) -> dict[str, list[float]]:
    """What was chosen for the pool on each dataset, without repeats: k, beta and rate."""
    chosen = [Experiment(grid, dataset, "topk").chosen(ledger) for dataset in grid.real]
    keys = {"k": "negatives.k", "beta": "loss.beta", "rate": "training.learning_rate"}
    return {name: sorted({settings[key] for settings in chosen if settings}) for name, key in keys.items()}


def mixture(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """`question` of references and alignments on a sparse mixture, against those without one."""
    pairs = [(f"{base}_moe", base) for base in BASES]
    pairs += [(f"{prefix}topk_on_moe", f"{prefix}topk") for prefix in BASES.values()]
    return question(grid, changes(grid, pairs, ledger))


def question(grid: Grid, table: pd.DataFrame) -> dict[str, Any]:
    """What a table of changes says to a question: how many are sure, their mean, where it helps and where it hurts."""
    return _tally(table) | _where(grid, table)


def lines(table: pd.DataFrame) -> pd.DataFrame:
    """A table of changes whose lines are what is compared and the protocol."""
    return table.assign(what=table["what"] + ",<br>" + table["protocol"])


def _where(grid: Grid, table: pd.DataFrame) -> dict[str, Any]:
    """by_dataset: how many of its comparisons are sure to be above and below; helps, hurts: datasets on which half of
    them or more are above and none below, or the other way round; alone: whether none is above elsewhere."""
    signs = np.sign(table["change %"]) * ((table["low"] > 0) | (table["high"] < 0))
    by_dataset = [
        {"dataset": name, "above": int((part > 0).sum()), "below": int((part < 0).sum()), "of": len(part)}
        for name, part in signs.groupby(table["dataset"].map(grid.label), sort=False)
    ]
    helps = [one["dataset"] for one in by_dataset if 2 * one["above"] >= one["of"] and not one["below"]]
    hurts = [one["dataset"] for one in by_dataset if 2 * one["below"] >= one["of"] and not one["above"]]
    alone = not any(one["above"] for one in by_dataset if one["dataset"] not in helps)
    return {"by_dataset": by_dataset, "helps": helps, "hurts": hurts, "alone": alone}


def _compared(grid: Grid, ledger: Ledger, after: str, before: str, **options: bool) -> pd.DataFrame:
    """Changes of NDCG@5 of test from one row to another on each base, both protocols; "" is the reference."""
    pairs = [(f"{prefix}{after}", f"{prefix}{before}" if before else base) for base, prefix in BASES.items()]
    return changes(grid, pairs, ledger, **options)


def _experiments(grid: Grid, rows: pd.Series, datasets: pd.Series) -> list[Experiment]:
    return [Experiment(grid, dataset, row) for dataset, row in sorted(set(zip(datasets, rows, strict=True)))]


def _tally(table: pd.DataFrame) -> dict[str, Any]:
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    least, most = (table["change %"].min(), table["change %"].max()) if len(table) else (0.0, 0.0)
    tally = {"above": above, "below": below, "of": len(table), "mean": table["change %"].mean()}
    return tally | {"least": least, "most": most}
