"""The grid as Snakemake runs it: without a break, and killed twice on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from command_line import rodpo

from rodpo_lite.data.synthetic import WorldSizes, synthesise

pytest.importorskip("snakemake", reason="Snakemake is not installed")

# Every rule has work: settings are tried and chosen on the one dataset, and all rows run on the other, made from it.
DECLARED = """
datasets: [synthetic, synthetic-planted]
planted: {synthetic-planted: {source: synthetic, share: 0.1}}
drift: none
seeds: [1]
tuning: {seeds: [100], trials: 2}
rows:
  base:
    tier: A
    planted: true
    datasets: []
    set: {encoder.width: 8, encoder.heads: 1, encoder.blocks: 1, training.epochs: 2, training.batches_per_epoch: 4}
    search: {training.learning_rate: {low: 1e-3, high: 1e-2}}
  none: &row
    tier: A
    planted: true
    datasets: []
    reference: base
    set: {negatives.name: none, training.epochs: 2, training.batches_per_epoch: 4}
  topk: {<<: *row, set: {negatives.name: topk, negatives.k: 5, training.epochs: 2, training.batches_per_epoch: 4}}
"""
LEFT_ALONE = ("seconds", "commit", "machine")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    synthesise(folder / "data" / "synthetic", 3, WorldSizes(users=200, items=150, slate=40))
    (folder / "grid.yaml").write_text(DECLARED)
    return folder


@pytest.fixture(scope="module")
def expected(place):
    """What a grid without a break leaves in its ledger."""
    whole = rodpo(*arguments(place, "whole"))
    assert whole.returncode == 0, whole.stderr
    found = results(place / "whole" / "ledger")
    aligned = [entry for name, entry in found.items() if name.startswith("synthetic-planted-align")]
    assert sorted("drift" in entry for entry in aligned) == [False, True]
    assert "trials/synthetic.base.json" in found and "grid.json" in found
    return found


def arguments(place, name):
    options = {"--grid": "grid.yaml", "--data": "data", "--runs": f"{name}/runs", "--ledger": f"{name}/ledger"}
    return [
        "grid",
        *(str(part if part.startswith("--") else place / part) for pair in options.items() for part in pair),
    ]


def started(place, name, *more) -> subprocess.Popen:
    command = [sys.executable, "-c", "from rodpo_lite.cli import main; main()", *arguments(place, name), *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.Popen(command, **quiet)


def count(runs, pattern: str) -> int:
    return len(list(runs.glob(pattern)))


def killed(place, name, after: int) -> None:
    """Start the grid and kill it, jobs and all, when so many runs are trained and another one has begun."""
    process, runs = started(place, name), place / name / "runs"
    while process.poll() is None:
        trained = count(runs, "*/*/*/*.trained")
        if trained >= after and count(runs, "*/*/*/seed-*/run.json") > trained:
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it had finished before it could be killed"


def results(ledger) -> dict:
    """Everything that the ledger says, but when, where and how fast."""
    found = {}
    for path in sorted(ledger.rglob("*")):
        if path.suffix == ".json":
            entry = json.loads(path.read_text())
            for part in (entry, entry.get("drift", {}), *entry.get("trials", ())):
                for key in LEFT_ALONE:
                    part.pop(key, None)
            found[str(path.relative_to(ledger))] = entry
        elif path.is_file():
            found[str(path.relative_to(ledger))] = path.read_bytes()
    return found


def test_a_grid_that_was_killed_ends_like_one_that_was_not(place, expected):
    for after in (1, 3):
        killed(place, "broken", after)
    resumed = rodpo(*arguments(place, "broken"))
    assert resumed.returncode == 0, resumed.stderr
    assert results(place / "broken" / "ledger") == expected

    (place / "broken" / "ledger" / "grid.json").unlink()  # it was killed after its last run
    again = rodpo(*arguments(place, "broken"))
    assert results(place / "broken" / "ledger") == expected
    assert again.returncode == 0 and again.stdout.startswith("The ledger holds every run that was asked for;")


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(
    not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
    reason="no Slurm answers here: apt-get install slurm-wlm munge, then workflow/slurm-node.sh",
)
def test_slurm_resumes_after_a_job_was_killed(place, expected):
    process, runs = started(place, "slurm", "--profile", "slurm"), place / "slurm" / "runs"
    while process.poll() is None:
        running = slurm("squeue", "-h", "-t", "R", "-o", "%A").split()
        if running and count(runs, "*/*/*/*.trained"):
            slurm("scancel", "--signal=KILL", "--full", running[0])
            break
        time.sleep(0.2)
    assert process.wait() == 1, "the grid says that a job failed"
    resumed = rodpo(*arguments(place, "slurm"), "--profile", "slurm")
    assert resumed.returncode == 0, resumed.stderr
    assert results(place / "slurm" / "ledger") == expected
