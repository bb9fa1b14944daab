"""What of the grid is still to be done, how long that takes, and Snakemake to do it.

A plan is fixed when it is made: plan.json in the folder of runs says for each experiment whether it still has to be
tuned and which reported seeds are not in the ledger yet. workflow/Snakefile reads nothing else.
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

from companion.evidence.grid import FINAL, Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.evidence.tuning import write_settings
from rodpo_lite.errors import InputError
from rodpo_lite.files import write_json

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
GRID = WORKFLOW / "grid.yaml"
PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """The experiments that are asked for, against what the ledger holds; seeds: only these, where any are named."""

    grid_file: Path
    grid: Grid
    experiments: list[Experiment]
    runs: Path
    ledger: Ledger
    seeds: tuple[int, ...] = ()

    def todo(self) -> list[dict[str, Any]]:
        """Experiments with something left to do: whether to tune them, and the seeds to report."""
        todo = []
        for experiment in self.experiments:
            recorded = experiment.recorded(self.ledger)
            seeds = [
                seed for seed in experiment.seeds if seed not in recorded and seed in (self.seeds or experiment.seeds)
            ]
            if seeds:
                tune = self._is_to_tune(experiment)
                todo.append({"dataset": experiment.dataset, "row": experiment.name, "seeds": seeds, "tune": tune})
        return todo

    def summary(self, measured: Ledger | None = None) -> pd.DataFrame:
        """A row for each experiment with work left: trials, runs to report, and minutes, by how long like ones took.

        Minutes are those of one run after the other on one core of a CPU, as the records of `measured` have it, by
        default the plan's own ledger, NaN where nothing like it was measured; evaluations and the references that have
        to be trained again are not in them.
        """
        records, rows = (measured or self.ledger).records, []
        for entry in self.todo():
            experiment = Experiment(self.grid, entry["dataset"], entry["row"])
            trials = len(self.grid.trials(experiment.name)) * len(self.grid.tuning.seeds) if entry["tune"] else 0
            seconds = _seconds_of_one(experiment, records)
            minutes = (trials + len(entry["seeds"])) * seconds / 60
            row = {"dataset": experiment.dataset, "row": experiment.name, "tier": experiment.method.tier}
            rows.append(row | {"trials": trials, "runs": len(entry["seeds"]), "minutes": minutes})
        return pd.DataFrame(rows, columns=["dataset", "row", "tier", "trials", "runs", "minutes"])

    def write(self, data: Path, replicas: int, precision: str | None = None) -> Path:
        """Write plan.json and every configuration that is known by now into the folder of runs."""
        todo = self.todo()
        needed = {(experiment.dataset, experiment.name): experiment for experiment in self._needed(todo)}
        for experiment in needed.values():
            if self._is_to_tune(experiment):
                for number, settings in enumerate(self.grid.trials(experiment.name)):
                    write_settings(experiment.folder(self.runs) / f"trial-{number}" / "config.yaml", settings)
            elif not self._untuned(experiment):
                write_settings(experiment.folder(self.runs) / FINAL / "config.yaml", experiment.chosen(self.ledger))
        for entry in todo:  # what the ledger has lost since is entered again
            folder = Experiment(self.grid, entry["dataset"], entry["row"]).folder(self.runs) / FINAL
            for marker in folder.glob("*.evaluated"):
                if set(marker.stem.split(",")) & set(map(str, entry["seeds"])):
                    marker.unlink()
        (self.runs / "collected").unlink(missing_ok=True)
        untuned = [f"{one.dataset}/{one.name}" for one in needed.values() if self._untuned(one)]
        content = {
            "grid": str(self.grid_file.resolve()),
            "ledger": str(self.ledger.folder.resolve()),
            "data": str(data.resolve()),
            "replicas": replicas,
            "precision": precision,
            "untuned": untuned,
            "experiments": todo,
            "needed": {f"{dataset}/{row}": self._links(experiment) for (dataset, row), experiment in needed.items()},
            "seeds": [self.grid.tuning.seeds, self.grid.seeds],
            "planted": {
                name: hidden.model_dump(include={"source", "share"}) for name, hidden in self.grid.planted.items()
            },
        }
        write_json(self.runs / PLAN, content)
        return self.runs / PLAN

    def _needed(self, todo: list[dict[str, Any]]) -> Iterator[Experiment]:
        """The experiments to do and those that they depend on."""
        for entry in todo:
            experiment = Experiment(self.grid, entry["dataset"], entry["row"])
            for one in filter(
                None, (experiment, experiment.tuned, experiment.drift, experiment.drift and experiment.drift.tuned)
            ):
                yield one
                if one.reference:
                    yield one.reference
                    yield one.reference.tuned

    def _links(self, experiment: Experiment) -> dict[str, Any]:
        """What an experiment depends on: rows of its dataset, and whose trials decide, how many."""
        return {
            "reference": experiment.method.reference,
            "drift": experiment.drift and experiment.drift.name,
            "tuned": [experiment.tuned.dataset, experiment.tuned.name],
            "trials": len(self.grid.trials(experiment.name)),
        }

    def _untuned(self, experiment: Experiment) -> bool:
        return experiment.chosen(self.ledger) is None

    def _is_to_tune(self, experiment: Experiment) -> bool:
        """Whether trials of its own are to be run."""
        return experiment.tuned == experiment and self._untuned(experiment)


def _seconds_of_one(experiment: Experiment, records: pd.DataFrame) -> float:
    """Median seconds of a run of this row on this dataset and a CPU, else of any of its stage and base there."""
    if records.empty:
        return float("nan")
    stage = "align" if experiment.reference else "reference"
    settings = experiment.grid.trials(experiment.name)[0]
    start = experiment.grid.trials(experiment.reference.name)[0] if experiment.reference else settings
    same = (records["dataset"] == experiment.dataset) & (records["stage"] == stage) & (records["device"] == "cpu")
    same &= records["base"] == start.get("encoder.base", "fused")
    exact = same & (records["strategy"] == settings.get("negatives.name", "topk" if stage == "align" else stage))
    return float(records.loc[exact if exact.any() else same, "seconds"].median())


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
    with _exclusive(plan.runs) as lock:
        path = plan.write(data, replicas, precision)
        command = [sys.executable, "-m", "snakemake", "--snakefile", WORKFLOW / "Snakefile", "--nolock"]
        command += ["--directory", plan.runs, "--profile", folder, *extra, "--config", f"plan={path.resolve()}"]
        before = signal.signal(signal.SIGTERM, _stop_children)
        try:
            return subprocess.run([str(part) for part in command], env=_environment(), pass_fds=[lock]).returncode
        finally:
            signal.signal(signal.SIGTERM, before)


def collect(grid: Grid, ledger: Ledger) -> dict[str, dict[str, dict[str, str]]]:
    """Write the ledger's grid.json: dataset → row → seed → file of the record, of what is recorded. Returns it."""
    index: dict[str, dict[str, dict[str, str]]] = {}
    for experiment in grid.experiments():
        if recorded := experiment.recorded(ledger):
            files = {str(seed): recorded[seed] for seed in sorted(recorded)}
            index.setdefault(experiment.dataset, {})[experiment.name] = files
    write_json(ledger.folder / "grid.json", index)
    return index


def empty_ledger(recorded: Ledger, folder: Path) -> Ledger:
    """Make a ledger that knows what settings were chosen and holds no run, to repeat rows that are on record."""
    if (recorded.folder / "trials").is_dir():
        shutil.copytree(recorded.folder / "trials", folder / "trials", dirs_exist_ok=True)
    return Ledger(folder)


def repeated(experiments: list[Experiment], recorded: Ledger, again: Ledger) -> pd.DataFrame:
    """Test NDCG@5 of every run of `again` beside that on record: dataset, row, seed, recorded, again, difference %.

    NaN where a run is not on record.
    """
    rows = []
    for experiment in experiments:
        first, second = (
            {seed: ledger.by_file.loc[file, "test.ndcg@5"] for seed, file in experiment.recorded(ledger).items()}
            for ledger in (recorded, again)
        )
        for seed in sorted(second):
            before = first.get(seed, float("nan"))
            difference = 100 * (second[seed] / before - 1)
            rows.append((experiment.dataset, experiment.name, seed, before, second[seed], difference))
    return pd.DataFrame(rows, columns=["dataset", "row", "seed", "recorded", "again", "difference %"])


@contextmanager
def _exclusive(runs: Path) -> Iterator[int]:
    """Hold the lock of a folder of runs; Snakemake inherits its descriptor, which filelock does not hand out."""
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
