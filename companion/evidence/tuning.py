"""Settings are chosen on validation: every trial enters the ledger, the best one is what the reported runs take."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from companion.evidence.grid import CHOSEN, FINAL, PRIMARY, STUDY, Experiment, Grid, values
from companion.evidence.ledger import Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, write_bytes, write_json
from rodpo_lite.settings import nested
from rodpo_lite.training import checkpoint


def choose(experiment: Experiment, runs: Path, ledger: Ledger) -> dict[str, Any]:
    """Choose the settings of a row by mean validation NDCG@5 over the tuning seeds, all items ranked; returns them.

    Every trial enters the ledger, as <dataset>.<row>.json in its folder `trials`, with the validation NDCG@5 of the
    reference that those of an alignment started from; the first of equals is chosen. One that a study stopped, or that
    diverged there, has a curve alone and cannot be. Raises InputError for a trial that
    has not been run or whose validation is not finite, and if the ledger holds others already.
    """
    seeds = list(experiment.grid.tuning.seeds)
    if experiment.method.study:
        trials = read_json(experiment.folder(runs) / STUDY)["trials"]
    else:
        trials = list(_finished(experiment, runs))
    means = [float(np.mean(trial.get("valid", -1))) for trial in trials]
    if not np.isfinite(means).all():
        raise InputError(
            f"Trial {int(np.argmin(np.isfinite(means)))} of {experiment.name} on {experiment.dataset} has no finite "
            f"validation {PRIMARY}: narrow the search in the grid, so that it does not diverge."
        )
    chosen = int(np.argmax(means))
    kept = {"dataset": experiment.dataset, "row": experiment.name, "seeds": seeds, CHOSEN: chosen}
    if experiment.reference:
        starts = _runs(experiment.reference.folder(runs) / FINAL, seeds)
        kept["reference_valid"] = [start["valid"][PRIMARY] for start in starts]
    if experiment.method.study:
        kept["study"] = experiment.declared_study
    kept["trials"], path = trials, experiment.trials_file(ledger)
    if path.exists() and kept | read_json(path) != kept:  # an older file names no reference
        raise InputError(f"{path} holds other trials of this row; the ledger is append-only.")
    write_json(path, kept)
    for name in (f"seed-{seed}" for seed in seeds):  # what alignments are tuned from: the very run that was chosen
        if not (final := experiment.folder(runs) / FINAL / name).exists():
            shutil.copytree(experiment.folder(runs) / f"trial-{chosen}" / name, final)
    return trials[chosen]["settings"]


def _finished(experiment: Experiment, runs: Path) -> Iterator[dict[str, Any]]:
    """What became of each declared trial."""
    for number, settings in enumerate(experiment.grid.trials(experiment.name)):
        records = _runs(experiment.folder(runs) / f"trial-{number}", list(experiment.grid.tuning.seeds))
        trial = {"settings": settings}
        trial |= {part: [record[part][PRIMARY] for record in records] for part in ("valid", "valid_masked")}
        trial |= {key: [record[key] for record in records] for key in ("best_epoch", "seconds")}
        yield trial | {"commit": records[0]["commit"]}


def _runs(folder: Path, seeds: list[int]) -> list[dict[str, Any]]:
    return [read_json(folder / f"seed-{seed}" / checkpoint.RUN) for seed in seeds]


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write a configuration file for `rodpo train` and `rodpo align`; one that says the same stays as it is."""
    text = yaml.safe_dump(nested(settings), sort_keys=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_bytes(path, text.encode())


SEARCHED = ("training.learning_rate", "training.dropout", "training.lambda_ce", "loss.beta", "negatives.k")


def trials(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """Every setting that was tried for an alignment: dataset, row, chosen, the keys searched, start %, change %.

    change % is that of validation NDCG@5, all items ranked, against the reference that the trials started from, mean
    over the tuning seeds; start % is that of this reference against the one on record, 0 where it is that one. A key
    that a row has no use for is missing.
    """
    rows, kept = [], _kept(grid, ledger)
    for experiment, tried in kept.items():
        if experiment.reference not in kept:
            continue
        on_record = np.mean(_chosen(kept[experiment.reference])["valid"])
        before = np.mean(tried["reference_valid"]) if "reference_valid" in tried else on_record
        used = [key for key in SEARCHED if key in experiment.method.search | experiment.method.set]
        for trial in (trial for trial in tried["trials"] if "valid" in trial):
            row = {"dataset": experiment.dataset, "row": experiment.name, "chosen": trial is _chosen(tried)}
            row |= values(experiment.method, trial["settings"], used) | {"start %": 100 * (before / on_record - 1)}
            rows.append(row | {"change %": 100 * (np.mean(trial["valid"]) / before - 1)})
    return pd.DataFrame(rows, columns=["dataset", "row", "chosen", *SEARCHED, "start %", "change %"])


def references(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What was chosen for each row trained from scratch: dataset, row, how many trials, the keys searched, NDCG@5."""
    return pd.DataFrame(
        {"dataset": experiment.dataset, "row": experiment.name, "trials": len(tried["trials"])}
        | values(experiment.method, _chosen(tried)["settings"], experiment.method.search)
        | {"validation NDCG@5": np.mean(_chosen(tried)["valid"])}
        for experiment, tried in _kept(grid, ledger).items()
        if experiment.reference is None
    )


def _kept(grid: Grid, ledger: Ledger) -> dict[Experiment, dict[str, Any]]:
    """What the ledger holds of the trials of each experiment."""
    files = {experiment: experiment.trials_file(ledger) for experiment in grid.experiments()}
    return {experiment: read_json(file) for experiment, file in files.items() if file.exists()}


def _chosen(tried: dict[str, Any]) -> dict[str, Any]:
    return tried["trials"][tried[CHOSEN]]
