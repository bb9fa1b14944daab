"""What came out so far, as a table and in words: for the first page and for the takeaways of the results."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from rodpo_lite.claims import Claim
from rodpo_lite.comparison import changes, given_up, paired_seeds, whole
from rodpo_lite.grid import Cell, Grid
from rodpo_lite.statistics import Interval

REJECTED = {
    "none": "nothing: cross-entropy goes on",
    "uniform": "a random item of the catalogue",
    "topk": "a random one of the best K",
    "hard": "the hardest item",
    "topk_on_moe": "a random one of the best K, on a sparse mixture",
}
TOWERS = "towers_"  # what the names of the alignments on the base with towers begin with


def against_the_reference(grid: Grid, table: pd.DataFrame, folder: Path, prefix: str = "") -> pd.DataFrame:
    """What each rejected item does to NDCG@5 of test, all items ranked: a column for each dataset that has run.

    table: `ledger.records`; prefix: "" or TOWERS. Cells are percent of the reference without a mixture, with a 95 %
    interval, in words.
    """
    if f"{prefix}topk" not in grid.rows:
        return pd.DataFrame()
    reference = grid.rows[f"{prefix}topk"].reference
    labels = {f"{prefix}{name}": f"{told} (`{prefix}{name}`)" for name, told in REJECTED.items()}
    pairs = [(row, reference) for row in labels if row in grid.rows]
    found = whole(grid, changes(grid, pairs, table, folder, grid.real))
    found = found[found["protocol"] == "all items"]
    if found.empty:
        return pd.DataFrame()
    found["told"] = [Interval(*row).text(1) for row in found[["change %", "low", "high"]].itertuples(index=False)]
    found["rejected"] = found["after"].map(labels)
    found["dataset"] = found["dataset"].map(grid.label)
    told = found.pivot(index="rejected", columns="dataset", values="told")
    order = [grid.label(name) for name in grid.real if grid.label(name) in told]
    return told.reindex(index=[label for label in labels.values() if label in told.index], columns=order)


def with_history_dropped(grid: Grid, table: pd.DataFrame, folder: Path, prefix: str = "") -> str:
    """What the pool does to NDCG@5 of test when the user's own items are not ranked, as a list; arguments as above."""
    if f"{prefix}topk" not in grid.rows:
        return ""
    reference = grid.rows[f"{prefix}topk"].reference
    against = {f"{prefix}hard": "the hardest item", reference: "the reference", f"{prefix}none": "continued training"}
    pairs = [(f"{prefix}topk", before) for before in against if before in grid.rows]
    found = whole(grid, changes(grid, pairs, table, folder, grid.real))
    found = found[found["protocol"] == "history dropped"]
    parts = {name: _on_datasets(grid, found[found["before"] == before]) for before, name in against.items()}
    told = [f"- against {name} {on}" for name, on in parts.items() if on]
    return "\n".join(["With the history dropped from the ranking, the pool changes NDCG@5", "", *told]) if told else ""


def where_the_reference_may_stay(grid: Grid, table: pd.DataFrame, folder: Path) -> str:
    """What is left of the pool against the hardest item if no alignment is taken that validates below its reference."""
    found = whole(grid, changes(grid, [("topk", "hard")], table, folder, grid.real, or_reference=True))
    found = found[found["protocol"] == "all items"]
    if found.empty:
        return ""
    times = {
        name: [given_up(Cell(grid, dataset, name), table, folder) for dataset in found["dataset"]]
        for name in ("hard", "topk")
    }
    on, seeds = [grid.label(dataset) for dataset in found["dataset"]], len(grid.seeds)
    told = (
        f"`{name}` on {listed(f'{label} in {n}' for label, n in zip(on, numbers))}" for name, numbers in times.items()
    )
    return (
        f"Of {seeds} seeds, these validate no better than the reference that they started from: {'; '.join(told)}. "
        "Where the reference then stays, which validation alone decides, the pool changes NDCG@5 against the hardest "
        f"item by {_on_datasets(grid, found)}."
    )


def _on_datasets(grid: Grid, found: pd.DataFrame) -> str:
    """+1.0 % [0.5 %, 1.5 %] on Toys, and so on."""
    numbers = found[["change %", "low", "high"]].itertuples(index=False)
    return ", ".join(
        f"{Interval(*row).text(1)} on {grid.label(name)}" for row, name in zip(numbers, found["dataset"], strict=True)
    )


def inputs(grid: Grid, table: pd.DataFrame) -> str:
    """What items come with on each dataset, and where that is too little for a claim; table: `ledger.records`."""
    of_dataset = table.drop_duplicates("dataset").set_index("dataset")["modalities"]
    on: dict[tuple[str, ...], list[str]] = {}
    for name in grid.real:
        if name in of_dataset:
            on.setdefault(of_dataset[name], []).append(grid.label(name))
    said = [
        f"on {listed(names)} with {listed(f'{modality}s' for modality in modalities) if modalities else 'nothing'}"
        for modalities, names in on.items()
    ]
    told = f"Beside its ID, an item comes {', '.join(said)}." if said else ""
    if few := [name for modalities, names in on.items() if len(modalities) < 2 for name in names]:
        told += f" So on {listed(few)} no mixture can show that it helps to fuse texts with images."
    return told


PRECISIONS = {"fp32": "32 bits", "bf16": "bfloat16"}


def precisions(grid: Grid, declared: Iterable[Claim], table: pd.DataFrame, folder: Path) -> str:
    """In what precision products were computed, where it was another, and whether that divides a pair of a claim."""
    of_file = table.set_index("file")["precision"].dropna()
    if of_file.empty:
        return ""
    usual = of_file.mode()[0]
    others: dict[tuple[str, str], list[str]] = {}
    for cell in grid.cells(grid.real):
        for precision in sorted(set(of_file.reindex(cell.recorded(folder, table).values()).dropna()) - {usual}):
            others.setdefault((PRECISIONS[precision], grid.label(cell.dataset)), []).append(f"`{cell.name}`")
    told = f"Matrix products of training were computed in {PRECISIONS[usual]}"
    alike: dict[tuple[str, str], list[str]] = {}
    for (precision, on), rows in others.items():
        alike.setdefault((precision, listed(rows)), []).append(on)
    told += "".join(f"; in {precision} for {rows} on {listed(on)}" for (precision, rows), on in alike.items())
    divided = []
    for dataset, *pair in sorted({member for claim in declared for member in claim.members(grid)}):
        files = paired_seeds(*(Cell(grid, dataset, name) for name in pair), table, folder)
        if any(of_file.get(after) != of_file.get(before) for after, before in files):
            divided.append(f"`{pair[0]}` over `{pair[1]}` on {grid.label(dataset)}")
    if others and not divided:
        told += "; both sides of every pair that a claim rests on had the same"
    return told + (f"; it differs within {listed(divided)}." if divided else ".")


def trained_again(grid: Grid, table: pd.DataFrame, folder: Path) -> str:
    """Which alignments began at a reference that is not the one on record, but the same trained once more."""
    known, of_file = set(table["weights"].dropna()), table.set_index("file")["reference_weights"].dropna()
    found: dict[str, list[str]] = {}
    for cell in grid.cells(grid.real):
        if not set(of_file.reindex(cell.recorded(folder, table).values()).dropna()) <= known:
            found.setdefault(grid.label(cell.dataset), []).append(f"`{cell.name}`")
    if not found:
        return ""
    return (
        f"{'; '.join(f'{listed(rows)} on {on}' for on, rows in found.items())}: these began at a reference that was "
        "trained once more, with the same settings and seeds, for the ledger keeps no weights. On another machine "
        "rounding makes of it a reference with other luck, so that a comparison with other rows is a little less sharp."
    )


def stands(found: pd.DataFrame, after: str, others: Iterable[str], protocol: str = "all items") -> str:
    """How a row stands against others, by whether the interval leaves zero out; found: `comparison.changes`."""
    kinds: dict[str, list[str]] = {"beats": [], "is beaten by": [], "cannot be told from": []}
    for before in others:
        part = found[(found["after"] == after) & (found["before"] == before) & (found["protocol"] == protocol)]
        for kind, rows in zip(kinds, (part["low"] > 0, part["high"] < 0, (part["low"] <= 0) & (part["high"] >= 0))):
            if rows.any():
                kinds[kind].append(f"`{before}` on {listed(part['dataset'][rows].str.capitalize())}")
    said = [f"{kind} {', '.join(which)}" for kind, which in kinds.items() if which]
    return f"`{after}` {'; '.join(said)}" if said else ""


def listed(words: Iterable[str]) -> str:
    """a; a and b; a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
