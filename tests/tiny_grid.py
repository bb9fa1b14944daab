"""A grid that takes a minute, and how it is started and what it leaves."""

import json
import subprocess
import sys
from pathlib import Path

from rodpo_lite.data.synthetic import WorldSizes, synthesise

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
LEFT_ALONE = ("seconds", "commit", "machine", "stretches")


def declare(folder: Path) -> Path:
    """The folder, with the declaration and the data of the grid."""
    synthesise(folder / "data" / "synthetic", 3, WorldSizes(users=200, items=150, slate=40))
    (folder / "grid.yaml").write_text(DECLARED)
    return folder


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
