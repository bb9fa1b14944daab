"""The verdict explorer: rows of the grid against what they may be compared with, under each protocol, for a reader."""

from typing import Any

import pandas as pd

from companion.evidence.comparison import RANKED, changes
from companion.evidence.grid import Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.findings.names import NAMES

BASES, REJECTED = NAMES["bases"], NAMES["rejected"]
AGAINST = ("reference", "none", "uniform", "hard", "topk")
KEYS = ["base", "rejected", "against", "protocol", "stays", "dataset"]


def row_on(base: str, name: str) -> str:
    """The row of the grid that rejects what is named, on a base."""
    return name if base == next(iter(BASES)) else f"{base}_{name}"


def table(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A line for each base, what is rejected, what that is held against, protocol, dataset, and whether a reference
    that validates no worse stays in the place of its alignment: change of test NDCG@5 in %, low, high."""
    parts = []
    for base in BASES:
        rows = {name: row_on(base, name) for name in REJECTED} | {"reference": base}
        pairs = [(rows[one], rows[other]) for one in REJECTED for other in AGAINST if one != other]
        short = {row: name for name, row in rows.items()}
        for stays in (False, True):
            part = changes(grid, pairs, ledger, grid.known, or_reference=stays)
            names = {"rejected": part["after"].map(short), "against": part["before"].map(short)}
            parts.append(part.assign(base=base, stays=stays, **names))
    parts = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(parts, ignore_index=True)[[*KEYS, "change %", "low", "high"]]


def pool_alone(found: pd.DataFrame) -> pd.DataFrame:
    """Of `table` the pool on the base with one tower, all items ranked, as recorded."""
    chosen = (found["base"] == "fused") & (found["rejected"] == "topk") & ~found["stays"]
    return found[chosen & (found["protocol"] == RANKED)]


def inputs(grid: Grid, found: pd.DataFrame) -> dict[str, Any]:
    """`table` for the browser: what there is to choose from, by key and with the words of a reader, and a list for each
    line with the places of its choices and, in %, change, low and high."""
    words = {
        "base": BASES, "rejected": REJECTED, "against": {"reference": "the reference"} | REJECTED,
        "protocol": {name: name for name in PROTOCOLS}, "dataset": {name: grid.label(name) for name in grid.known},
    }  # fmt: skip
    choices = {key: [name for name in known if name in set(found[key])] for key, known in words.items()}
    places = {key: found[key].map({name: place for place, name in enumerate(names)}) for key, names in choices.items()}
    lines = found.assign(**places, stays=found["stays"].astype(int))
    numbers = lines[["change %", "low", "high"]].round(3)
    rows = pd.concat([lines[KEYS], numbers], axis=1)
    named = {key: [[name, words[key][name]] for name in names] for key, names in choices.items()}
    return {"choices": named, "rows": [[*map(int, row[:6]), *row[6:]] for row in rows.to_numpy().tolist()]}
