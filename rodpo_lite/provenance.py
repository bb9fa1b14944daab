"""What computed a number: versions, machine, commit."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rodpo_lite import __version__

LIBRARIES = ("torch", "numpy", "pandas")


def versions() -> dict[str, str]:
    """Python and the libraries that decide the numbers."""
    own = {"python": platform.python_version(), "rodpo_lite": __version__}
    return own | {name: version(name) for name in LIBRARIES}


def machine() -> dict[str, Any]:
    """What computed the run: processor architecture and model, threads, accelerator."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "processor": platform.machine(),
        "model": _processor_model(),
        "threads": torch.get_num_threads(),
    }
    found["cpu"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def _processor_model() -> str:
    """As Linux names it; elsewhere what Python knows, which may be only the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def commit() -> str | None:
    """The commit of the source that runs, `+` for uncommitted changes; None outside a checkout."""
    root = Path(__file__).resolve().parent
    git = ["git", "-C", str(root)]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, env=environment, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()[:12] + ("+" if dirty.stdout.strip() else "")
