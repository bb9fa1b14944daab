"""Rows of the grid side by side, from what the ledger holds: how good, how different, and for whom."""

from collections.abc import Iterable, Sequence
from itertools import chain, product

import numpy as np
import pandas as pd

from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS, Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import Comparison, crossed_change, seed_change, seed_mean

Pair = tuple[str, str]  # after, before
RANKED, DROPPED = PROTOCOLS
# columns of `quality`, and what a record calls them
NDCG = {"validation": "valid", "test": "test", "validation_masked": "valid_masked", "test_masked": "test_masked"}


def quality(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """A row for each baseline and each experiment with records: dataset, row, seeds (how many), mean NDCG@5.

    A baseline is called `<name> baseline`, for a row of the grid may have its name. Columns validation and test rank
    all items, validation_masked and test_masked drop the history; deviation is that of test between seeds, NaN for one.
    A row whose runs are those of another is left out.
    """
    records = ledger.records
    baselines = records[(records["stage"] == "baseline") & records["dataset"].isin(grid.datasets)]
    baselines = baselines.sort_values(["dataset", "strategy"]).assign(row=lambda runs: runs["strategy"] + " baseline")
    runs = pd.concat([baselines, _runs(grid, ledger)]).groupby(["dataset", "row"], sort=False)
    means = {column: (f"{part}.ndcg@5", pd.Series.mean) for column, part in NDCG.items()}
    return runs.agg(seeds=("seed", "size"), **means, deviation=("test.ndcg@5", pd.Series.std)).reset_index()


def complete(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """Of `quality` the baselines, and the rows of which every seed is on record that they declare."""
    runs = zip(table["row"], table["dataset"], table["seeds"], strict=True)
    enough = [row not in grid.rows or seeds == len(grid.seeds_of(row, on)) for row, on, seeds in runs]
    return table[np.array(enough, bool)]


def _runs(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """The records of every experiment, `row` its name; of rows with the same settings, and so the same runs, one."""
    rows: dict[str, str] = {}
    for experiment in grid.experiments():
        files = experiment.recorded(ledger).values()
        if rows.keys().isdisjoint(files):
            rows |= dict.fromkeys(files, experiment.name)
    return ledger.by_file.loc[list(rows)].assign(row=list(rows.values()))


WHAT_SELECTION_DID = {  # the name in a record, and the scale of the table
    "hidden": ("planted_rate", 1e4),
    "on_hidden": ("planted_share", 1e4),
    "validation": ("future_rate", 1e4),
    "past": ("past_rate", 100),
    "same": ("repeat_rate", 100),
    "push": ("suppression", 1),
    "drift": ("planted_drift", 1),
    "validation_drift": ("future_drift", 1),
}
PUSHED = "pushed_hidden"


def mechanism(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What selection did in training, a row for each recorded run of an alignment that rejects something.

    Columns dataset, row, seed; per 10,000 draws, rejected `hidden` purchases and the user's `validation` item; of all
    suppression, the part `on_hidden`, per 10,000; `past`, percent of draws on what the user has already; `same`,
    percent of draws that repeat the position's last one; `push`, mean suppression; `pushed_hidden`, push times
    on_hidden; `drift` and `validation_drift` of hidden purchases and of validation items against their neighbours,
    relative to the row that the grid names, in logits. What was not measured is missing, and so is `validation` where
    other later items may be rejected, too. A row whose runs are those of another is left out.
    """
    runs = _runs(grid, ledger)
    runs = runs[(runs["stage"] == "align") & (runs["strategy"] != "none")].reset_index()
    table = runs[["dataset", "row", "seed"]].copy()
    for name, (measured, scale) in WHAT_SELECTION_DID.items():
        table[name] = scale * runs.get(measured, np.nan)
    table["validation"] = table["validation"].where(runs["exclude"] == "train")  # else later purchases are among them
    table.insert(table.columns.get_loc("drift"), PUSHED, table["push"] * table["on_hidden"])
    return table


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


def paired_seeds(after: Experiment, before: Experiment, ledger: Ledger, or_reference: bool = False) -> list[Pair]:
    """Files of the records (after, before) of each seed that both experiments have, as `alike_seeds` chooses them.

    or_reference: an alignment that validates no better than its reference gives way to it, if that is on record.
    """
    pairs = alike_seeds((after, before), ledger)
    if or_reference and pairs:
        sides = zip((after, before), zip(*pairs, strict=True), strict=True)
        return list(zip(*(_or_reference(side, files, ledger) for side, files in sides), strict=True))
    return pairs


def alike_seeds(experiments: Sequence[Experiment], ledger: Ledger) -> list[tuple[str, ...]]:
    """Files of the records of each seed that all of these experiments have, one for each experiment.

    Of several with one seed, those that began at the same weights, or as many of them as can be; then those of the same
    device and precision; then those that each experiment prefers. Raises InputError if they were computed on different
    editions of the dataset.
    """
    candidates = [experiment.candidates(ledger) for experiment in experiments]
    by_file = ledger.by_file
    in_what = [by_file["reference_weights"].fillna(by_file["weights"]), by_file["device"] + by_file["precision"]]
    chosen = [
        _alike([of_one[seed] for of_one in candidates], in_what)
        for seed in sorted(set.intersection(*map(set, candidates)))
    ]
    ledger.check_one_edition(chain.from_iterable(chosen))
    return chosen


def _alike(files: list[list[str]], in_what: list[pd.Series]) -> tuple[str, ...]:
    """The first choice, one of each list, with the fewest different values by file, of the earliest of `in_what`."""

    def different(choice: tuple[str, ...]) -> list[int]:
        values = [of_file[list(choice)] for of_file in in_what]
        return [one.nunique() + int(one.isna().sum()) for one in values]

    return min(product(*files), key=different)


def _or_reference(experiment: Experiment, files: Iterable[str], ledger: Ledger) -> list[str]:
    """The records, or those of the reference where they validate no better; what has none on record stays."""
    if experiment.reference is None:
        return list(files)
    runs = ledger.by_file.loc[list(files)]
    references = runs["seed"].map(experiment.reference.recorded(ledger))
    starts = ledger.by_file.reindex(references).set_axis(runs.index)
    began, weights = runs["reference_weights"], starts["weights"]
    elsewhere = began.notna() & weights.notna() & (began != weights)
    stays = references.isna() | elsewhere | (runs["valid.ndcg@5"] > starts["valid.ndcg@5"])
    return references.mask(stays, runs.index.to_series()).tolist()


def given_up(experiment: Experiment, ledger: Ledger) -> int:
    """In how many of its seeds an alignment validates no better than its reference."""
    files = list(experiment.recorded(ledger).values())
    return sum(file != kept for file, kept in zip(files, _or_reference(experiment, files, ledger), strict=True))


def arms(files: Iterable[Pair], ledger: Ledger, column: str = "rank") -> tuple[np.ndarray, np.ndarray]:
    """NDCG@5 before and after, [S, U] each."""
    ndcg = [[metrics.ndcg(ledger.ranks(file)[column].to_numpy()) for file in pair] for pair in files]
    after, before = np.stack(ndcg, axis=1)
    return before, after


def crossed(files: list[Pair], ledger: Ledger, column: str = "rank") -> Comparison:
    """Change of NDCG@5 over records (after, before), seed for seed; raises InputError where it is undefined."""
    try:
        return crossed_change(*arms(files, ledger, column))
    except ValueError as error:
        after, before = files[0]
        raise InputError(f"The records {after} and {before}, seed for seed, cannot be compared: {error}.") from None


def change(
    after: Experiment, before: Experiment, ledger: Ledger, measure: str = "ndcg@5", protocol: str = RANKED,
    or_reference: bool = False,
) -> Comparison:  # fmt: skip
    """Change from one experiment to another over the seeds that both have recorded.

    measure: ndcg@5 of test, in percent; planted_share, the share of suppression on hidden positives, in percent; or
    planted_drift, in logits. protocol: of ndcg@5. or_reference: as in `paired_seeds`. Raises InputError where a record
    lacks the measure, or a change is undefined.
    """
    files = paired_seeds(after, before, ledger, or_reference)
    if measure == "ndcg@5":
        return crossed(files, ledger, PROTOCOLS[protocol])
    values = ledger.by_file.reindex(columns=[measure])[measure]
    now, then = (values[list(arm)] for arm in zip(*files, strict=True))
    if (missing := pd.concat([now, then]).isna()).any():
        raise InputError(f"The record {missing.idxmax()} lacks {measure}, which was to be measured where it ran.")
    return seed_change(then.to_numpy(), now.to_numpy(), relative=measure == "planted_share")


def changes(
    grid: Grid, pairs: Iterable[Pair] | dict[str, Pair], ledger: Ledger, datasets: Iterable[str] = (),
    protocols: Iterable[str] = tuple(PROTOCOLS), *, or_reference: bool = False, partial: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """`change` of pairs of rows (after, before) of which every seed is on record that both declare, as a table.

    pairs: by label, or else `after over before` is the label; undeclared rows are passed over. datasets: by default
    those in which nothing is hidden. or_reference: as in `paired_seeds`. partial: also pairs that lack seeds. Columns
    dataset, what (the label), after, before, protocol, seeds, change %, low, high.
    """
    labels = (
        pairs if isinstance(pairs, dict) else {f"{after} over {before}": (after, before) for after, before in pairs}
    )
    rows = []
    for dataset, (what, pair) in product(datasets or grid.real, labels.items()):
        if not all(row in grid.rows and grid.runs_on(row, dataset) for row in pair):
            continue
        after, before = (Experiment(grid, dataset, row) for row in pair)
        files = paired_seeds(after, before, ledger, or_reference)
        enough = partial or len(files) == len({*after.seeds} & {*before.seeds})
        for protocol in protocols if files and enough else ():
            one = crossed(files, ledger, PROTOCOLS[protocol])
            rows.append((dataset, what, *pair, protocol, len(files), one.estimate, one.low, one.high))
    columns = ["dataset", "what", "after", "before", "protocol", "seeds", "change %", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
