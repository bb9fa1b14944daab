"""The answer, first: what the first page says in a few sentences, counted over datasets, bases and protocols."""

from typing import Any

import numpy as np
import pandas as pd

from companion.evidence.comparison import changes, given_up, quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger

BASES = {"fused": "", "towers": "towers_"}  # references, and what the names of their alignments begin with


def answer(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """Facts for the sentences of `answer.md.j2`; a comparison is one of a dataset, a base and a protocol.

    hard, pool, gap, mixture: how many comparisons are sure to be above or below, and the mean change in percent, of the
    hardest item and of the pool over the reference, of the pool over the hardest item, and of the mixture over none.
    refused: seeds in which `hard` validates no better than its reference. left: the mean of the gap where the reference
    may stay if it validates better. helps, hurts: datasets on which most comparisons of the pool are above, or below.
    base, dropped: the least and the largest change by the other base, and by dropping the history.
    """
    hard = _compared(grid, ledger, "hard", "")
    if hard.empty:
        return {"hard": _tally(hard)}
    gap = _compared(grid, ledger, "topk", "hard")
    left = _compared(grid, ledger, "topk", "hard", or_reference=True)
    pool = _compared(grid, ledger, "topk", "")
    base = changes(grid, [("towers", "fused")], ledger)
    refused = [(given_up(one, ledger), len(one.seeds)) for one in _experiments(grid, hard["after"], hard["dataset"])]
    tests = quality(grid, ledger).query("row in @BASES and dataset in @grid.real")
    dropped = 100 * (tests["test_masked"] / tests["test"] - 1)
    return {
        "hard": _tally(hard) | {"refused": sum(times for times, _ in refused), "seeds": sum(of for _, of in refused)},
        "gap": _tally(gap) | {"left": left["change %"].mean()},
        "pool": _tally(pool),
        **_where(grid, pool),
        "mixture": mixture(grid, ledger),
        "base": {"least": base["change %"].min(), "most": base["change %"].max()},
        "dropped": {"least": dropped.min(), "most": dropped.max()},
        "bases": len(BASES),
    }


def mixture(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """How often references and alignments on a sparse mixture are above or below those without one."""
    pairs = [(f"{base}_moe", base) for base in BASES]
    pairs += [(f"{prefix}topk_on_moe", f"{prefix}topk") for prefix in BASES.values()]
    return _tally(changes(grid, pairs, ledger))


def question(grid: Grid, table: pd.DataFrame) -> dict[str, Any]:
    """What a table of changes says to a question: how many are sure, their mean, where it helps and where it hurts."""
    return _tally(table) | _where(grid, table)


def lines(table: pd.DataFrame) -> pd.DataFrame:
    """A table of changes whose lines are what is compared and the protocol."""
    return table.assign(what=table["what"] + ",<br>" + table["protocol"])


def _where(grid: Grid, table: pd.DataFrame) -> dict[str, list[str]]:
    """helps, hurts: datasets on which most comparisons are sure to be above, or below; datasets: how many there are."""
    sure = np.sign(table["change %"]) * ((table["low"] > 0) | (table["high"] < 0))
    share = sure.groupby(table["dataset"].map(grid.label), sort=False).mean()
    found = {"helps": share.index[share >= 0.5].tolist(), "hurts": share.index[share <= -0.5].tolist()}
    return found | {"datasets": len(share)}


def _compared(grid: Grid, ledger: Ledger, after: str, before: str, **options: bool) -> pd.DataFrame:
    """Changes of NDCG@5 of test from one row to another on each base, both protocols; "" is the reference."""
    pairs = [(f"{prefix}{after}", f"{prefix}{before}" if before else base) for base, prefix in BASES.items()]
    return changes(grid, pairs, ledger, **options)


def _experiments(grid: Grid, rows: pd.Series, datasets: pd.Series) -> list[Experiment]:
    return [Experiment(grid, dataset, row) for dataset, row in sorted(set(zip(datasets, rows, strict=True)))]


def _tally(table: pd.DataFrame) -> dict[str, Any]:
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    most = table["change %"].max() if len(table) else 0.0
    return {"above": above, "below": below, "of": len(table), "mean": table["change %"].mean(), "most": most}
