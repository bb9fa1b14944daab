"""Rows of the grid side by side, from what the ledger holds: how good, how different, and for whom."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import Comparison, crossed_change, seed_change, seed_mean

NDCG = {  # columns of `quality`, and what a record calls them
    "validation": "valid",
    "test": "test",
    "validation_masked": "valid_masked",
    "test_masked": "test_masked",
}


def quality(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A row for each baseline and each experiment with records: dataset, row, seeds (how many), mean NDCG@5.

    A baseline, which is not trained, is called `<name> baseline`, for a row of the grid may
    have its name. Columns validation and test rank all items, validation_masked and test_masked drop the history;
    deviation is that of test between seeds, NaN for one. A row whose runs are those of another is left out.
    """
    records = ledger.records
    baselines = records[(records["stage"] == "baseline") & records["dataset"].isin(grid.datasets)]
    parts = [
        (dataset, f"{name} baseline", part) for (dataset, name), part in baselines.groupby(["dataset", "strategy"])
    ]
    for experiment, files in _distinct(grid, ledger):
        parts.append((experiment.dataset, experiment.name, ledger.by_file.loc[list(files.values())]))
    rows = []
    for dataset, name, runs in parts:
        row = {"dataset": dataset, "row": name, "seeds": len(runs)}
        row |= {column: runs[f"{part}.ndcg@5"].mean() for column, part in NDCG.items()}
        rows.append(row | {"deviation": runs["test.ndcg@5"].std(), "seconds": runs["seconds"].mean()})
    columns = ["dataset", "row", "seeds", *NDCG, "deviation", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def complete(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """Of `quality` the baselines, and the rows of which every seed is on record that they declare."""
    enough = [
        row.row not in grid.rows or row.seeds == len(grid.seeds_of(row.row, row.dataset)) for row in table.itertuples()
    ]
    return table[np.array(enough, bool)]


def _distinct(grid: Grid, ledger: Ledger) -> Iterator[tuple[Experiment, dict[int, str]]]:
    """Every experiment with its records, by seed; of rows with the same settings, and so the same runs, the first."""
    seen = set()
    for experiment in grid.experiments():
        files = experiment.recorded(ledger)
        if files and not seen & set(files.values()):
            yield experiment, files
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


def mechanism(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What selection did in training, a row for each recorded run of an alignment that rejects something.

    Columns dataset, row, seed; per 10,000 draws, rejected `hidden` purchases and the user's `validation` item; of all
    suppression, the part `on_hidden`, per 10,000; `past`, percent of draws on what the user has already; `same`,
    percent of draws that repeat the position's last one; `push`, mean suppression; `pushed_hidden`, the suppression of
    hidden purchases in 10,000 draws, which is the product of push and share; `drift` and `validation_drift` of
    hidden purchases and of validation items against their neighbours, relative to the row that the grid names, in
    logits. What was not measured is missing, and so is `validation` where other later items may be rejected, too. A row
    whose runs are those of another is left out.
    """
    return ledger.once(grid, mechanism, lambda: _mechanism(grid, ledger)).copy()


def _mechanism(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    by_file, rows = ledger.by_file, []
    for experiment, files in _distinct(grid, ledger):
        for seed, file in files.items():
            run = by_file.loc[file]
            if not experiment.reference or run["strategy"] == "none":
                continue
            row = {"dataset": experiment.dataset, "row": experiment.name, "seed": seed}
            row |= {name: scale * run.get(key, np.nan) for name, (key, scale) in WHAT_SELECTION_DID.items()}
            if run["exclude"] != "train":  # then later purchases are among them
                row["validation"] = np.nan
            row[PUSHED] = row["push"] * row["on_hidden"]
            row |= {name: run["drift"].get(key, {}).get("difference", np.nan) for name, key in DRIFTS.items()}
            rows.append(row)
    return pd.DataFrame(rows, columns=["dataset", "row", "seed", *WHAT_SELECTION_DID, PUSHED, *DRIFTS])


def require_rows(counted: pd.DataFrame, dataset: str, rows: Iterable[str]) -> pd.DataFrame:
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
    rows = []
    for key, part in runs.dropna(subset=column).groupby(["dataset", "row"], sort=False):
        one = seed_mean(part[column].to_numpy())
        rows.append((*key, len(part), one.estimate, one.low, one.high))
    return pd.DataFrame(rows, columns=["dataset", "row", "seeds", "mean", "low", "high"])


def paired_seeds(
    after: Experiment, before: Experiment, ledger: Ledger, or_reference: bool = False
) -> list[tuple[str, str]]:
    """Files of the records (after, before) of each seed that both experiments have.

    Of several with one seed, two that began at the same weights; where none did, two of the same device and precision;
    else those that each experiment prefers. or_reference: an alignment that validates no better than its reference
    gives way to it, if that is on record. Raises InputError if they were computed on different editions of the dataset.
    """
    first, second = (experiment.candidates(ledger) for experiment in (after, before))
    by_file = ledger.by_file
    alike = [by_file["reference_weights"].fillna(by_file["weights"]), by_file["device"] + by_file["precision"]]
    pairs = {seed: _alike(first[seed], second[seed], alike) for seed in sorted(set(first) & set(second))}
    ledger.check_one_edition([file for pair in pairs.values() for file in pair])
    if or_reference:
        arms = zip((after, before), zip(*pairs.values(), strict=True)) if pairs else ()
        kept = [_or_reference(experiment, dict(zip(pairs, files, strict=True)), ledger) for experiment, files in arms]
        return [tuple(arm[seed] for arm in kept) for seed in pairs]
    return list(pairs.values())


def _alike(first: list[str], second: list[str], in_what: list[pd.Series]) -> tuple[str, str]:
    """The first two, one of each list, that share a value by file, of the earliest of `in_what`; else the first."""
    pairs = [(one, other) for one in first for other in second]
    alike = (pair for values in in_what for pair in pairs if values[pair[0]] == values[pair[1]])
    return next(alike, pairs[0])


def _or_reference(experiment: Experiment, files: dict[int, str], ledger: Ledger) -> dict[int, str]:
    """The records, or those of the reference where they validate no better; what has none on record stays."""
    if experiment.reference is None:
        return files
    starts, by_file = experiment.reference.recorded(ledger), ledger.by_file
    valid, began, weights = (by_file[name] for name in ("valid.ndcg@5", "reference_weights", "weights"))
    kept = dict(files)
    for seed, file in files.items():
        start = starts.get(seed)
        apart = start and pd.notna(began[file]) and pd.notna(weights[start]) and began[file] != weights[start]
        if start and not apart and not valid[file] > valid[start]:
            kept[seed] = start
    return kept


def given_up(experiment: Experiment, ledger: Ledger) -> int:
    """In how many of its seeds an alignment validates no better than its reference."""
    files = experiment.recorded(ledger)
    return sum(file != files[seed] for seed, file in _or_reference(experiment, files, ledger).items())


def arms(files: Iterable[tuple[str, str]], ledger: Ledger, column: str = "rank") -> tuple[np.ndarray, np.ndarray]:
    """NDCG@5 before and after, [S, U] each."""
    after, before = zip(*files, strict=True)
    return tuple(
        np.stack([metrics.ndcg(ledger.ranks(file)[column].to_numpy()) for file in arm])
        for arm in (before, after)
    )  # fmt: skip


def crossed(files: list[tuple[str, str]], ledger: Ledger, column: str = "rank") -> Comparison:
    """Change of NDCG@5 over records (after, before), seed for seed; raises InputError where it is undefined."""
    try:
        return crossed_change(*arms(files, ledger, column))
    except ValueError as error:
        after, before = files[0]
        raise InputError(f"The records {after} and {before}, seed for seed, cannot be compared: {error}.") from None


def change(
    after: Experiment, before: Experiment, ledger: Ledger, measure: str = "ndcg@5", column: str = "rank"
) -> Comparison | None:
    """Change from one experiment to another over the seeds that both have recorded; None where there are none.

    measure: ndcg@5 of test, in percent; planted_share, the share of suppression on hidden positives, in percent; or
    planted_drift, in logits. column: rank, or rank_masked for the history dropped; of ndcg@5 only. Raises InputError
    where a record lacks the measure, or a change is undefined.
    """
    files = paired_seeds(after, before, ledger)
    if not files:
        return None
    if measure == "ndcg@5":
        return crossed(files, ledger, column)
    by_file = ledger.by_file
    if measure == "planted_share":
        values = by_file.reindex(columns=[measure])[measure]
    else:
        values = by_file["drift"].map(lambda drift: drift.get("planted", {}).get("difference", np.nan))
    now, then = (values[list(arm)] for arm in zip(*files, strict=True))
    if (missing := pd.concat([now, then]).isna()).any():
        raise InputError(f"The record {missing.idxmax()} lacks {measure}, which was to be measured where it ran.")
    return seed_change(then.to_numpy(), now.to_numpy(), relative=measure == "planted_share")


def changes(
    grid: Grid,
    pairs: Iterable[tuple[str, str]],
    ledger: Ledger,
    datasets: Iterable[str] = (),
    or_reference: bool = False,
) -> pd.DataFrame:
    """`change` of every pair of rows (after, before), on every dataset and under both protocols, as a table.

    or_reference: as in `paired_seeds`. Columns dataset, after, before, protocol, seeds, change %, low, high.
    """
    rows, pairs = [], list(pairs)
    for dataset in datasets or grid.datasets:
        for after, before in pairs:
            experiments = Experiment(grid, dataset, after), Experiment(grid, dataset, before)
            if not (grid.runs_on(after, dataset) and grid.runs_on(before, dataset)):
                continue
            if not (files := paired_seeds(*experiments, ledger, or_reference)):
                continue
            for protocol, column in PROTOCOLS.items():
                one = crossed(files, ledger, column)
                rows.append((dataset, after, before, protocol, len(files), one.estimate, one.low, one.high))
    return pd.DataFrame(
        rows, columns=["dataset", "after", "before", "protocol", "seeds", "change %", "low", "high"]
    )  # fmt: skip


def complete_pairs(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """Of `changes` those of which every seed is on record that both rows declare."""
    declared = [
        len(set(grid.seeds_of(row.after, row.dataset)) & set(grid.seeds_of(row.before, row.dataset)))
        for row in table.itertuples()
    ]
    return table[table["seeds"] == declared]
