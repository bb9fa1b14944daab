"""Models beside plain baselines, which train nothing: who is ahead, and how sure that is."""

from collections.abc import Iterable

import pandas as pd

from companion.evidence.comparison import crossed
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.findings.story import listed
from rodpo_lite.evaluation.statistics import Interval

MODELS = ("fused", "topk", "towers", "towers_topk")  # what is held against plain baselines
_PROTOCOLS = {"all items": "all items ranked", "history dropped": "the history dropped"}


def over_baselines(grid: Grid, ledger: Ledger, rows: Iterable[str] = MODELS) -> pd.DataFrame:
    """Change of test NDCG@5 from the baseline that validates best to each row, on every real dataset and protocol.

    A row that lacks a seed is left out. A baseline is the same for every seed: only those of
    the row vary, crossed with the users. Columns dataset, protocol, baseline, its (NDCG@5), row, change %, low, high.
    Raises InputError if the two were computed on different editions of the dataset.
    """
    found, plain = [], ledger.records[ledger.records["stage"] == "baseline"]
    for dataset in grid.real:
        declared = [row for row in rows if row in grid.rows and grid.runs_on(row, dataset)]
        of_rows = {row: _complete(Experiment(grid, dataset, row), ledger) for row in declared}
        known = plain[plain["dataset"] == dataset]
        for protocol, column in PROTOCOLS.items() if len(known) else ():
            end = column.removeprefix("rank")
            best = known.loc[known[f"valid{end}.ndcg@5"].idxmax()]
            for row, files in of_rows.items():
                if not files:
                    continue
                ledger.check_one_edition([best["file"], *files])
                one = crossed([(file, best["file"]) for file in files], ledger, column)
                line = dataset, protocol, best["strategy"], best[f"test{end}.ndcg@5"], row
                found.append((*line, one.estimate, one.low, one.high))
    columns = ["dataset", "protocol", "baseline", "its", "row", "change %", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def told(grid: Grid, found: pd.DataFrame) -> list[str]:
    """`over_baselines` in words, a line for each dataset and protocol."""
    lines = []
    for (dataset, protocol, name, its), part in _of_a_baseline(found):
        numbers = part[["change %", "low", "high"]].itertuples(index=False)
        against = listed(f"`{row}` {Interval(*one).text(0)}" for row, one in zip(part["row"], numbers, strict=True))
        lines.append(
            f"**{grid.label(dataset)}**, {_PROTOCOLS[protocol]}: `{name}` has {its:.4f}; against it, {against}."
        )
    return lines


def ahead(grid: Grid, found: pd.DataFrame) -> list[str]:
    """Where a baseline is ahead by its interval, and what else cannot be told apart from it there, a line for each."""
    lines = []
    for (dataset, protocol, name, _), part in _of_a_baseline(found):
        less, more = part["high"] < 0, part["low"] > 0
        if less.any():
            behind, alike = ([f"`{row}`" for row in part.loc[which, "row"]] for which in (less, ~less & ~more))
            line = f"With {_PROTOCOLS[protocol]}, `{name}` is ahead of {listed(behind)} on {grid.label(dataset)}"
            lines.append(line + (f", and cannot be told apart from {listed(alike)}." if alike else "."))
    return lines


def _complete(experiment: Experiment, ledger: Ledger) -> list[str]:
    files = experiment.recorded(ledger)
    return [files[seed] for seed in experiment.seeds] if set(experiment.seeds) <= files.keys() else []


def _of_a_baseline(found: pd.DataFrame):
    return found.groupby(["dataset", "protocol", "baseline", "its"], sort=False)
