"""Runs pages of the book with papermill, two at a time, and keeps what they printed, recorded and drew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from companion.site import still
from companion.site.figures import BOOK_MODE
from companion.site.pages import METRIC, Page, parameters_of
from rodpo_lite.files import write_bytes, write_json

WORKERS = 2


def execute(pages: list[Page], build: Path, progress: Callable[[str], Any]) -> dict[str, str]:
    """Execute pages, two at a time; those that succeed are kept even when another fails.

    Returns for each page that failed a sentence that names notebook, cell and exception. Raises InputError for a
    notebook without fitting parameters.
    """
    from rodpo_lite.provenance import commit, machine, versions

    defaults = {page.name: parameters_of(page) for page in pages}
    environment = _kernel_environment(build / "jupyter")
    here = machine()
    made_by = {"commit": commit(), **versions(), "cpu": f"{here['model']} ({here['cpu']})"}

    def one(page: Page) -> str | None:
        return _execute(page, defaults[page.name], made_by, environment)

    failures = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for page, failure in zip(pages, pool.map(one, pages)):
            progress(f"{page.name}: {'failed' if failure else 'executed'}")
            failures |= {page.name: failure} if failure else {}
    return failures


def _kernel_environment(folder: Path) -> dict[str, str]:
    """An environment in which `python3` is this interpreter, whatever kernels and settings the user has."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    write_json(folder / "kernels" / "python3" / "kernel.json", spec)
    own = {
        "JUPYTER_PATH": folder,
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "IPYTHONDIR": folder / "ipython",
        "OMP_NUM_THREADS": max(1, (os.cpu_count() or 1) // WORKERS),
        BOOK_MODE: 1,
        "TQDM_DISABLE": 1,
    }
    return {**os.environ, **{name: str(value) for name, value in own.items()}}


def _execute(page: Page, defaults: dict[str, Any], made_by: dict[str, Any], environment: dict[str, str]) -> str | None:
    """Run one page and keep it; returns a sentence if it failed."""
    import nbformat

    page.stamp.unlink(missing_ok=True)
    output = page.folder / f"{page.name}.output.ipynb"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-level", "ERROR", "--kernel", "python3"]
    command += ["--cwd", str(page.source.parent), "-y", json.dumps(page.parameters), str(page.input), str(output)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace")
    page.input.unlink()
    where = f"notebooks/{page.source.name}"
    if run.returncode:
        if not output.exists():
            return f"{where} could not be executed: {(run.stderr.strip() or 'papermill failed').splitlines()[-1]}"
        output.replace(page.failed)
        return f"{where}, {_error(nbformat.read(page.failed, 4), run.stderr)} (executed so far: {page.failed})"
    executed = nbformat.read(output, 4)
    output.unlink()
    parameters = defaults | page.parameters
    if parameters == defaults:  # the parameters cell itself says it all
        executed.cells = [cell for cell in executed.cells if not _is_injected(cell)]
    for part in (executed, *executed.cells):
        for key in ("papermill", "execution"):  # times and local paths
            part.metadata.pop(key, None)
    try:
        metrics = _collect(executed)
    except ValueError as error:
        write_bytes(page.failed, nbformat.writes(executed).encode())
        return f"{where}: {error}"
    page.failed.unlink(missing_ok=True)
    write_bytes(page.executed, nbformat.writes(executed).encode())
    shutil.rmtree(page.pictures, ignore_errors=True)
    for number, picture in enumerate(still.draw(executed), start=1):
        write_bytes(page.pictures / f"{number}.svg", picture)
    write_json(page.metrics, metrics)
    write_json(page.stamp, {"hash": page.hash, "parameters": parameters, "made_by": made_by})
    return None


def _is_injected(cell: Any) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", ())


def _error(notebook: Any, stderr: str) -> str:
    """The cell that raised and what, counting code cells as their author does."""
    authored = [cell for cell in notebook.cells if cell.cell_type == "code" and not _is_injected(cell)]
    for number, cell in enumerate(authored, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                start = next((line for line in cell.source.splitlines() if line.strip()), "")
                return f"code cell {number} (`{start[:60]}`): {output.ename}: {output.evalue}"
    return f"outside any cell: {(stderr.strip() or 'the kernel stopped').splitlines()[-1]}"


def _collect(notebook: Any) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if METRIC in output.get("data", ()):
                found = output.data[METRIC]
                if found["name"] in metrics:
                    raise ValueError(f"metric {found['name']!r} is recorded twice; give each its own name.")
                metrics[found["name"]] = found["value"]
    return metrics
