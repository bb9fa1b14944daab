"""The claims: the pairs of rows that decide on each (workflow/claims.yaml), and what the ledger says of them."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from companion.evidence.comparison import DROPPED, RANKED, change, changes, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import Comparison, holm, verdict
from rodpo_lite.files import read_yaml
from rodpo_lite.settings import Settings, build

FILE = Path(__file__).resolve().parents[2] / "workflow" / "claims.yaml"
SECOND = FILE.with_name("claims-second.yaml")
NOT_RUN = "not run yet"
Protocol = Literal["all items", "history dropped"]


class Claim(Settings):
    """What is said, by whom, the pairs of rows [after, before] that decide, and those that are shown beside them."""

    says: str
    source: Literal["paper", "control"]
    pairs: tuple[tuple[str, str], ...]
    beside: tuple[tuple[str, str], ...] = ()
    measure: Literal["ndcg@5", "planted_share", "planted_drift"] = "ndcg@5"
    better: Literal["higher", "lower"] = "higher"
    protocols: tuple[Protocol, ...] = (RANKED,)  # of ndcg@5, each of them a member
    reference_may_stay: bool = False  # an alignment that validates no better gives way to what it started from

    def members(self, grid: Grid) -> list[tuple[Experiment, Experiment]]:
        """After and before, where both are declared; what measures hidden positives is asked where there are some.

        Datasets of tier C, with more or fewer hidden, decide on nothing.
        """
        hidden = [name for name, made in grid.planted.items() if made.tier != "C"]
        return [
            (Experiment(grid, dataset, after), Experiment(grid, dataset, before))
            for after, before in self.pairs
            for dataset in (grid.known if self.measure == "ndcg@5" else hidden)
            if grid.runs_on(after, dataset) and grid.runs_on(before, dataset)
        ]

    @property
    def otherwise(self) -> "Claim":
        """The claim as it is not decided: as recorded where its reference may stay, else under the other protocols."""
        if self.reference_may_stay:
            return self.model_copy(update={"reference_may_stay": False})
        rest = tuple(protocol for protocol in PROTOCOLS if protocol not in self.protocols)
        return self.model_copy(update={"protocols": rest if self.measure == "ndcg@5" else ()})


def read(grid: Grid, path: Path = FILE) -> dict[str, Claim]:
    """The declared claims; raises InputError for one that names an unknown row or that no dataset can decide."""
    claims: dict[str, Claim] = {}
    for name, declared in read_yaml(path, "The list of claims").items():
        here = f"The list of claims {path}, {name}"
        claims[name] = claim = build(Claim, declared, f"{here}: ")
        if unknown := {row for pair in claim.pairs + claim.beside for row in pair} - set(grid.rows):
            raise InputError(f"{here}: the grid has no row {min(unknown)}.")
        if not (members := claim.members(grid)):
            raise InputError(f"{here}: no dataset has both rows of a pair.")
        for one in chain(*members):
            if set(one.seeds) != set(grid.seeds):
                raise InputError(f"{here}: {one.name} has not all seeds of the grid on {one.dataset}.")
    return claims


def assess(claim: Claim, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A row for each member; one whose runs are not all on record keeps its place in the family, without a verdict."""
    rows: list[dict[str, Any]] = []
    effects: list[Comparison | None] = []
    for protocol, (after, before) in product(claim.protocols, claim.members(grid)):
        have = [experiment.recorded(ledger).keys() for experiment in (after, before)]
        complete = have == [set(after.seeds), set(before.seeds)]
        how = claim.measure, protocol, claim.reference_may_stay
        effects.append(change(after, before, ledger, *how) if complete else None)
        row = {"dataset": after.dataset, "after": after.name, "before": before.name, "protocol": protocol}
        row |= {"stays": claim.reference_may_stay, "base": after.base}
        rows.append(row | {"seeds": len(have[0] & have[1]), "verdict": NOT_RUN})
    p_values = holm([effect.p if effect else 1.0 for effect in effects])
    for row, effect, adjusted in zip(rows, effects, p_values, strict=True):
        if effect:
            row |= vars(effect) | {"Holm's p": adjusted, "smallest": effect.smallest_effect(tests=len(rows))}
            supporting = effect if claim.better == "higher" else effect.negated()
            row["verdict"] = verdict(supporting, adjusted, 0.0 if claim.measure == "planted_drift" else 1.0)
    columns = ["dataset", "base", "after", "before", "protocol", "stays", "seeds", "estimate", "low", "high", "p"]
    return pd.DataFrame(rows, columns=[*columns, "Holm's p", "smallest", "verdict"])


def assess_beside(claim: Claim, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`assess`, without verdicts, of the pairs beside a claim that are on record and have not the runs of a member."""
    later = claim.model_copy(update={"pairs": claim.beside})
    known = [paired_seeds(*pair, ledger) for pair in claim.members(grid)]
    new = [paired_seeds(*pair, ledger) not in known for pair in later.members(grid)]
    table = assess(later, grid, ledger)
    table = table[np.array(new, bool) & (table["verdict"] != NOT_RUN)]
    return table.drop(columns=["p", "Holm's p", "smallest", "verdict"])


def summaries(declared: dict[str, Claim], grid: Grid, ledger: Ledger, source: str = "paper") -> list[dict[str, Any]]:
    """What the ledger says of each claim of a source: name, says, measure, verdict, tally (members by verdict).

    members: rows of `assess`; others: those of `Claim.otherwise`, which decide nothing; first: those of its first pair
    that have run; beside: rows of `assess_beside`; smallest: the smallest true changes that its members would show.
    Datasets have their names for readers; `column` is that of the dataset itself, whatever was hidden of it, with times
    or without.
    """
    summaries = []
    for name, claim in declared.items():
        if claim.source != source:
            continue
        members, others, beside = (
            table.assign(
                column=table["dataset"].map(lambda name: grid.label(name, whole=False)),
                dataset=table["dataset"].map(grid.label),
            ).to_dict("records")
            for table in (
                *(assess(c, grid, ledger) for c in (claim, claim.otherwise)),
                assess_beside(claim, grid, ledger),
            )
        )
        recorded = [row for row in members if row["verdict"] != NOT_RUN]
        summary = {"name": name, "members": members, "others": others, "beside": beside}
        summary |= {key: getattr(claim, key) for key in ("says", "source", "measure")}
        summary["verdict"] = conclusion([row["verdict"] for row in members])
        summary["tally"] = dict(Counter(row["verdict"] for row in recorded).most_common())
        summary["first"] = [row for row in recorded if (row["after"], row["before"]) == claim.pairs[0]]
        summaries.append(summary | {"smallest": [row["smallest"] for row in recorded]})
    return summaries


def assess_all(declared: dict[str, Claim], grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """`assess` of every claim, with its name and measure in columns claim and measure."""
    return pd.concat(
        assess(claim, grid, ledger).assign(claim=name, measure=claim.measure) for name, claim in declared.items()
    )


def effects(assessed: pd.DataFrame, grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Of `assess_all` every pair that a claim about NDCG@5 rests on, once; verdicts are of all items ranked."""
    ranked = assessed[assessed["measure"] == "ndcg@5"].assign(protocol=RANKED)
    ranked = ranked.dropna(subset="estimate").drop_duplicates(["dataset", "after", "before"])
    dropped = changes(grid, zip(ranked["after"], ranked["before"], strict=True), ledger, protocols=[DROPPED])
    dropped = dropped.rename(columns={"change %": "estimate"})
    table = pd.concat([ranked, dropped])
    table["pair"] = table["after"] + " over " + table["before"]
    table["Holm's p"] = [p if pd.isna(p) else f"{p:.4f}" if p >= 0.0001 else "< .0001" for p in table["Holm's p"]]
    columns = ["claim", "dataset", "pair", "protocol", "estimate", "low", "high", "Holm's p", "smallest", "verdict"]
    return table[columns].rename(columns={"smallest": "smallest effect shown with power .8, %"})


def conclusion(verdicts: Sequence[str]) -> str:
    """The verdict of a claim from those of its members."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    if waiting := verdicts.count(NOT_RUN):
        return f"open, {len(verdicts) - waiting} of {len(verdicts)} have run"
    sure = [kind for kind in ("reproduced", "contradicted") if kind in verdicts]
    return "mixed" if len(sure) == 2 else f"{sure[0]} in part" if sure else "inconclusive"
