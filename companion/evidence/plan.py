"""What of the grid is still to be done, how long that takes, and Snakemake to do it.

A plan is fixed when it is made: plan.json in the folder of runs says which experiments still have to be tuned and which
reported seeds are not in the ledger yet. workflow/Snakefile reads nothing else.
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

import pandas as pd

from companion.evidence.grid import FINAL, Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.evidence.record import Record
from companion.evidence.tuning import write_settings
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_yaml, write_json
from rodpo_lite.training import checkpoint

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
GRID = WORKFLOW / "grid.yaml"


def declared(file: Path | None = None) -> Grid:
    """The grid of a file, by default the project's; raises InputError outside of a checkout of the project."""
    if not GRID.is_file():
        raise InputError("`rodpo grid` runs in a checkout of the project with the extra [grid] installed.")
    return Grid.read(file or GRID)


@dataclass(frozen=True)
class Plan:
    """The experiments that are asked for, against what the ledger holds; seeds: only these, where any are named."""

    grid_file: Path
    grid: Grid
    experiments: list[Experiment]
    runs: Path
    ledger: Ledger
    seeds: tuple[int, ...] = ()

    def left(self) -> dict[Experiment, list[int]]:
        """Experiments with something left to do, and the seeds to report."""
        wanted, left = self.seeds or self.grid.seeds, {}
        for experiment in self.experiments:
            recorded = experiment.recorded(self.ledger)
            if seeds := [seed for seed in experiment.seeds if seed in wanted and seed not in recorded]:
                left[experiment] = seeds
        return left

    def summary(self, measured: Ledger | None = None) -> pd.DataFrame:
        """A row for each experiment with work left: trials, runs to report, and minutes, by how long like ones took.

        One run after the other on one core of a CPU, by the records of `measured`, else of the plan's ledger; NaN where
        nothing like it was measured. Evaluations, and references to be trained again, are not in them.
        """
        records, rows = (measured or self.ledger).records, []
        for experiment, seeds in self.left().items():
            to_tune = experiment.tuned == experiment and experiment.chosen(self.ledger) is None
            trials = self.grid.n_trials(experiment.name) * len(self.grid.tuning.seeds) if to_tune else 0
            minutes = (trials + len(seeds)) * _seconds_of_one(experiment, records) / 60
            rows.append((experiment.dataset, experiment.name, experiment.method.tier, trials, len(seeds), minutes))
        return pd.DataFrame(rows, columns=["dataset", "row", "tier", "trials", "runs", "minutes"])

    def _check_starts(self, left: dict[Experiment, list[int]]) -> None:
        for experiment, seeds in left.items():
            start = experiment.reference
            for seed, file in start.recorded(self.ledger).items() if start else ():
                run = start.folder(self.runs) / FINAL / f"seed-{seed}" / checkpoint.RUN
                if seed in seeds and not run.exists() and Record.read(self.ledger.folder / file).renamed:
                    raise InputError(
                        f"{experiment.name} starts from {start.name}, of which {file} is on record, by an earlier "
                        f"edition of the code. Its run is not in {self.runs}, and trained again it would have another "
                        f"id, so that nothing that starts there would count: declare a row like {start.name}, and "
                        "start from that."
                    )

    def write(self, data: Path, replicas: int, precision: str | None = None) -> Path:
        """Write plan.json and every configuration that is known by now into the folder of runs.

        Raises InputError if what is left would begin at a reference that does not count.
        """
        left = self.left()
        self._check_starts(left)
        needed = list(dict.fromkeys(one for experiment in left for one in experiment.needs()))
        for experiment in needed:
            folder, settings = experiment.folder(self.runs), experiment.chosen(self.ledger)
            if settings is not None:
                write_settings(folder / FINAL / "config.yaml", settings)
            elif experiment.tuned == experiment and not experiment.method.study:
                for number, tried in enumerate(self.grid.trials(experiment.name)):
                    write_settings(folder / f"trial-{number}" / "config.yaml", tried)
        for experiment, seeds in left.items():  # what the ledger has lost since is entered again
            for marker in (experiment.folder(self.runs) / FINAL).glob("*.evaluated"):
                if set(marker.stem.split(",")) & set(map(str, seeds)):
                    marker.unlink()
        (self.runs / "collected").unlink(missing_ok=True)
        content = {
            "grid": str(self.grid_file.resolve()),
            "ledger": str(self.ledger.folder.resolve()),
            "data": str(data.resolve()),
            "replicas": replicas,
            "precision": precision,
            "untuned": [f"{one.dataset}/{one.name}" for one in needed if one.chosen(self.ledger) is None],
            "experiments": [{"dataset": one.dataset, "row": one.name, "seeds": seeds} for one, seeds in left.items()],
            "needed": {
                f"{one.dataset}/{one.name}": {
                    "reference": one.method.reference,
                    "drift": one.drift and one.drift.name,
                    "tuned": [one.tuned.dataset, one.tuned.name],
                    "trials": None if one.method.study else len(self.grid.trials(one.name)),
                }
                for one in needed
            },
            "seeds": [self.grid.tuning.seeds, self.grid.seeds],
            "planted": {name: {"source": made.source, "share": made.share} for name, made in self.grid.planted.items()},
        }
        write_json(self.runs / "plan.json", content)
        return self.runs / "plan.json"


def _seconds_of_one(experiment: Experiment, records: pd.DataFrame) -> float:
    """Median seconds of a run of this row on this dataset and a CPU, else of any of its stage and base there."""
    if records.empty:
        return float("nan")
    stage, default = ("align", "topk") if experiment.reference else ("reference", "reference")
    base = (experiment.reference or experiment).method.set.get("encoder.base", "fused")
    like = {"dataset": experiment.dataset, "stage": stage, "device": "cpu", "base": base}
    same = records[(records[list(like)] == pd.Series(like)).all(axis=1)]
    exact = same[same["strategy"] == experiment.method.set.get("negatives.name", default)]
    return float((same if exact.empty else exact)["seconds"].median())


def run(plan: Plan, data: Path, profile: str, replicas: int, precision: str | None, extra: list[str]) -> int:
    """Do what the plan says with Snakemake; returns its exit code.

    precision: of the products of every run; None leaves it to the rows, as a rule to the processor. A lock keeps two of
    them from the same folder; Snakemake holds it too, so that where this process is killed and Snakemake goes on,
    nobody begins beside it. SIGTERM stops Snakemake and its jobs on this machine. Raises InputError if one is running,
    if the profile does not exist, or if Snakemake or the Slurm of the profile is not installed.
    """
    folder = WORKFLOW / "profiles" / profile
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in (WORKFLOW / "profiles").iterdir()))
        raise InputError(f"There is no profile {profile!r}; there are {known}.")
    if find_spec("snakemake") is None:
        raise InputError("The grid needs Snakemake: pip install 'rodpo-lite[grid]'.")
    if read_yaml(folder / "config.yaml", "The profile").get("executor") == "slurm" and shutil.which("sbatch") is None:
        raise InputError(
            f"The profile {profile!r} needs Slurm, but there is no sbatch here; --profile local needs none."
        )
    with _exclusive(plan.runs) as lock:
        written = plan.write(data, replicas, precision)
        command = [sys.executable, "-m", "snakemake", "--snakefile", WORKFLOW / "Snakefile", "--nolock"]
        command += ["--directory", plan.runs, "--profile", folder, *extra, "--config", f"plan={written.resolve()}"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = os.environ | {"PATH": path}  # `rodpo` is the one of this interpreter
        before = signal.signal(signal.SIGTERM, _stop_children)
        try:
            return subprocess.run([str(part) for part in command], env=environment, pass_fds=[lock]).returncode
        finally:
            signal.signal(signal.SIGTERM, before)


def collect(grid: Grid, ledger: Ledger) -> int:
    """Write the ledger's grid.json: dataset → row → seed → file of the record; returns how many."""
    index: dict[str, dict[str, dict[int, str]]] = {}
    for experiment in grid.experiments():
        if recorded := experiment.recorded(ledger):
            index.setdefault(experiment.dataset, {})[experiment.name] = recorded
    write_json(ledger.folder / "grid.json", index)
    return sum(len(files) for rows in index.values() for files in rows.values())


def empty_ledger(recorded: Ledger, folder: Path) -> Ledger:
    """Make a ledger that knows what settings were chosen and holds no run, to repeat rows that are on record."""
    if (recorded.folder / "trials").is_dir():
        shutil.copytree(recorded.folder / "trials", folder / "trials", dirs_exist_ok=True)
    return Ledger(folder)


def repeated(experiments: list[Experiment], recorded: Ledger, again: Ledger) -> pd.DataFrame:
    """Test NDCG@5 of every run of `again` beside that on record, NaN where there is none."""
    rows = []
    for experiment in experiments:
        before = experiment.recorded(recorded)
        for seed, file in experiment.recorded(again).items():
            row = {"dataset": experiment.dataset, "row": experiment.name, "seed": seed, "recorded": float("nan")}
            if seed in before:
                row["recorded"] = recorded.by_file.loc[before[seed], "test.ndcg@5"]
            rows.append(row | {"again": again.by_file.loc[file, "test.ndcg@5"]})
    table = pd.DataFrame(rows, columns=["dataset", "row", "seed", "recorded", "again"])
    return table.assign(**{"difference %": 100 * (table["again"] / table["recorded"] - 1)})


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
