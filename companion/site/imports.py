"""Which files of the two packages a piece of code imports, directly or through others."""

import ast
from functools import cache
from pathlib import Path

import companion

ROOT = Path(companion.__file__).parents[1]
PACKAGES = ("rodpo_lite", "companion")


def imported_files(code: str, root: Path = ROOT) -> set[Path]:
    """Files below `root` that the code needs, wherever in it the import statement is."""
    found: set[Path] = set()
    pending = set(_named(code, root))
    while pending:
        path = pending.pop()
        found.add(path)
        pending |= _named(path.read_text(encoding="utf-8"), root) - found
    return found


@cache
def _named(code: str, root: Path) -> frozenset[Path]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            places = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
            files |= {place / "__init__.py" for place in places} | {places[-1].with_suffix(".py")}
    return frozenset(path for path in files if path.is_file())
