"""What computed a number: versions, machine, commit."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rodpo_lite import __version__


def computation(device: str, precision: str, processes: int = 1) -> dict[str, Any]:
    """What computes a run now: versions, commit, device, precision of products, machine, processes if several."""
    entry = {"versions": versions(), "commit": commit(), "device": device, "precision": precision, "machine": machine()}
    return entry | ({"processes": processes} if processes > 1 else {})


def computed_in(stretches: list[dict[str, Any]]) -> dict[str, Any]:
    """What computed a run: that of its last stretch, but of several all devices and precisions, and `stretches`.

    A stretch is an entry of `computation` with the number of its first epoch, `from_epoch`.
    """
    summary = {key: value for key, value in stretches[-1].items() if key != "from_epoch"}
    if len(stretches) > 1:
        for key in ("device", "precision"):
            summary[key] = ", ".join(dict.fromkeys(stretch.get(key, "unknown") for stretch in stretches))
        summary["stretches"] = stretches
    return summary


def versions() -> dict[str, str]:
    """The versions of Python, of this package and of the libraries that decide the numbers."""
    libraries = {name: version(name) for name in ("torch", "numpy", "pandas")}
    return {"python": platform.python_version(), "rodpo_lite": __version__, **libraries}


def machine() -> dict[str, Any]:
    """This machine: processor architecture and model, threads, accelerator."""
    entry: dict[str, Any] = {
        "system": platform.system(),
        "processor": platform.machine(),
        "model": _processor_model(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        entry["accelerator"] = torch.cuda.get_device_name()
    return entry


def _processor_model() -> str:
    """The processor as Linux names it; elsewhere what Python knows, which may be only the architecture."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def commit() -> str | None:
    """The commit of the source that runs, `+` for uncommitted changes; None outside a checkout of this project."""
    here, others = Path(__file__).resolve(), ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    options: dict[str, Any] = {"cwd": here.parent, "stderr": subprocess.DEVNULL, "text": True}
    options["env"] = {name: value for name, value in os.environ.items() if name not in others}
    git = ["git", "--no-optional-locks"]
    try:
        where = subprocess.check_output([*git, "ls-files", "--full-name", here.name], **options).strip()
        if where != f"{here.parent.name}/{here.name}":  # a copy that lies in another repository
            return None
        dirty = subprocess.check_output([*git, "status", "--porcelain", "--", "."], **options).strip()
        return subprocess.check_output([*git, "rev-parse", "HEAD"], **options)[:12] + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None
