"""What of the grid is still to be done, how long that takes, and Snakemake to do it.

A plan is fixed when it is made: plan.json in the folder of runs says for each cell whether it still has to be tuned and
which reported seeds are not in the ledger yet. workflow/Snakefile reads nothing else.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from companion.evidence import ledger
from companion.evidence.grid import FINAL, Cell, Grid
from companion.evidence.tuning import write_settings
from rodpo_lite.errors import InputError
from rodpo_lite.files import write_json

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
GRID = WORKFLOW / "grid.yaml"
PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """The cells that are asked for, against what the ledger holds; seeds: of the reported ones only these, if any."""

    grid_file: Path
    grid: Grid
    cells: list[Cell]
    runs: Path
    ledger: Path
    seeds: tuple[int, ...] = ()

    def todo(self) -> list[dict[str, Any]]:
        """Cells with something left to do: whether they are to be tuned, and the seeds that are to be reported."""
        table, found = _records(self.ledger), []
        for cell in self.cells:
            recorded = cell.recorded(self.ledger, table)
            seeds = [seed for seed in cell.seeds if seed not in recorded and seed in (self.seeds or cell.seeds)]
            if seeds:
                found.append(
                    {"dataset": cell.dataset, "row": cell.name, "seeds": seeds, "tune": self._is_to_tune(cell)}
                )
        return found

    def summary(self, measured: Path | None = None) -> pd.DataFrame:
        """A row for each cell with work left: trials, runs to report, and minutes, from what took how long before.

        Minutes are those of one run after the other on one core of a CPU, as the records of `measured` have it, by
        default the plan's own ledger, NaN where nothing like it was measured; evaluations and the references that have
        to be trained again are not in them.
        """
        table, rows = _records(measured or self.ledger), []
        for entry in self.todo():
            cell = Cell(self.grid, entry["dataset"], entry["row"])
            trials = len(self.grid.trials(cell.name)) * len(self.grid.tuning.seeds) if entry["tune"] else 0
            seconds = _seconds_of_one(cell, table)
            minutes = (trials + len(entry["seeds"])) * seconds / 60
            row = {"dataset": cell.dataset, "row": cell.name, "tier": cell.row.tier}
            rows.append(row | {"trials": trials, "runs": len(entry["seeds"]), "minutes": minutes})
        return pd.DataFrame(rows, columns=["dataset", "row", "tier", "trials", "runs", "minutes"])

    def write(self, data: Path, replicas: int, precision: str | None = None) -> Path:
        """Write plan.json and every configuration that is known by now into the folder of runs."""
        todo = self.todo()
        needed = {(cell.dataset, cell.name): cell for cell in self._needed(todo)}
        for cell in needed.values():
            if self._is_to_tune(cell):
                for number, settings in enumerate(self.grid.trials(cell.name)):
                    write_settings(cell.folder(self.runs) / f"trial-{number}" / "config.yaml", settings)
            elif not self._untuned(cell):
                write_settings(cell.folder(self.runs) / FINAL / "config.yaml", cell.chosen(self.ledger))
        for entry in todo:  # what the ledger has lost since is entered again
            folder = Cell(self.grid, entry["dataset"], entry["row"]).folder(self.runs) / FINAL
            for marker in folder.glob("*.evaluated"):
                if set(marker.stem.split(",")) & set(map(str, entry["seeds"])):
                    marker.unlink()
        (self.runs / "collected").unlink(missing_ok=True)
        untuned = [f"{cell.dataset}/{cell.name}" for cell in needed.values() if self._untuned(cell)]
        content = {
            "grid": str(self.grid_file.resolve()),
            "ledger": str(self.ledger.resolve()),
            "data": str(data.resolve()),
            "replicas": replicas,
            "precision": precision,
            "untuned": untuned,
            "cells": todo,
            "needed": {f"{dataset}/{row}": self._links(cell) for (dataset, row), cell in needed.items()},
            "seeds": [self.grid.tuning.seeds, self.grid.seeds],
            "planted": {
                name: hidden.model_dump(include={"source", "share"}) for name, hidden in self.grid.planted.items()
            },
        }
        write_json(self.runs / PLAN, content)
        return self.runs / PLAN

    def _needed(self, todo: list[dict[str, Any]]) -> Iterator[Cell]:
        """The cells to do and those that they depend on."""
        for entry in todo:
            cell = Cell(self.grid, entry["dataset"], entry["row"])
            for one in filter(None, (cell, cell.tuned, cell.drift, cell.drift and cell.drift.tuned)):
                yield one
                if one.reference:
                    yield one.reference
                    yield one.reference.tuned

    def _links(self, cell: Cell) -> dict[str, Any]:
        """What a cell depends on: rows of its dataset, and whose trials decide, how many."""
        return {
            "reference": cell.row.reference,
            "drift": cell.drift and cell.drift.name,
            "tuned": [cell.tuned.dataset, cell.tuned.name],
            "trials": len(self.grid.trials(cell.name)),
        }

    def _untuned(self, cell: Cell) -> bool:
        return cell.chosen(self.ledger) is None

    def _is_to_tune(self, cell: Cell) -> bool:
        """Whether trials of its own are to be run."""
        return cell.tuned == cell and self._untuned(cell)


def _records(folder: Path) -> pd.DataFrame:
    return ledger.records(folder) if folder.is_dir() else pd.DataFrame()


def _seconds_of_one(cell: Cell, table: pd.DataFrame) -> float:
    """Median seconds of a run of this row on this dataset and a CPU, else of any of its stage and base there."""
    if table.empty:
        return float("nan")
    settings = cell.grid.trials(cell.name)[0]
    of_reference = cell.grid.trials(cell.reference.name)[0] if cell.reference else settings
    same = (table["dataset"] == cell.dataset) & (table["stage"] == ("align" if cell.reference else "reference"))
    same &= (table["base"] == of_reference.get("encoder.base", "fused")) & (table["device"] == "cpu")
    exact = same & (table["strategy"] == settings.get("negatives.name", "topk" if cell.reference else "reference"))
    return float(table.loc[exact if exact.any() else same, "seconds"].median())


def run(plan: Plan, data: Path, profile: str, replicas: int, precision: str | None, extra: list[str]) -> int:
    """Do what the plan says with Snakemake; returns its exit code.

    precision: of the products of every run, where None leaves it to the rows, that is, as a rule, to the processor.
    A lock keeps two of them from the same folder; Snakemake holds it too, so that where this process is killed and
    Snakemake goes on, nobody begins beside it. SIGTERM stops Snakemake and its jobs on this machine. Raises InputError
    if one is running, if the profile does not exist or if Snakemake is not installed.
    """
    folder = WORKFLOW / "profiles" / profile
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in (WORKFLOW / "profiles").iterdir()))
        raise InputError(f"There is no profile {profile!r}; there are {known}.")
    if find_spec("snakemake") is None:
        raise InputError("The grid needs Snakemake: pip install 'rodpo-lite[grid]'.")
    with _alone(plan.runs) as lock:
        path = plan.write(data, replicas, precision)
        command = [sys.executable, "-m", "snakemake", "--snakefile", WORKFLOW / "Snakefile", "--nolock"]
        command += ["--directory", plan.runs, "--profile", folder, *extra, "--config", f"plan={path.resolve()}"]
        before = signal.signal(signal.SIGTERM, _stop_children)
        try:
            return subprocess.run([str(part) for part in command], env=_environment(), pass_fds=[lock]).returncode
        finally:
            signal.signal(signal.SIGTERM, before)


def collect(grid: Grid, ledger_folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Write the ledger's grid.json: dataset → row → seed → file of the record, of what is recorded. Returns it."""
    table, found = ledger.records(ledger_folder), {}
    for cell in grid.cells():
        if recorded := cell.recorded(ledger_folder, table):
            files = {str(seed): recorded[seed] for seed in sorted(recorded)}
            found.setdefault(cell.dataset, {})[cell.name] = files
    write_json(ledger_folder / "grid.json", found)
    return found


def empty_ledger(recorded: Path, folder: Path) -> Path:
    """Make a ledger that knows what settings were chosen and holds no run, to repeat rows that are on record."""
    if (recorded / "trials").is_dir():
        shutil.copytree(recorded / "trials", folder / "trials", dirs_exist_ok=True)
    return folder


def repeated(cells: list[Cell], recorded: Path, again: Path) -> pd.DataFrame:
    """Test NDCG@5 of every run of `again` beside that on record: dataset, row, seed, recorded, again, difference %.

    NaN where a run is not on record.
    """
    tables = [ledger.records(folder) for folder in (recorded, again)]
    rows = []
    for cell in cells:
        first, second = (
            {seed: table.set_index("file").loc[file, "test.ndcg@5"] for seed, file in files.items()}
            for table, files in zip(tables, (cell.recorded(recorded, tables[0]), cell.recorded(again, tables[1])))
        )
        for seed in sorted(second):
            before = first.get(seed, float("nan"))
            difference = 100 * (second[seed] / before - 1)
            rows.append((cell.dataset, cell.name, seed, before, second[seed], difference))
    return pd.DataFrame(rows, columns=["dataset", "row", "seed", "recorded", "again", "difference %"])


@contextmanager
def _alone(runs: Path) -> Iterator[int]:
    runs.mkdir(parents=True, exist_ok=True)
    with open(runs / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another grid is running in {runs}; wait for it or choose another folder.") from None
        yield lock.fileno()


def _stop_children(*_) -> None:
    """Pass SIGTERM on to every descendant, Snakemake before its jobs, so that it starts no others."""
    import psutil  # Snakemake needs it too

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.terminate()


def _environment() -> dict[str, str]:
    """The environment of jobs: `rodpo` is the one of this interpreter."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
