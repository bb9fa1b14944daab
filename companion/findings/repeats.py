"""References that were trained once more: which rows began at one, and how far a run moves with it."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from scipy.stats import chi2

from companion.evidence.comparison import quality
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings.story import listed
from rodpo_lite.evaluation.statistics import seed_mean

MARK = "†"


def began_elsewhere(grid: Grid, ledger: Ledger, datasets: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Dataset and row of every alignment whose runs began at a reference other than the one on record.

    datasets: by default the real ones. The other one has the same settings and seed.
    """
    known, began = set(ledger.records["weights"].dropna()), ledger.by_file["reference_weights"]
    return [
        (experiment.dataset, experiment.name)
        for experiment, files in _alignments(grid, ledger, datasets)
        if not set(began.reindex(seed[0] for seed in files.values()).dropna()) <= known
    ]


def told(grid: Grid, ledger: Ledger) -> str:
    """The same in words, by how many rows of which dataset, sweeps left out; empty where there are none."""
    rows = [(dataset, row) for dataset, row in began_elsewhere(grid, ledger) if grid.rows[row].tier != "C"]
    if not rows:
        return ""
    on = pd.Series([dataset for dataset, _ in rows]).value_counts(sort=False)
    counted = listed([f"{count} on {grid.label(dataset)}" for dataset, count in on.items()])
    recorded = [Experiment(grid, *row).recorded(ledger).values() for row in rows]
    on_gpu = _trained_on(ledger, [next(iter(files)) for files in recorded])
    return (
        f"Rows marked {MARK} in the tables below, {counted}{on_gpu}, began at a reference that was trained once more "
        "with the same settings and seeds, for the ledger keeps no weights. Where a machine rounds otherwise, that is "
        "a reference with other luck, so that a comparison with other rows is less sharp; where both rows of a pair "
        "have runs from the same one, those are compared."
    )


def _trained_on(ledger: Ledger, files: list[str]) -> str:
    """Such as `, 80 of them on a GPU (NVIDIA H200)`; empty where none was."""
    found = ledger.by_file["accelerator"].reindex(files).dropna()
    count = "all" if len(found) == len(files) else len(found)
    return f", {count} of them on a GPU ({listed(sorted(set(found)))})" if len(found) else ""


def moves(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Runs that are on record more than once, from references that were trained apart.

    Columns dataset, row, seed, file and change %, that of test NDCG@5, all items ranked, against the run that counts.
    """
    score, found = ledger.by_file["test.ndcg@5"], []
    for experiment, files in _alignments(grid, ledger):
        for seed, (first, *others) in files.items():
            moved = [(other, 100 * (score[other] / score[first] - 1)) for other in others]
            found += [(experiment.dataset, experiment.name, seed, *one) for one in moved]
    return pd.DataFrame(found, columns=["dataset", "row", "seed", "file", "change %"])


def how_far(grid: Grid, ledger: Ledger) -> str:
    """`moves` in words, beside what two seeds of the same rows differ by; empty where nothing is on record twice."""
    found = moves(grid, ledger)
    if len(found) < 2:
        return ""
    rows = found[["dataset", "row"]].drop_duplicates()
    of_rows = quality(grid, ledger).merge(rows)
    apart = 100 * np.sqrt(2 * ((of_rows["deviation"] / of_rows["test"]) ** 2).mean())
    mean, deviation = seed_mean(found["change %"].to_numpy()), found["change %"].std()
    names = listed([f"`{row}`" for row in rows["row"].unique()])
    where = listed([grid.label(dataset) for dataset in rows["dataset"].unique()])
    on_gpu = _trained_on(ledger, found["file"].tolist())
    low, high = deviation * np.sqrt((len(found) - 1) / chi2.ppf([0.975, 0.025], len(found) - 1))
    return (
        f"{len(found)} runs of {names} on {where} are on record once more, from a reference that was trained again "
        f"with the same settings and seed{on_gpu}. Test NDCG@5, all items ranked, moves by {mean.text(1)} on average; "
        f"from run to run the deviation of that move is {deviation:.1f} % [{low:.1f} %, {high:.1f} %], and in these "
        f"rows that of the difference of two seeds is {apart:.1f} %."
    )


def _alignments(
    grid: Grid, ledger: Ledger, datasets: Iterable[str] = ()
) -> Iterator[tuple[Experiment, dict[int, list[str]]]]:
    """Cells that start from a reference, with their records; of rows with the same runs the first."""
    seen: set[str] = set()
    for experiment in grid.experiments(tuple(datasets or grid.real)):
        files = experiment.candidates(ledger) if experiment.reference else {}
        if files and not seen & {seed[0] for seed in files.values()}:
            yield experiment, files
        seen.update(file for seed in files.values() for file in seed)
