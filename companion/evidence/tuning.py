"""Settings are chosen on validation: every trial enters the ledger, the best one is what the reported runs take."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from companion.evidence.grid import CHOSEN, FINAL, PRIMARY, Experiment, Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, write_bytes, write_json
from rodpo_lite.settings import nested
from rodpo_lite.training import checkpoint


def choose(experiment: Experiment, runs: Path, ledger: Ledger) -> dict[str, Any]:
    """Choose the settings of a row by mean validation NDCG@5 over the tuning seeds, all items ranked.

    Every trial enters the ledger, as <dataset>.<row>.json in its folder `trials`, with the validation NDCG@5 of the
    reference that those of an alignment started from; the first of equals is chosen.
    Returns what was chosen. Raises InputError for a trial that has not been run or whose validation is not finite, and
    if the ledger holds others already.
    """
    trials = []
    for number, settings in enumerate(experiment.grid.trials(experiment.name)):
        records = [
            read_json(experiment.folder(runs) / f"trial-{number}" / f"seed-{seed}" / checkpoint.RUN)
            for seed in experiment.grid.tuning.seeds
        ]
        trials.append(
            {
                "settings": settings,
                "valid": [record["valid"][PRIMARY] for record in records],
                "valid_masked": [record["valid_masked"][PRIMARY] for record in records],
                "best_epoch": [record["best_epoch"] for record in records],
                "seconds": [record["seconds"] for record in records],
                "commit": records[0]["commit"],
            }
        )
    means = [float(np.mean(trial["valid"])) for trial in trials]
    if not np.isfinite(means).all():
        raise InputError(
            f"Trial {int(np.argmin(np.isfinite(means)))} of {experiment.name} on {experiment.dataset} has no finite "
            f"validation {PRIMARY}: narrow the search in the grid, so that it does not diverge."
        )
    chosen = int(np.argmax(means))
    kept = {
        "dataset": experiment.dataset,
        "row": experiment.name,
        "seeds": list(experiment.grid.tuning.seeds),
        CHOSEN: chosen,
    }
    if experiment.reference:
        starts = [experiment.reference.folder(runs) / FINAL / f"seed-{seed}" for seed in kept["seeds"]]
        kept["reference_valid"] = [read_json(start / checkpoint.RUN)["valid"][PRIMARY] for start in starts]
    kept["trials"], path = trials, experiment.trials_file(ledger)
    if path.exists() and kept | read_json(path) != kept:  # an older file names no reference
        raise InputError(f"{path} holds other trials of this row; the ledger is append-only.")
    write_json(path, kept)
    return trials[chosen]["settings"]


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
    rows = []
    for experiment in grid.experiments():
        path = experiment.trials_file(ledger)
        start = experiment.reference and experiment.reference.trials_file(ledger)
        if not path.exists() or start is None or not start.exists():
            continue
        kept, of_reference = read_json(path), read_json(start)
        on_record = np.mean(of_reference["trials"][of_reference["chosen"]]["valid"])
        before = np.mean(kept["reference_valid"]) if "reference_valid" in kept else on_record
        for number, trial in enumerate(kept["trials"]):
            config = experiment.config(trial["settings"], 0).model_dump()
            row = {"dataset": experiment.dataset, "row": experiment.name, "chosen": number == kept["chosen"]}
            row |= {
                key: _at(config, key)
                for key in SEARCHED
                if key in experiment.method.search or key in experiment.method.set
            }
            row["start %"] = 100 * (before / on_record - 1)
            rows.append(row | {"change %": 100 * (np.mean(trial["valid"]) / before - 1)})
    return pd.DataFrame(rows, columns=["dataset", "row", "chosen", *SEARCHED, "start %", "change %"])


def references(grid: Grid, ledger: Ledger) -> pd.DataFrame:
    """What was chosen for each row that is trained from scratch, a row for each dataset that it was tried on.

    Columns dataset, row, trials (how many), the keys that were searched, validation NDCG@5 (all items, tuning seeds).
    """
    rows = []
    for experiment in grid.experiments():
        path = experiment.trials_file(ledger)
        if experiment.reference is not None or not path.exists():
            continue
        kept = read_json(path)
        chosen = kept["trials"][kept["chosen"]]
        config = experiment.config(chosen["settings"], 0).model_dump()
        row = {"dataset": experiment.dataset, "row": experiment.name, "trials": len(kept["trials"])}
        row |= {key: _at(config, key) for key in experiment.method.search}
        rows.append(row | {"validation NDCG@5": np.mean(chosen["valid"])})
    return pd.DataFrame(rows)


def _at(config: dict[str, Any], key: str) -> Any:
    group, name = key.split(".")
    return config[group][name]
