"""The grid as Snakemake runs it: without a break, and killed twice on the way."""

import json
import os
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
planted: {synthetic-planted: synthetic}
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


def arguments(place, name):
    options = {"--grid": "grid.yaml", "--data": "data", "--runs": f"{name}/runs", "--ledger": f"{name}/ledger"}
    return [
        "grid",
        *(str(part if part.startswith("--") else place / part) for pair in options.items() for part in pair),
    ]


def killed(place, name, after: int) -> None:
    """Start the grid and kill it, jobs and all, when so many runs are trained and another one has begun."""
    command = [sys.executable, "-c", "from rodpo_lite.cli import main; main()", *arguments(place, name)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process, runs = subprocess.Popen(command, **quiet), place / name / "runs"
    while process.poll() is None:
        trained, begun = (len(list(runs.glob(pattern))) for pattern in ("*/*/*/*.trained", "*/*/*/seed-*/run.json"))
        if trained >= after and begun > trained:
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
            for part in (entry, *entry.get("trials", ())):
                for key in LEFT_ALONE:
                    part.pop(key, None)
            found[str(path.relative_to(ledger))] = entry
        elif path.is_file():
            found[str(path.relative_to(ledger))] = path.read_bytes()
    return found


def test_a_grid_that_was_killed_ends_like_one_that_was_not(place):
    whole = rodpo(*arguments(place, "whole"))
    assert whole.returncode == 0, whole.stderr
    expected = results(place / "whole" / "ledger")
    aligned = [entry for name, entry in expected.items() if name.startswith("synthetic-planted-align")]
    assert sorted("drift" in entry for entry in aligned) == [False, True]
    assert "trials/synthetic.base.json" in expected and "grid.json" in expected

    for after in (1, 3):
        killed(place, "broken", after)
    resumed = rodpo(*arguments(place, "broken"))
    assert resumed.returncode == 0, resumed.stderr
    assert results(place / "broken" / "ledger") == expected

    again = rodpo(*arguments(place, "broken"))
    assert again.returncode == 0 and again.stdout == "The ledger holds every run that was asked for.\n"
