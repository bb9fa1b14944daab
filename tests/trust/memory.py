"""An import of ten million interactions, and the most memory that it takes."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from trust.jobs import COLD

ROWS, USERS, ITEMS, BLOCK = 10_000_000, 1_000_000, 200_000, 1_000_000
MOST = 2.0  # GiB


def measure(place: Path) -> dict[str, Any]:
    """Import a CSV file with ids as long as Amazon's; the memory is that of the process at its largest."""
    source, chance = place / "clicks.csv", np.random.default_rng(0)
    with source.open("w") as file:
        file.write("user_id,item_id,timestamp\n")
        for _ in range(ROWS // BLOCK):
            users, times = chance.integers(USERS, size=BLOCK), chance.integers(1.3e9, 1.6e9, size=BLOCK)
            items = (ITEMS * chance.random(BLOCK) ** 2).astype(int)
            file.writelines(f"A{user:013d},B{item:09d},{at}\n" for user, item, at in zip(users, items, times))
    command = [sys.executable, "-c", COLD, "data", "import", "csv", str(source), "--out", str(place / "out")]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # of this process alone: other suites had children, too
    if status:
        raise RuntimeError(f"the import ended with status {status}")
    taken = used.ru_maxrss / 2**20
    seconds = round(time.perf_counter() - started)
    return {"interactions": ROWS, "GiB": round(taken, 2), "too_much": taken > MOST, "seconds": seconds}
