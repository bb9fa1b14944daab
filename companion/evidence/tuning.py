"""Settings are chosen on validation: every trial enters the ledger, the best one is what the reported runs take."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from companion.evidence.grid import CHOSEN, FINAL, PRIMARY, Cell
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, write_bytes, write_json
from rodpo_lite.settings import nested
from rodpo_lite.training import checkpoint


def choose(cell: Cell, runs: Path, ledger_folder: Path) -> dict[str, Any]:
    """Choose the settings of a row by mean validation NDCG@5 over the tuning seeds, all items ranked.

    Every trial enters the ledger, as <dataset>.<row>.json in its folder `trials`, with the validation NDCG@5 of the
    reference that those of an alignment started from; the first of equals is chosen.
    Returns what was chosen. Raises InputError for a trial that has not been run or whose validation is not finite, and
    if the ledger holds others already.
    """
    trials = []
    for number, settings in enumerate(cell.grid.trials(cell.name)):
        found = [
            read_json(cell.folder(runs) / f"trial-{number}" / f"seed-{seed}" / checkpoint.RUN)
            for seed in cell.grid.tuning.seeds
        ]
        trials.append(
            {
                "settings": settings,
                "valid": [record["valid"][PRIMARY] for record in found],
                "valid_masked": [record["valid_masked"][PRIMARY] for record in found],
                "best_epoch": [record["best_epoch"] for record in found],
                "seconds": [record["seconds"] for record in found],
                "commit": found[0]["commit"],
            }
        )
    means = [float(np.mean(trial["valid"])) for trial in trials]
    if not np.isfinite(means).all():
        raise InputError(
            f"Trial {int(np.argmin(np.isfinite(means)))} of {cell.name} on {cell.dataset} has no finite validation "
            f"{PRIMARY}: narrow the search in the grid, so that it does not diverge."
        )
    chosen = int(np.argmax(means))
    kept = {"dataset": cell.dataset, "row": cell.name, "seeds": list(cell.grid.tuning.seeds), CHOSEN: chosen}
    if cell.reference:
        starts = [cell.reference.folder(runs) / FINAL / f"seed-{seed}" / checkpoint.RUN for seed in kept["seeds"]]
        kept["reference_valid"] = [read_json(start)["valid"][PRIMARY] for start in starts]
    kept["trials"], path = trials, cell.trials_file(ledger_folder)
    if path.exists() and kept | read_json(path) != kept:  # an older file names no reference
        raise InputError(f"{path} holds other trials of this row; the ledger is append-only.")
    write_json(path, kept)
    return trials[chosen]["settings"]


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write a configuration file for `rodpo train` and `rodpo align`; one that says the same stays as it is."""
    text = yaml.safe_dump(nested(settings), sort_keys=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_bytes(path, text.encode())
