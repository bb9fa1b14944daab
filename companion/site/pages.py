"""The executed pages of the book: what each is made from, where it is kept, and whether it is stale.

Beside an executed `<page>.ipynb` are `<page>.metrics.json` (what the notebook passed to `record`), `<page>.figures/`
(a still picture of each figure) and `<page>.stamp.json` (the hash of everything it was made from). The stamp is written
last: a page without it is stale.
"""

import ast
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

import companion
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json
from rodpo_lite.settings import read_as

METRIC = "application/vnd.rodpo.metric+json"
PLOTLY = "application/vnd.plotly.v1+json"  # the MIME type of a figure
METADATA = "rodpo"  # the key of what an output says about itself: a figure's words and data, or CAPTION
CAPTION = "caption"  # marks the output that shows a caption in a notebook
LIBRARIES = (
    "torch", "numpy", "pandas", "pyarrow", "pydantic", "tqdm", "safetensors", "scipy", "pyyaml", "filelock",
    "plotly", "jinja2", "jupytext", "papermill", "ipykernel", "kaleido",
)  # fmt: skip
ROOT = Path(companion.__file__).parents[1]  # of the two packages
PACKAGES = ("rodpo_lite", "companion")
EXECUTION = b"from companion.site import execution, pages"  # executes and keeps every page
DATASETS = "*/dataset.json"  # in the folder of real data; their checksums cover the rest
READS = {  # files that a module reads, below the project: a page depends on them if it imports that module
    "companion/evidence/ledger.py": "data/results/**/*",
    "companion/evidence/grid.py": "workflow/*.yaml",
    "companion/findings/costs.py": "benchmarks/*.json",
    "companion/site/figures.py": "companion/site/template.yml",
    "companion/findings/runs.py": "data/published.csv",
    "companion/findings/names.py": "book/sentences/names.yml",
    "companion/findings/sentences.py": "book/sentences/*.j2",
    "companion/own_log/report.py": "companion/own_log/*.j2",
    "rodpo_lite/data/schema.py": DATASETS,
    "rodpo_lite/data/importers/tables.py": "rodpo_lite/data/importers/columns.yml",
    "rodpo_lite/settings.py": "rodpo_lite/presets/*.yaml",
}
BUILDS = "builds the book, or checks it,"  # while it holds the folder


def require_root(root: Path) -> None:
    """Raises InputError for a folder that is not the project's root."""
    for name in ("_config.yml", "book/_toc.yml", "notebooks"):
        if not (root / name).exists():
            raise InputError(f"{root} has no {name}: run this in the project's root folder.")


class BookError(RuntimeError):
    """The book's own content failed: a notebook raised or Sphinx warned (exit code 1)."""


def _beside(ending: str) -> property:
    return property(lambda page: page.folder / f"{page.name}{ending}")


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

    executed = _beside(".ipynb")
    failed = _beside(".failed.ipynb")  # as far as it ran, where it raised
    metrics = _beside(".metrics.json")
    pictures = _beside(".figures")
    stamp = _beside(".stamp.json")

    def is_fresh(self) -> bool:
        """Whether the executed page is there and was made from exactly these inputs."""
        with suppress(InputError):
            return read_json(self.stamp).get("hash") == self.hash and self.executed.exists() and self.metrics.exists()
        return False


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
        plain = isinstance(value, bool | int | float | str)
        record(f"default_{config.__name__}.{name}", value if plain else json.dumps(value))


def find_pages(root: Path, profile: str, build: Path) -> list[Page]:
    """Every notebook of the book with the profile's parameters; `build` is where executed pages are kept.

    Those that take longest come first, so that the last one does not keep everybody waiting. Raises InputError if the
    profile is unknown or names a notebook that does not exist.
    """
    sources = sorted((root / "notebooks").glob("*.py"))
    profiles = _profiles(root / "notebooks" / "profiles.yml", profile, {source.stem for source in sources})
    parameters, places = profiles.profiles[profile] or {}, {name: n for n, name in enumerate(profiles.first)}
    sources.sort(key=lambda source: places.get(source.stem, len(places)))
    libraries = [sys.version, *(f"{name} {version(name)}" for name in LIBRARIES)]
    files_read = {ROOT / module: _matching(root, pattern) for module, pattern in READS.items()}
    pages = []
    for source in sources:
        values = {"profile": profile, **parameters.get(source.stem, {})}
        modules = imported_files(source.read_bytes())
        made_from = [libraries, values, _checksums(source.parent, [source])]
        made_from.append(_checksums(ROOT, modules | imported_files(EXECUTION)))
        made_from += [checksums for module, checksums in files_read.items() if module in modules]
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode())
        pages.append(Page(source, build / "executed" / profile, values, digest.hexdigest()))
    return pages


class _Profiles(BaseModel):
    """Parameters by profile and notebook, such as paper: {sums: {last: 5}}; first: notebooks that take longest."""

    model_config = ConfigDict(allow_inf_nan=False)

    profiles: dict[str, dict[str, dict[str, JsonValue]] | None] | None = None
    first: list[str] = []


def _profiles(path: Path, profile: str, names: set[str]) -> _Profiles:
    if not path.exists():
        raise InputError(f"{path} is missing: it lists the book's profiles and their notebook parameters.")
    content = read_as(_Profiles, path, "The list of profiles")
    profiles = content.profiles or {}
    if profile not in profiles:
        raise InputError(f"Profile {profile!r} is unknown: choose one of {', '.join(profiles)} (see {path.name}).")
    if unknown := sorted((profiles[profile] or {}).keys() - names):
        raise InputError(f"{path.name}, profile {profile!r}: there is no notebook {unknown[0]!r}.")
    return content


def imported_files(code: bytes) -> set[Path]:
    """The files of the two packages that Python code imports, directly or through others, wherever in it."""
    files, pending = set(), [code]
    while pending:
        found = _direct_imports(pending.pop(), ROOT) - files
        files |= found
        pending += [path.read_bytes() for path in found]
    return files


@cache
def _direct_imports(code: bytes, root: Path) -> frozenset[Path]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):  # it fails when it is executed
        return frozenset()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = set()
    for place in (Path(*name.split(".")) for name in names if name.partition(".")[0] in PACKAGES):
        files |= {place.with_suffix(".py"), *(folder / "__init__.py" for folder in (place, *place.parents))}
    return frozenset(root / path for path in files if (root / path).is_file())


def _matching(root: Path, pattern: str) -> dict[str, str]:
    """Checksums of files that fit, without hidden ones: a write that was killed leaves such a file."""
    if pattern == DATASETS:
        root = Path(os.environ.get("RODPO_DATA") or root / "data" / "amazon")
    paths = (path for path in root.glob(pattern) if path.is_file() and "/." not in f"/{path.relative_to(root)}")
    return _checksums(root, paths)


def _checksums(top: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The checksum of each file by its name relative to `top`."""
    return {str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
