"""The claims: the pairs of rows that decide on each (workflow/claims.yaml), and what the ledger says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from companion.evidence.comparison import change, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import Comparison, Interval, holm, verdict
from rodpo_lite.files import read_yaml

FILE = Path(__file__).resolve().parents[2] / "workflow" / "claims.yaml"
NOT_RUN = "not run yet"
MEASURED = {"ndcg@5": "NDCG@5 ", "planted_share": "their share of the push ", "planted_drift": "logits "}


class Claim(BaseModel):
    """What is said, by whom, the pairs of rows [after, before] that decide, and those that are shown beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    says: str
    source: Literal["paper", "control"]
    pairs: tuple[tuple[str, str], ...]
    beside: tuple[tuple[str, str], ...] = ()
    measure: Literal["ndcg@5", "planted_share", "planted_drift"] = "ndcg@5"
    better: Literal["higher", "lower"] = "higher"

    def members(self, grid: Grid) -> list[tuple[str, str, str]]:
        """Dataset, row after, row before; what measures hidden positives is asked where there are some.

        Datasets of tier C, with more or fewer hidden, decide on nothing.
        """
        hidden = self.measure != "ndcg@5"
        return [
            (dataset, after, before)
            for after, before in self.pairs
            for dataset in grid.datasets
            if (dataset in grid.planted) == hidden and not (hidden and grid.planted[dataset].tier == "C")
            if grid.runs_on(after, dataset) and grid.runs_on(before, dataset)
        ]


def read(grid: Grid, path: Path = FILE) -> dict[str, Claim]:
    """The declared claims; raises InputError for one that names an unknown row or that no dataset can decide."""
    found = {}
    for name, declared in read_yaml(path, "The list of claims").items():
        try:
            claim = Claim.model_validate(declared)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (name, *first["loc"]))
            raise InputError(f"The list of claims {path}, {where}: {first['msg']}.") from None
        if unknown := {row for pair in claim.pairs + claim.beside for row in pair} - set(grid.rows):
            raise InputError(f"The list of claims {path}, {name}: the grid has no row {min(unknown)}.")
        if not claim.members(grid):
            raise InputError(f"The list of claims {path}, {name}: no dataset has both rows of a pair.")
        for dataset, *pair in claim.members(grid):
            if fewer := [row for row in pair if set(grid.seeds_of(row, dataset)) != set(grid.seeds)]:
                raise InputError(
                    f"The list of claims {path}, {name}: {fewer[0]} has not all seeds of the grid on {dataset}."
                )
        found[name] = claim
    return found


def assess(claim: Claim, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A row for each member: dataset, after, before, seeds, estimate, low, high, p, Holm's p, verdict.

    A member whose runs are not all in the ledger keeps its place in the family and has no verdict yet.
    """
    rows: list[dict[str, Any]] = []
    for dataset, after, before in claim.members(grid):
        experiments = Experiment(grid, dataset, after), Experiment(grid, dataset, before)
        recorded = [set(experiment.recorded(ledger)) for experiment in experiments]
        row = {"dataset": dataset, "after": after, "before": before, "seeds": len(recorded[0] & recorded[1])}
        complete = all(set(experiment.seeds) <= seeds for experiment, seeds in zip(experiments, recorded, strict=True))
        rows.append(row | {"found": change(*experiments, ledger, claim.measure) if complete else None})
    p_values = [row["found"].p if row["found"] else 1.0 for row in rows]
    for row, adjusted in zip(rows, holm(p_values), strict=True):
        found = row.pop("found")
        if found is None:
            row["verdict"] = NOT_RUN
            continue
        row |= {"estimate": found.estimate, "low": found.low, "high": found.high, "p": found.p, "Holm's p": adjusted}
        row |= {"smallest": found.smallest_effect(tests=len(rows)), "verdict": _member_verdict(claim, found, adjusted)}
    columns = ["dataset", "after", "before", "seeds", "estimate", "low", "high", "p", "Holm's p", "smallest", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def assess_beside(claim: Claim, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`assess` of the pairs that are shown beside a claim and decide nothing, without a verdict.

    Those that are on record, but for what is a member once more: rows with the same settings have the same runs.
    """
    later = claim.model_copy(update={"pairs": claim.beside})
    found = assess(later, grid, ledger)
    runs, known = ([_files(grid, *pair, ledger) for pair in one.members(grid)] for one in (later, claim))
    shown = [verdict != NOT_RUN and files not in known for verdict, files in zip(found["verdict"], runs, strict=True)]
    return found[np.array(shown, bool)].drop(columns=["p", "Holm's p", "smallest", "verdict"])


def _files(grid: Grid, dataset: str, after: str, before: str, ledger: Ledger) -> list:
    return paired_seeds(Experiment(grid, dataset, after), Experiment(grid, dataset, before), ledger)


def scoreboard(declared: dict[str, Claim], grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A row for each claim of the paper: says, verdict, what its members say (tally), the effects of its first pair."""
    rows = []
    for claim in declared.values():
        if claim.source != "paper":
            continue
        found = assess(claim, grid, ledger)
        first = found[(found["after"] == claim.pairs[0][0]) & (found["before"] == claim.pairs[0][1])]
        digits, unit = (3, "") if claim.measure == "planted_drift" else (1, " %")
        told = [
            f"{grid.label(row.dataset)}: {MEASURED[claim.measure]}"
            + Interval(row.estimate, row.low, row.high).text(digits, unit)
            for row in first.itertuples()
            if row.verdict != NOT_RUN
        ]
        counts = found.loc[found["verdict"] != NOT_RUN, "verdict"].value_counts()
        tally = ", ".join(f"{number} {kind}" for kind, number in counts.items()) if len(counts) > 1 else ""
        rows.append((claim.says, conclusion(found["verdict"].tolist()), tally, "; ".join(told)))
    return pd.DataFrame(rows, columns=["says", "verdict", "tally", "so_far"])


def _member_verdict(claim: Claim, found: Comparison, adjusted: float) -> str:
    supporting = found if claim.better == "higher" else found.negated()
    return verdict(supporting, adjusted, 0.0 if claim.measure == "planted_drift" else 1.0)


def conclusion(verdicts: Sequence[str]) -> str:
    """The verdict of a claim from those of its members."""
    found, waiting = set(verdicts), list(verdicts).count(NOT_RUN)
    if waiting:
        return NOT_RUN if len(found) == 1 else f"open, {len(verdicts) - waiting} of {len(verdicts)} have run"
    if len(found) == 1:
        return found.pop()
    if {"reproduced", "contradicted"} <= found:
        return "mixed"
    for sure in ("reproduced", "contradicted"):
        if sure in found:
            return f"{sure} in part"
    return "inconclusive"
