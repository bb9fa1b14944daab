"""The grid as Snakemake runs it: without a break, and killed twice on the way."""

import json
import os
import signal
import time

from command_line import rodpo
from tiny_grid import arguments, count, results, started

from rodpo_lite.config import TrainingConfig


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


def test_where_snakemake_goes_on_alone_nobody_begins_beside_it(grid_place):
    process, runs = started(grid_place, "orphaned"), grid_place / "orphaned" / "runs"
    try:
        while process.poll() is None and not count(runs, "*/*/*/seed-*/run.json"):
            time.sleep(0.02)
        process.kill()
        process.wait()
        refused = rodpo(*arguments(grid_place, "orphaned"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr == f"rodpo: Another grid is running in {runs}; wait for it or choose another folder.\n"


def test_a_grid_that_is_told_to_end_ends_with_its_jobs(grid_place):
    process, runs = started(grid_place, "ended"), grid_place / "ended" / "runs"
    while process.poll() is None and not count(runs, "*/*/*/seed-*/run.json"):
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 1
    until = time.monotonic() + 30
    while is_any_left(process.pid) and time.monotonic() < until:  # the last of them may be about to end
        time.sleep(0.1)
    assert not is_any_left(process.pid)


def is_any_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_grid_in_another_precision_than_the_processor_prefers(grid_place):
    other = {"fp32": "bf16", "bf16": "fp32"}[TrainingConfig().engine().precision]
    done = rodpo(*arguments(grid_place, "other"), "--rows", "base", "--precision", other)
    assert done.returncode == 0, done.stderr
    (record,) = (grid_place / "other" / "ledger").glob("*-reference-*.json")
    trials = list((grid_place / "other" / "runs").glob("*/*/trial-*/seed-*/run.json"))
    found = [json.loads(path.read_text()) for path in (record, *trials)]
    assert [entry["precision"] for entry in found] == [other] * 3
    assert {entry["config"]["training"]["precision"] for entry in found} == {"auto"}, "their ids stay what they are"
