"""The grid through Slurm, where it answers: a job is killed midway, and the same command goes on."""

import shutil
import subprocess
import time

import pytest
from command_line import assert_refused, rodpo
from tiny_grid import arguments, count, results, started


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(
    not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
    reason="no Slurm answers here: apt-get install slurm-wlm munge, then workflow/slurm-node.sh",
)
def test_slurm_resumes_after_a_job_was_killed(grid_place, request):
    process, runs = started(grid_place, "slurm", "--profile", "slurm"), grid_place / "slurm" / "runs"
    while process.poll() is None:
        running = slurm("squeue", "-h", "-t", "R", "-o", "%A").split()
        if running and count(runs, "*/*/*/*.trained"):
            slurm("scancel", "--signal=KILL", "--full", running[0])
            break
        time.sleep(0.2)
    assert process.wait() == 1, "the grid says that a job failed"
    resumed = started(grid_place, "slurm", "--profile", "slurm")
    whole = request.getfixturevalue("whole_grid")  # it takes as long as the other one waits
    assert resumed.wait() == 0
    assert results(grid_place / "slurm" / "ledger") == whole


def test_without_slurm_its_profile_is_refused_before_anything_begins(grid_place, tmp_path):
    refused = rodpo(*arguments(grid_place, "alone"), "--profile", "slurm", PATH=str(tmp_path))
    assert_refused(refused, "The profile 'slurm' needs Slurm", "--profile local needs none")
    assert not (grid_place / "alone" / "runs").exists()
