"""Execute pages of the book with papermill, two at a time, and keep what they printed, recorded and drew."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from companion.site.pages import METRIC, PLOTLY, Page
from rodpo_lite.errors import InputError
from rodpo_lite.files import write_bytes, write_json

WORKERS = 2
KERNEL = {"display_name": "Python 3", "language": "python"}
WIDTH, HEIGHT = 760, 380  # pixels of a figure: a line of text, and unless the figure sets its own


def execute(pages: list[Page], build: Path, progress: Callable[[str], Any]) -> dict[str, str]:
    """Execute pages and keep those that succeed; returns for each that failed a sentence with cell and exception.

    Raises InputError for a notebook without fitting parameters.
    """
    from rodpo_lite.provenance import commit, machine, versions

    prepared = [prepare(page) for page in pages]
    here = machine()
    made_by = {"commit": commit(), **versions(), "cpu": f"{here['model']} ({here['cpu']})"}
    run = partial(_execute, made_by=made_by, environment=_kernel_environment(build / "jupyter"))
    with ThreadPoolExecutor(WORKERS) as pool:
        running = {pool.submit(run, page, notebook): page.name for page, notebook in zip(pages, prepared)}
        for done in as_completed(running):
            progress(f"{running[done]}: {'failed' if done.result() else 'executed'}")
    return {name: failure for done, name in running.items() if (failure := done.result())}


def prepare(page: Page) -> tuple[str, dict[str, Any]]:
    """The notebook as papermill needs it, and the defaults of its parameters cell.

    Raises InputError if that is missing, or lacks a parameter of the profile or has it with another type.
    """
    import jupytext
    import nbformat
    from papermill.inspection import inspect_notebook

    try:
        notebook = jupytext.read(page.source, fmt="py:percent")
    except UnicodeDecodeError:
        raise InputError(f"{page.source} is not UTF-8 text; save the file as UTF-8.") from None
    metadata = {"kernelspec": {"name": "python3", **KERNEL}, "language_info": {"name": "python"}}
    notebook.metadata = nbformat.from_dict(metadata)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{page.name}-{number}"  # jupytext's are random
    if not any("parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells):
        raise InputError(f"{page.source} has no cell tagged “parameters”: add one that sets at least `profile`.")
    declared = inspect_notebook(notebook)
    if unknown := sorted(page.parameters.keys() - declared.keys()):
        raise InputError(f"{page.source}: its parameters cell does not set {unknown[0]!r}, which the profile sets.")
    try:
        defaults = {name: ast.literal_eval(parameter["default"]) for name, parameter in declared.items()}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # as ast.literal_eval says
        raise InputError(f"{page.source}: its parameters cell must set plain values only, as in `k = 20`.") from None
    for name, value in page.parameters.items():
        kind = type(defaults[name])
        if type(value) not in (kind, int if kind is float else kind) and defaults[name] is not None:
            raise InputError(
                f"{page.source}: the profile sets {name} to {value!r}, "
                f"which is no {kind.__name__}; its default is {defaults[name]!r}."
            )
    return json.dumps(notebook), defaults


def _kernel_environment(folder: Path) -> dict[str, str]:
    """An environment in which `python3` is this interpreter, whatever kernels and settings the user has."""
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    write_json(folder / "kernels" / "python3" / "kernel.json", {"argv": argv, **KERNEL})
    settings = {
        "JUPYTER_PATH": folder,
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "IPYTHONDIR": folder / "ipython",
        "OMP_NUM_THREADS": max(1, (os.cpu_count() or 1) // WORKERS),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "TQDM_DISABLE": 1,
        "RODPO_PRECISION": "fp32",  # whether or not the processor is faster in bf16
    }
    return {**os.environ, **{name: str(value) for name, value in settings.items()}}


def _execute(page: Page, prepared: tuple[str, dict], made_by: dict[str, Any], environment: dict) -> str | None:
    """Run a page and keep it; returns a sentence if it failed."""
    import nbformat

    notebook, defaults = prepared
    page.stamp.unlink(missing_ok=True)
    page.folder.mkdir(parents=True, exist_ok=True)
    output = page.folder / f"{page.name}.output.ipynb"
    parameters = defaults | page.parameters
    injected = {} if parameters == defaults else page.parameters  # else the parameters cell itself says it all
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-level", "ERROR", "--kernel", "python3"]
    command += ["--cwd", str(page.source.parent), "-y", json.dumps(injected), "-", str(output)]
    run = subprocess.run(
        command, input=notebook, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    where = f"notebooks/{page.source.name}"
    if not output.exists():
        return f"{where} could not be executed: {(run.stderr.strip() or 'papermill failed').splitlines()[-1]}"
    executed = nbformat.read(output, 4)
    output.unlink()
    for part in (executed, *executed.cells):
        for key in ("papermill", "execution"):  # times and local paths
            part.metadata.pop(key, None)
    content, recorded = nbformat.writes(executed).encode(), _outputs(executed, METRIC)
    names = [metric["name"] for metric in recorded]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if run.returncode or twice:
        write_bytes(page.failed, content)
        if run.returncode:
            return f"{where}, {_error(executed, run.stderr)} (executed so far: {page.failed})"
        return f"{where}: metric {twice[0]!r} is recorded twice; give each its own name."
    page.failed.unlink(missing_ok=True)
    write_bytes(page.executed, content)
    shutil.rmtree(page.pictures, ignore_errors=True)
    for number, picture in enumerate(_pictures(_outputs(executed, PLOTLY)), start=1):
        write_bytes(page.pictures / f"{number}.svg", picture)
    write_json(page.metrics, {metric["name"]: metric["value"] for metric in recorded})
    write_json(page.stamp, {"hash": page.hash, "parameters": parameters, "made_by": made_by})
    return None


def _error(notebook: Any, stderr: str) -> str:
    """The cell that raised and what, counting code cells as their author does."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    authored = [cell for cell in code if "injected-parameters" not in cell.metadata.get("tags", ())]
    for number, cell in enumerate(authored, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                start = next((line for line in cell.source.splitlines() if line.strip()), "")
                return f"code cell {number} (`{start[:60]}`): {output.ename}: {output.evalue}"
    return f"outside any cell: {(stderr.strip() or 'the kernel stopped').splitlines()[-1]}"


def _outputs(notebook: Any, kind: str) -> list[Any]:
    """What the outputs of a notebook hold of a MIME type, in order."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return [output.data[kind] for output in outputs if kind in output.get("data", ())]


def _pictures(figures: list[dict[str, Any]]) -> Iterator[bytes]:
    """Still pictures of figures as SVG, for readers without JavaScript: as they look before anything is moved."""
    from kaleido.scopes.plotly import PlotlyScope

    # Kaleido cannot be started from a path with spaces or letters beyond ASCII, so it gets links to follow.
    places = [place for place in (tempfile.gettempdir(), "/tmp") if re.fullmatch(r"[\w/.-]+", place, re.ASCII)]
    with tempfile.TemporaryDirectory(prefix="rodpo-", dir=next(iter(places), None)) as holder:
        executable, library = Path(holder, "kaleido"), Path(holder, "plotly.min.js")
        executable.symlink_to(Path(started := PlotlyScope.executable_path()).parent)
        library.symlink_to(str(files("plotly") / "package_data" / "plotly.min.js"))
        scope = PlotlyScope(plotlyjs=str(library))  # starts when it is used
        scope.executable_path = lambda: str(executable / Path(started).name)
        try:
            for figure in figures:
                layout = {key: part for key, part in figure["layout"].items() if key not in ("sliders", "updatemenus")}
                size = {"width": WIDTH, "height": int(layout.get("height") or HEIGHT)}
                yield scope.transform({"data": figure["data"], "layout": layout}, format="svg", **size)
        finally:
            scope._shutdown_kaleido()
