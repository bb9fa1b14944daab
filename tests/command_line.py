"""The command line in a process of its own, and what a refusal must look like.

Commands are forked from a server that has imported what they need, so that a test waits for their work alone.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SMALL = ["-o", "encoder.width=8", "-o", "training.epochs=1", "-o", "training.batches_per_epoch=4"]

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["rodpo_lite.cli", "rodpo_lite.training.runs", "rodpo_lite.training.results", "rodpo_lite.evaluation.baselines"]
)


def rodpo(*arguments, cwd=None, **environment) -> subprocess.CompletedProcess:
    """Exit status and output of ``rodpo`` with these arguments, in this folder and with these variables."""
    environment = {**os.environ, "COLUMNS": "100", **environment}
    command = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_run, args=(command, cwd, environment, streams))
        process.start()
        process.join()
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in streams))


def _run(command, cwd, environment, streams) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd or os.curdir)
    sys.argv = ["rodpo", *command]
    import torch

    from rodpo_lite.cli import main

    torch.set_num_threads(1)
    main()


def assert_refused(result: subprocess.CompletedProcess, *expected: str) -> None:
    assert result.returncode == 2, result.stderr
    message = result.stderr.strip()
    assert message.startswith("rodpo: ") and message.count("\n") == 0 and "Traceback" not in message
    for part in expected:
        assert part in message, message
