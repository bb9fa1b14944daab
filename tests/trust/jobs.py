"""Jobs that are killed: how each is started, how far it has come, and what it leaves."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.settings import build
from rodpo_lite.training import runs

SMALL = {"encoder.width": 8, "encoder.heads": 1, "encoder.blocks": 1, "encoder.max_length": 8}
STEPS = {
    "training.epochs": 24,
    "training.patience": 24,
    "training.batches_per_epoch": 4,
    "training.learning_rate": 1e-3,
}
LEFT_ALONE = ("seconds", "epoch_seconds", "commit", "machine", "stretches")
LOADED = [  # by whom jobs are forked: everything that training loads on its way
    *("pyarrow.parquet", "torch._dynamo"),
    "rodpo_lite.cli",
    "rodpo_lite.training.runs",
    "rodpo_lite.training.results",
    "companion.evidence.ledger",
]
COLD = "from rodpo_lite.cli import main; main()"
GRID = """
datasets: [synthetic]
seeds: [1]
tuning: {seeds: [100], trials: 1}
rows:
  base:
    tier: A
    set: {encoder.width: 8, encoder.heads: 1, encoder.blocks: 1, training.epochs: 2, training.batches_per_epoch: 4}
  topk:
    tier: A
    reference: base
    set: {negatives.name: topk, negatives.k: 5, training.epochs: 2, training.batches_per_epoch: 4}
"""


@dataclass(frozen=True)
class Job:
    """A command in a folder of its own; `milestones` are files that appear on its way, `result` what must be the same.

    The command line is that of rodpo, or with `code` that of a program. `warm` jobs may be forked.
    """

    name: str
    arguments: Callable[[Path], list[Any]]
    milestones: tuple[str, ...]
    result: Callable[[Path], dict[str, Any]]
    prepare: Callable[[Path], None] = lambda folder: folder.mkdir()
    code: str = COLD
    warm: bool = True

    def newest(self, folder: Path) -> float:
        """When the last of the milestones was written; 0 where there is none."""
        found = [path for pattern in self.milestones for path in folder.glob(pattern)]
        return max((path.stat().st_mtime for path in found if path.exists()), default=0)

    def reached(self, folder: Path) -> str:
        """The last milestone that is there, and whether a file was being written."""
        found = [pattern for pattern in self.milestones if any(folder.glob(pattern))]
        return f"{self.name}: after {found[-1] if found else 'the start'}" + (", writing" if litter(folder) else "")


@dataclass
class Started:
    """A job on its way, in a process of its own: forked with the libraries loaded, or as a user starts it."""

    job: Job
    folder: Path
    cold: bool
    process: Any = field(init=False)

    def __post_init__(self):
        arguments = list(map(str, self.job.arguments(self.folder)))
        if self.cold:
            command = [sys.executable, "-c", self.job.code, *arguments]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            environment.pop("RODPO_DATA", None)
            log = (self.folder / "log.txt").open("w")
            options = {"stdout": log, "stderr": log, "start_new_session": True, "env": environment}
            self.process = subprocess.Popen(command, **options)
        else:
            self.process = _server().Process(target=_forked, args=(arguments, self.folder / "log.txt"))
            self.process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, None if it is still at work after so many seconds."""
        if not self.cold:
            self.process.join(seconds)
            return self.process.exitcode
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> bool:
        """Kill it, with every process that it started; whether it was still at work."""
        if self.cold and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        elif not self.cold:
            self.process.kill()
        return self.wait() == -signal.SIGKILL


def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def _forked(arguments: list[str], log: Path) -> None:
    import torch

    from rodpo_lite.cli import main

    torch.set_num_threads(1)
    sys.argv = ["rodpo", *arguments]
    sys.stdout = sys.stderr = log.open("w")
    main()


def litter(folder: Path) -> list[Path]:
    """Files that a killed process was writing beside their final places."""
    return [path for path in folder.glob("**/.*-????????") if path.is_file() and "_build" not in path.parts]


def plain(value: Any) -> Any:
    """What a record says, but when, where and how fast."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items() if key not in LEFT_ALONE}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    if path.suffix == ".json":
        return plain(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [plain(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def files(*names: str) -> Callable[[Path], dict[str, Any]]:
    """Everything in these folders of a job, but what a killed process left in the ledger under a name of its own."""

    def found(folder: Path) -> dict[str, Any]:
        paths = [path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
        kept = [path for path in paths if not (path.name.startswith(".") and "ledger" in names)]
        return {str(path.relative_to(folder)): content(path) for path in kept}

    return found


def site(folder: Path) -> dict[str, Any]:
    """The pages and files of a built book, but Sphinx's own stamps: of the build, of its index, of a style sheet."""
    found, root = {}, folder / "_build" / "html"
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name not in (".buildinfo", "searchindex.js", "objects.inv", "SHA256SUMS"):
            found[str(path.relative_to(root))] = re.sub(rb"\?v=[0-9a-f]{8}", b"", path.read_bytes())
    return found


def options(values: dict[str, Any]) -> list[str]:
    return [part for key, value in values.items() for part in ("-o", f"{key}={value}")]


def jobs(place: Path) -> dict[str, Job]:
    """The jobs of a small world that lies in `place`; makes it, with a reference, if it is not there."""
    data, reference = place / "data" / "synthetic", place / "reference"
    if not reference.exists():
        synthesise(data, 3, WorldSizes(users=60, items=100))
        encoder = {key.removeprefix("encoder."): value for key, value in SMALL.items()}
        training = {"epochs": 2, "batches_per_epoch": 4}
        runs.train(read_dataset(data), build(ReferenceConfig, {"encoder": encoder, "training": training}), reference)
        (place / "grid.yaml").write_text(GRID)
    trained = ("run/run.json", "run/checkpoint.safetensors", "run/model.safetensors")
    resumed = ["--data", data, "--resume", *options(STEPS)]
    where = ["--grid", place / "grid.yaml", "--data", place / "data"]
    found = [
        Job("train", lambda to: ["train", "--out", to / "run", *resumed, *options(SMALL)], trained, files("run")),
        Job(
            "align",
            lambda to: ["align", "--reference", reference, "--out", to / "run", *resumed, "-o", "negatives.k=5"],
            trained,
            files("run"),
        ),
        Job(
            "evaluate",
            lambda to: ["evaluate", "--data", data, "--run", to / "run", "--record", "--ledger", to / "ledger"],
            ("run/ranks.parquet", "run/metrics.json", "ledger/ranks/*.parquet", "ledger/*.json", "ledger/users/*"),
            files("run", "ledger"),
            lambda folder: shutil.copytree(reference, folder / "run"),
        ),
        Job(
            "grid",
            lambda to: ["grid", *where, "--runs", to / "runs", "--ledger", to / "ledger"],
            ("runs/plan.json", "runs/**/*.trained", "ledger/*-reference-*.json", "ledger/*-align-*.json"),
            files("ledger"),
            warm=False,
        ),
    ]
    return {job.name: job for job in found}


BOOK = Job(
    "book",
    lambda to: [to],
    ("_build/executed/*/sums.stamp.json", "_build/sphinx.unfinished", "_build/.html.new"),
    site,
    code="import pathlib, sys; from companion.site.build import build; build(pathlib.Path(sys.argv[1]))",
    warm=False,
)
