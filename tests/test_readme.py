"""The tree of the README: every module once, with the first sentence of its docstring."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[.!?])\s", " ".join(docstring.split("\n\n")[0].split()))[0].rstrip(".")


def test_the_tree_has_every_module_and_says_what_it_does():
    block = re.search(r"## Where things are.*?```text\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)[1]
    folders, listed = [], {}
    for line in block.splitlines():
        name, _, text = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name.rstrip("/")]
        listed["/".join(folders)] = text.strip()
    modules = {}
    for path in (path for package in ("rodpo_lite", "companion") for path in (PROJECT / package).rglob("*.py")):
        place = path.parent if path.name == "__init__.py" else path
        if path.name != "__main__.py":
            modules[place.relative_to(PROJECT).as_posix()] = sentence(path)
    assert listed == modules
