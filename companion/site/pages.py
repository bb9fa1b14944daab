"""The executed pages of the book: what each is made from, where it is kept, and whether it still stands.

Beside an executed `<page>.ipynb` lie `<page>.metrics.json` (what the notebook passed to `record`), `<page>.figures/`
(a still picture of each figure) and `<page>.stamp.json` (the hash of everything it was made from). The stamp is written
last: a page without it is stale.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from companion.site import imports
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_yaml

METRIC = "application/vnd.rodpo.metric+json"
LIBRARIES = (
    "torch", "numpy", "pandas", "pyarrow", "pydantic", "pandera", "tqdm", "safetensors", "scipy", "pyyaml", "filelock",
    "plotly", "jinja2", "jupytext", "papermill", "ipykernel", "kaleido",
)  # fmt: skip
EXECUTION = "from companion.site import execution, pages"  # what executes a page, and so decides what it looks like

BUILDS = "builds the book, or checks it,"  # while it holds the folder


def require_root(root: Path) -> None:
    """Raises InputError for a folder that is not the project's root."""
    for name in ("_config.yml", "book/_toc.yml", "notebooks"):
        if not (root / name).exists():
            raise InputError(f"{root} has no {name}: run this in the project's root folder.")


class BookError(RuntimeError):
    """The book's own content failed: a notebook raised or Sphinx warned (exit code 1)."""


@dataclass(frozen=True)
class Page:
    """A notebook and where its executed form is kept; `hash` covers everything that it was made from."""

    source: Path
    folder: Path
    parameters: dict[str, Any]
    hash: str

    @property
    def name(self) -> str:
        return self.source.stem

    @property
    def input(self) -> Path:
        """The notebook as papermill takes it, while it is executed."""
        return self.folder / f"{self.name}.input.ipynb"

    @property
    def executed(self) -> Path:
        return self.folder / f"{self.name}.ipynb"

    @property
    def failed(self) -> Path:
        """The notebook as far as it ran, where it raised."""
        return self.folder / f"{self.name}.failed.ipynb"

    @property
    def metrics(self) -> Path:
        return self.folder / f"{self.name}.metrics.json"

    @property
    def pictures(self) -> Path:
        return self.folder / f"{self.name}.figures"

    @property
    def stamp(self) -> Path:
        return self.folder / f"{self.name}.stamp.json"

    def is_fresh(self) -> bool:
        """Whether the executed page stands and was made from exactly these inputs."""
        try:
            made_from = json.loads(self.stamp.read_text())["hash"]
        except (OSError, ValueError, LookupError, TypeError):
            return False
        return self.executed.exists() and self.metrics.exists() and made_from == self.hash


def record(name: str, value: float | str) -> None:
    """Record a scalar of a notebook for the regression check; in the page and in Jupyter it leaves no trace.

    Raises TypeError if the value is not a number, truth value or string, ValueError if it is not finite.
    """
    from IPython.display import display

    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, bool | int | float | str):
        raise TypeError(f"metric {name!r} is a {type(value).__name__}: record a number, a truth value or a string")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"metric {name!r} is {value}: record finite values only")
    shown = {"text/html": "", "text/plain": f"{name} = {value}"}  # Jupyter and VS Code show the first of them
    display({METRIC: {"name": name, "value": value}, **shown}, raw=True)


def record_defaults(config: type[BaseModel]) -> None:
    """Record every default of a configuration that a notebook is about, so that a changed one points at it."""
    for name, value in config().model_dump(mode="json").items():
        record(
            f"default_{config.__name__}.{name}",
            value if isinstance(value, bool | int | float | str) else json.dumps(value),
        )


def find_pages(root: Path, profile: str, build: Path) -> list[Page]:
    """Every notebook of the book with the profile's parameters; `build` is where executed pages are kept.

    Raises InputError if the profile is unknown or names a notebook that does not exist.
    """
    sources = sorted((root / "notebooks").glob("*.py"))
    parameters = _profile(root / "notebooks" / "profiles.yml", profile, {source.stem for source in sources})
    common = _common_inputs(root)
    pages = []
    for source in sources:
        values = {"profile": profile, **parameters.get(source.stem, {})}
        parts = [common, source.read_bytes(), json.dumps(values, sort_keys=True).encode()]
        digest = _digest(parts + _code(source.read_text(encoding="utf-8")))
        pages.append(Page(source, build / "executed" / profile, values, digest))
    return pages


def _profile(path: Path, profile: str, names: set[str]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        raise InputError(f"{path} is missing: it lists the book's profiles and their notebook parameters.")
    profiles = read_yaml(path, "The list of profiles").get("profiles") or {}
    if not isinstance(profiles, dict):
        raise InputError(f"{path}: profiles must map the name of each profile to its notebooks.")
    if profile not in profiles:
        raise InputError(
            f"Profile {profile!r} is unknown: choose one of {', '.join(map(str, profiles))} (see {path.name})."
        )
    parameters = profiles[profile] or {}
    try:
        json.dumps(parameters, allow_nan=False, sort_keys=True)
        fits = all(isinstance(values, dict) for values in parameters.values())
    except (TypeError, ValueError, RecursionError, AttributeError):
        fits = False
    if not fits:
        raise InputError(
            f"{path.name}, profile {profile!r}: each notebook needs its parameters as in sums: {{last: 5}}."
        )
    if unknown := sorted(parameters.keys() - names, key=str):
        raise InputError(f"{path.name}, profile {profile!r}: there is no notebook {unknown[0]!r}.")
    return parameters


def _common_inputs(root: Path) -> bytes:
    """What every page depends on: ledger, benchmark results, the data's checksums, Python and libraries."""
    results = [path for path in (root / "data" / "results").rglob("*") if path.is_file()]
    results += (root / "benchmarks").glob("*.json")
    data = Path(os.environ.get("RODPO_DATA") or root / "data" / "amazon").glob("*/dataset.json")
    parts = [sys.version.encode(), *(f"{name} {version(name)}".encode() for name in LIBRARIES)]
    for top, paths in ((root, results), (None, data)):
        for path in sorted(paths):
            parts += [str(path.relative_to(top) if top else path.parent.name).encode(), path.read_bytes()]
    return _digest(parts).encode()


def _code(notebook: str) -> list[bytes]:
    """The code that a notebook imports, and that which executes it; a notebook that cannot be parsed fails later."""
    try:
        files = imports.imported_files(notebook, imports.ROOT)
    except SyntaxError:
        files = set()
    files |= imports.imported_files(EXECUTION, imports.ROOT)
    return [
        part for path in sorted(files) for part in (str(path.relative_to(imports.ROOT)).encode(), path.read_bytes())
    ]


def _digest(parts: list[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def parameters_of(page: Page) -> dict[str, Any]:
    """Write the notebook as papermill needs it and return the defaults of its parameters cell.

    Raises InputError if it has no such cell, or one that lacks a parameter of the profile or has it with another type.
    """
    import jupytext
    import nbformat
    from papermill.inspection import inspect_notebook

    try:
        notebook = jupytext.read(page.source, fmt="py:percent")
    except UnicodeDecodeError:
        raise InputError(f"{page.source} is not UTF-8 text; save the file as UTF-8.") from None
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{page.name}-{number}"  # jupytext's are random
    if not any("parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells):
        raise InputError(f"{page.source} has no cell tagged “parameters”: add one that sets at least `profile`.")
    page.folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, page.input)
    declared = inspect_notebook(page.input)
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
    return defaults
