"""The command line in a fresh process, and what a refusal must look like."""

import os
import subprocess
import sys

SMALL = ["-o", "encoder.width=8", "-o", "training.epochs=1", "-o", "training.batches_per_epoch=4"]


def rodpo(*arguments, cwd=None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, "-c", "from rodpo_lite.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def assert_refused(result: subprocess.CompletedProcess, *expected: str) -> None:
    assert result.returncode == 2, result.stderr
    message = result.stderr.strip()
    assert message.startswith("rodpo: ") and message.count("\n") == 0 and "Traceback" not in message
    for part in expected:
        assert part in message, message
