"""The grid as Snakemake runs it: without a break, and killed twice on the way."""

import os
import signal
import time

from command_line import rodpo
from tiny_grid import arguments, count, results, started


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


def test_a_grid_that_was_killed_ends_like_one_that_was_not(grid_place, whole_grid):
    for after in (1, 3):
        killed(grid_place, "broken", after)
    resumed = rodpo(*arguments(grid_place, "broken"))
    assert resumed.returncode == 0, resumed.stderr
    assert results(grid_place / "broken" / "ledger") == whole_grid

    (grid_place / "broken" / "ledger" / "grid.json").unlink()  # it was killed after its last run
    again = rodpo(*arguments(grid_place, "broken"))
    assert results(grid_place / "broken" / "ledger") == whole_grid
    assert again.returncode == 0 and again.stdout.startswith("The ledger holds every run that was asked for;")
