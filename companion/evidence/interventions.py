"""Interventions: how much of a gap goes away when one thing is changed (workflow/interventions.yaml)."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from companion.evidence.claims import NOT_RUN
from companion.evidence.comparison import Pair, alike_seeds, arms
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.evidence.plan import WORKFLOW
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import Comparison, crossed_change, holm
from rodpo_lite.files import read_yaml
from rodpo_lite.settings import Settings, build

FILE = WORKFLOW / "interventions.yaml"
BESIDE = "decides nothing"
Verdict = Literal["no gap", "most of it", "a part of it", "it widens", "at most half", "not shown"]
Sides = tuple[Experiment, Experiment]


class Intervention(Settings):
    """What is asked, the rows [after, before] between which a gap lies, and by what is changed the rows instead."""

    asks: str
    gap: Pair
    instead: dict[str, Pair]

    def members(self, grid: Grid) -> Iterator[tuple[str, Sides, Sides]]:
        """What is changed, the gap, and the rows instead, on every dataset on which all four are declared."""
        for dataset, (what, pair) in product(grid.datasets, self.instead.items()):
            if all(grid.runs_on(name, dataset) for name in (*self.gap, *pair)):
                gap, instead = (
                    (Experiment(grid, dataset, a), Experiment(grid, dataset, b)) for a, b in (self.gap, pair)
                )
                yield what, gap, instead


def read(grid: Grid, path: Path = FILE) -> dict[str, Intervention]:
    """The declared questions; raises InputError for one that names an unknown row or that no dataset can answer."""
    questions: dict[str, Intervention] = {}
    for name, declared in read_yaml(path, "The list of interventions").items():
        here = f"The list of interventions {path}, {name}"
        questions[name] = one = build(Intervention, declared, f"{here}: ")
        if unknown := set(chain(one.gap, *one.instead.values())) - set(grid.rows):
            raise InputError(f"{here}: the grid has no row {min(unknown)}.")
        if not list(one.members(grid)):
            raise InputError(f"{here}: no dataset has all of its rows.")
    return questions


def assess(question: Intervention, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A row for each member: dataset, what, protocol, seeds, gap % and left % (changes of NDCG@5 of test), how much of
    the gap is closed, % (estimate, low, high, Holm's p), smallest (the least that would be seen) and the verdict.

    One whose runs are not all on record keeps its place in the family, without a verdict.
    """
    rows: list[dict[str, Any]] = []
    found: list[tuple[Comparison, Comparison, Comparison] | None] = []
    for protocol, (what, gap, instead) in product(PROTOCOLS, question.members(grid)):
        four = (*gap, *instead)
        decides = not any(grid.tier(one.name, one.dataset) == "C" for one in four)
        complete = all(set(one.seeds) == one.recorded(ledger).keys() for one in four)
        row = {"dataset": gap[0].dataset, "what": what, "protocol": protocol, "seeds": len(gap[0].seeds)}
        rows.append(row | {"verdict": NOT_RUN if decides else BESIDE})
        found.append(_effects(gap, instead, ledger, protocol) if complete else None)
    family = [number for number, row in enumerate(rows) if row["verdict"] != BESIDE]
    adjusted = dict(zip(family, holm([found[n][2].p if found[n] else 1.0 for n in family]), strict=True))
    for number, (row, effects) in enumerate(zip(rows, found, strict=True)):
        if effects is None:
            continue
        lead, left, closed = effects
        row |= {"gap %": lead.estimate, "left %": left.estimate}
        row |= {"estimate": closed.estimate, "low": closed.low, "high": closed.high}
        if number in adjusted:
            row |= {"Holm's p": adjusted[number], "smallest": closed.smallest_effect(tests=len(family))}
            row["verdict"] = verdict(lead, closed, adjusted[number])
    columns = ["dataset", "what", "protocol", "seeds", "gap %", "left %", "estimate", "low", "high", "Holm's p"]
    return pd.DataFrame(rows, columns=[*columns, "smallest", "verdict"])


def answers(grid: Grid, ledger: Ledger, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the ledger says to these committed questions: asks, and members, the rows of `assess` that have run."""
    found, declared = {}, read(grid)
    for name in names:
        question = declared[name]
        table = assess(question, grid, ledger).dropna(subset="estimate")
        found[name] = {"asks": question.asks, "members": table.assign(dataset=table["dataset"].map(grid.label))}
    return found


def closed(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The members of all `answers` as readers see them, the verdict last."""
    table = pd.concat([one["members"] for one in found.values()])
    return table.drop(columns="smallest").rename(columns={"gap %": "lead %", "estimate": "closed %"})


def metrics(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """How much of the gap is closed, %, by what a check of the book calls it; where there is none, nothing."""
    rows = [
        (name, row)
        for name, one in found.items()
        for row in one["members"].query("verdict != 'no gap'").to_dict("records")
    ]
    names = [f"closed_{name}_{row['what']}_{row['dataset']}_{row['protocol']}" for name, row in rows]
    return {re.sub(r"\W+", "_", name): row["estimate"] for name, (_, row) in zip(names, rows, strict=True)}


def _effects(gap: Sides, instead: Sides, ledger: Ledger, protocol: str) -> tuple[Comparison, Comparison, Comparison]:
    """The gap and what stands in its place, each in % of its lower row, and how much of the gap is closed, in % of it.

    The last to first order, as in `crossed_change`, which is good where the gap is sure; elsewhere there is no verdict.
    """
    experiments = list(dict.fromkeys((*gap, *instead)))
    files = [dict(zip(experiments, of_seed, strict=True)) for of_seed in alike_seeds(experiments, ledger)]
    pairs = [
        arms([(of_seed[after], of_seed[before]) for of_seed in files], ledger, PROTOCOLS[protocol])
        for after, before in (gap, instead)
    ]
    before, after = (high - low for low, high in pairs)
    return *(crossed_change(*pair) for pair in pairs), crossed_change(before, after).negated()


def verdict(gap: Comparison, closed: Comparison, adjusted_p: float) -> Verdict:
    """By the rule of workflow/interventions.yaml."""
    if gap.low <= 0:
        return "no gap"
    if adjusted_p < 0.05 and closed.low > 0:
        return "most of it" if closed.low > 50 else "a part of it"
    if adjusted_p < 0.05 and closed.high < 0:
        return "it widens"
    return "at most half" if closed.high < 50 else "not shown"
