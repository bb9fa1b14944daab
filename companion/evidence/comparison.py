"""Rows of the grid side by side, from what the ledger holds: how good, how different, and for whom."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from companion.evidence import ledger
from companion.evidence.grid import Cell, Grid
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import Comparison, crossed_change, seed_change, seed_mean
from rodpo_lite.files import read_json

NDCG = {  # columns of `quality`, and what a record calls them
    "validation": "valid",
    "test": "test",
    "validation_masked": "valid_masked",
    "test_masked": "test_masked",
}


def quality(grid: Grid, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A row for each baseline and each cell with records: dataset, row, seeds (how many), NDCG@5 as mean over them.

    table: `ledger.records`. A baseline, which is not trained, is called `<name> baseline`, for a row of the grid may
    have its name. Columns validation and test rank all items, validation_masked and test_masked drop the history;
    deviation is that of test between seeds, NaN for one. A row whose runs are those of another is left out.
    """
    of_file = table.set_index("file")
    baselines = table[(table["stage"] == "baseline") & table["dataset"].isin(grid.datasets)]
    parts = [
        (dataset, f"{name} baseline", part) for (dataset, name), part in baselines.groupby(["dataset", "strategy"])
    ]
    for cell, files in _cells(grid, table, folder):
        parts.append((cell.dataset, cell.name, of_file.loc[list(files.values())]))
    found = []
    for dataset, name, own in parts:
        row = {"dataset": dataset, "row": name, "seeds": len(own)}
        row |= {column: own[f"{part}.ndcg@5"].mean() for column, part in NDCG.items()}
        found.append(row | {"deviation": own["test.ndcg@5"].std(), "seconds": own["seconds"].mean()})
    columns = ["dataset", "row", "seeds", *NDCG, "deviation", "seconds"]
    return pd.DataFrame(found, columns=columns)


def complete(grid: Grid, found: pd.DataFrame) -> pd.DataFrame:
    """Of `quality` the baselines, and the rows of which every seed is on record that they declare."""
    enough = [
        row.row not in grid.rows or row.seeds == len(grid.seeds_of(row.row, row.dataset)) for row in found.itertuples()
    ]
    return found[np.array(enough, bool)]


def _cells(grid: Grid, table: pd.DataFrame, folder: Path) -> Iterator[tuple[Cell, dict[int, str]]]:
    """Every cell with its records, by seed; of rows that have the same settings, and so the same runs, the first."""
    seen = set()
    for cell in grid.cells():
        files = cell.recorded(folder, table)
        if files and not seen & set(files.values()):
            yield cell, files
        seen.update(files.values())


WHAT_SELECTION_DID = {  # the name in a record, and the scale of the table
    "hidden": ("planted_rate", 1e4),
    "on_hidden": ("planted_share", 1e4),
    "validation": ("future_rate", 1e4),
    "past": ("past_rate", 100),
    "same": ("repeat_rate", 100),
    "push": ("suppression", 1),
}
PUSHED = "pushed_hidden"
DRIFTS = {"drift": "planted", "validation_drift": "future"}


def mechanism(grid: Grid, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """What selection did in training, a row for each recorded run of an alignment that rejects something.

    Columns dataset, row, seed; per 10,000 draws, rejected `hidden` purchases and the user's `validation` item; of all
    suppression, the part `on_hidden`, per 10,000; `past`, percent of draws on what the user has already; `same`,
    percent of draws that repeat the position's last one; `push`, mean suppression; `pushed_hidden`, the suppression of
    hidden purchases in 10,000 draws, which is the product of push and share; `drift` and `validation_drift` of
    hidden purchases and of validation items against their neighbours, relative to the row that the grid names, in
    logits. What was not measured is missing, and so is `validation` where other later items may be rejected, too. A row
    whose runs are those of another is left out.
    """
    of_file, found = table.set_index("file"), []
    for cell, files in _cells(grid, table, folder):
        for seed, file in files.items():
            run = of_file.loc[file]
            if not cell.reference or run["strategy"] == "none":
                continue
            row = {"dataset": cell.dataset, "row": cell.name, "seed": seed}
            row |= {name: scale * run.get(key, np.nan) for name, (key, scale) in WHAT_SELECTION_DID.items()}
            if run["exclude"] != "train":  # then later purchases are among them
                row["validation"] = np.nan
            row[PUSHED] = row["push"] * row["on_hidden"]
            row |= {name: run["drift"].get(key, {}).get("difference", np.nan) for name, key in DRIFTS.items()}
            found.append(row)
    return pd.DataFrame(found, columns=["dataset", "row", "seed", *WHAT_SELECTION_DID, PUSHED, *DRIFTS])


def of_rows(counted: pd.DataFrame, dataset: str, rows: Iterable[str]) -> pd.DataFrame:
    """The part of `mechanism` about a dataset; raises InputError if one of these rows has no run on it yet."""
    part = counted[counted["dataset"] == dataset]
    if missing := [row for row in rows if row not in set(part["row"])]:
        raise InputError(
            f"The ledger holds no run of {missing[0]} on {dataset}, which is needed here; "
            f"run `rodpo grid --datasets {dataset} --rows {missing[0]}` first."
        )
    return part


def over_seeds(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a column of `mechanism` for each dataset and row: seeds, mean, and Student's interval, low and high."""
    found = []
    for key, part in runs.dropna(subset=column).groupby(["dataset", "row"], sort=False):
        one = seed_mean(part[column].to_numpy())
        found.append((*key, len(part), one.estimate, one.low, one.high))
    return pd.DataFrame(found, columns=["dataset", "row", "seeds", "mean", "low", "high"])


SEARCHED = ("training.learning_rate", "training.dropout", "training.lambda_ce", "loss.beta", "negatives.k")


def trials(grid: Grid, folder: Path) -> pd.DataFrame:
    """Every setting that was tried for an alignment: dataset, row, chosen, the keys searched, start %, change %.

    change % is that of validation NDCG@5, all items ranked, against the reference that the trials started from, mean
    over the tuning seeds; start % is that of this reference against the one on record, 0 where it is that one. A key
    that a row has no use for is missing.
    """
    found = []
    for cell in grid.cells():
        path = cell.trials_file(folder)
        start = cell.reference and cell.reference.trials_file(folder)
        if not path.exists() or start is None or not start.exists():
            continue
        kept, of_reference = read_json(path), read_json(start)
        on_record = np.mean(of_reference["trials"][of_reference["chosen"]]["valid"])
        before = np.mean(kept["reference_valid"]) if "reference_valid" in kept else on_record
        for number, trial in enumerate(kept["trials"]):
            config = cell.config(trial["settings"], 0).model_dump()
            row = {"dataset": cell.dataset, "row": cell.name, "chosen": number == kept["chosen"]}
            row |= {key: _at(config, key) for key in SEARCHED if key in cell.row.search or key in cell.row.set}
            row["start %"] = 100 * (before / on_record - 1)
            found.append(row | {"change %": 100 * (np.mean(trial["valid"]) / before - 1)})
    return pd.DataFrame(found, columns=["dataset", "row", "chosen", *SEARCHED, "start %", "change %"])


def references(grid: Grid, folder: Path) -> pd.DataFrame:
    """What was chosen for each row that is trained from scratch, a row for each dataset that it was tried on.

    Columns dataset, row, trials (how many), the keys that were searched, validation NDCG@5 (all items, tuning seeds).
    """
    found = []
    for cell in grid.cells():
        path = cell.trials_file(folder)
        if cell.reference is not None or not path.exists():
            continue
        kept = read_json(path)
        chosen = kept["trials"][kept["chosen"]]
        config = cell.config(chosen["settings"], 0).model_dump()
        row = {"dataset": cell.dataset, "row": cell.name, "trials": len(kept["trials"])}
        row |= {key: _at(config, key) for key in cell.row.search}
        found.append(row | {"validation NDCG@5": np.mean(chosen["valid"])})
    return pd.DataFrame(found)


def _at(config: dict[str, Any], key: str) -> Any:
    group, name = key.split(".")
    return config[group][name]


def paired_seeds(
    after: Cell, before: Cell, table: pd.DataFrame, folder: Path, or_reference: bool = False
) -> list[tuple[str, str]]:
    """Files of the records (after, before) of each seed that both cells have.

    Of several with one seed, two that began at the same weights; where none did, two of the same device and precision;
    else those that each cell prefers. or_reference: an alignment that validates no better than its reference gives way
    to it, if that is on record. Raises InputError if they were computed on different editions of the dataset.
    """
    first, second = (cell.candidates(folder, table) for cell in (after, before))
    of_file = table.set_index("file")
    alike = [of_file["reference_weights"].fillna(of_file["weights"]), of_file["device"] + of_file["precision"]]
    pairs = {seed: _alike(first[seed], second[seed], alike) for seed in sorted(set(first) & set(second))}
    ledger.check_one_edition([file for pair in pairs.values() for file in pair], table)
    if or_reference:
        arms = zip((after, before), zip(*pairs.values(), strict=True)) if pairs else ()
        kept = [_or_reference(cell, dict(zip(pairs, files, strict=True)), table, folder) for cell, files in arms]
        return [tuple(arm[seed] for arm in kept) for seed in pairs]
    return list(pairs.values())


def _alike(first: list[str], second: list[str], in_what: list[pd.Series]) -> tuple[str, str]:
    """The first two, one of each list, that share a value by file, of the earliest of `in_what`; else the first."""
    pairs = [(one, other) for one in first for other in second]
    found = (pair for values in in_what for pair in pairs if values[pair[0]] == values[pair[1]])
    return next(found, pairs[0])


def _or_reference(cell: Cell, files: dict[int, str], table: pd.DataFrame, folder: Path) -> dict[int, str]:
    """The records, or those of the reference where they validate no better; what has none on record stays."""
    if cell.reference is None:
        return files
    starts, of_file = cell.reference.recorded(folder, table), table.set_index("file")
    valid, began, weights = (of_file[name] for name in ("valid.ndcg@5", "reference_weights", "weights"))
    kept = dict(files)
    for seed, file in files.items():
        start = starts.get(seed)
        apart = start and pd.notna(began[file]) and pd.notna(weights[start]) and began[file] != weights[start]
        if start and not apart and not valid[file] > valid[start]:
            kept[seed] = start
    return kept


def given_up(cell: Cell, table: pd.DataFrame, folder: Path) -> int:
    """In how many of its seeds an alignment validates no better than its reference."""
    files = cell.recorded(folder, table)
    return sum(file != files[seed] for seed, file in _or_reference(cell, files, table, folder).items())


def arms(files: Iterable[tuple[str, str]], folder: Path, column: str = "rank") -> tuple[np.ndarray, np.ndarray]:
    """NDCG@5 before and after, [S, U] each."""
    after, before = zip(*files, strict=True)
    return tuple(
        np.stack([metrics.ndcg(ledger.ranks(file, folder)[column].to_numpy()) for file in arm])
        for arm in (before, after)
    )  # fmt: skip


def crossed(files: list[tuple[str, str]], folder: Path, column: str = "rank") -> Comparison:
    """Change of NDCG@5 over records (after, before), seed for seed; raises InputError where it is undefined."""
    try:
        return crossed_change(*arms(files, folder, column))
    except ValueError as error:
        after, before = files[0]
        raise InputError(f"The records {after} and {before}, seed for seed, cannot be compared: {error}.") from None


def change(
    after: Cell, before: Cell, table: pd.DataFrame, folder: Path, measure: str = "ndcg@5", column: str = "rank"
) -> Comparison | None:
    """Change from one cell to another over the seeds that both have recorded; None where there are none.

    measure: ndcg@5 of test, in percent; planted_share, the share of suppression on hidden positives, in percent; or
    planted_drift, in logits. column: rank, or rank_masked for the history dropped; of ndcg@5 only. Raises InputError
    where a record lacks the measure, or a change is undefined.
    """
    files = paired_seeds(after, before, table, folder)
    if not files:
        return None
    if measure == "ndcg@5":
        return crossed(files, folder, column)
    of_file = table.set_index("file")
    if measure == "planted_share":
        values = of_file.reindex(columns=[measure])[measure]
    else:
        values = of_file["drift"].map(lambda drift: drift.get("planted", {}).get("difference", np.nan))
    now, then = (values[list(arm)] for arm in zip(*files, strict=True))
    if (missing := pd.concat([now, then]).isna()).any():
        raise InputError(f"The record {missing.idxmax()} lacks {measure}, which was to be measured where it ran.")
    return seed_change(then.to_numpy(), now.to_numpy(), relative=measure == "planted_share")


def changes(
    grid: Grid,
    pairs: Iterable[tuple[str, str]],
    table: pd.DataFrame,
    folder: Path,
    datasets: Iterable[str] = (),
    or_reference: bool = False,
) -> pd.DataFrame:
    """`change` of every pair of rows (after, before), on every dataset and under both protocols, as a table.

    or_reference: as in `paired_seeds`. Columns dataset, after, before, protocol, seeds, change %, low, high.
    """
    found, pairs = [], list(pairs)
    for dataset in datasets or grid.datasets:
        for after, before in pairs:
            cells = Cell(grid, dataset, after), Cell(grid, dataset, before)
            if not (grid.runs_on(after, dataset) and grid.runs_on(before, dataset)):
                continue
            if not (files := paired_seeds(*cells, table, folder, or_reference)):
                continue
            for protocol, column in ledger.PROTOCOLS.items():
                one = crossed(files, folder, column)
                found.append((dataset, after, before, protocol, len(files), one.estimate, one.low, one.high))
    return pd.DataFrame(
        found, columns=["dataset", "after", "before", "protocol", "seeds", "change %", "low", "high"]
    )  # fmt: skip


def whole(grid: Grid, found: pd.DataFrame) -> pd.DataFrame:
    """Of `changes` those of which every seed is on record that both rows declare."""
    declared = [
        len(set(grid.seeds_of(row.after, row.dataset)) & set(grid.seeds_of(row.before, row.dataset)))
        for row in found.itertuples()
    ]
    return found[found["seeds"] == declared]
