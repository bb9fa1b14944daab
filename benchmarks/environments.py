"""One virtual environment for each peer, .bench/NAME, from torch and the pinned file peers/NAME.txt."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"


class EnvironmentFailed(Exception):
    """A peer's environment cannot be made here; the message is pip's last line."""


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(name: str, pins: Path, root: Path, torch_options: list[str]) -> Path:
    """The python of the environment `name`, made if it is missing, made anew if its pins have changed.

    torch comes first, with `torch_options` (an index with the CPU build) if that works and without if it does not;
    nothing that comes after it may replace it. Raises EnvironmentFailed.
    """
    folder, python = root / name, python_of(root / name)
    ready, wanted = folder / ".ready", hashlib.sha256(f"{TORCH} {sys.version}".encode() + pins.read_bytes()).hexdigest()
    if ready.exists() and ready.read_text() == wanted:
        return python
    print(f"making the environment {folder} …", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run(sys.executable, "-m", "venv", folder)
        if torch_options:
            try:
                _pip(python, "--no-deps", *torch_options, TORCH)
            except EnvironmentFailed as failure:
                print(f"note: {' '.join(torch_options)} did not serve {TORCH}: {failure}", file=sys.stderr)
        _pip(python, TORCH)
        _pip(python, "--no-deps", "-r", pins)
    except EnvironmentFailed:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    ready.write_text(wanted)
    return python


def _pip(python: Path, *arguments: object) -> None:
    _run(python, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq", "install", *arguments)


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentFailed((done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1])
