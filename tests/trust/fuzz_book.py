"""What the book is made from: baselines and their rules, and the parameters cells of notebooks."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from companion.site.check import FOLDER, Rules, baseline_file, compare, read_baseline
from companion.site.execution import prepare
from companion.site.pages import Page
from rodpo_lite import files
from trust import mutations
from trust.fuzz_text import TEXTS

METRICS = {"total": 6.0, "holds": True, "verdict": "yes"}
BASELINE = {"pages": {"sums": METRICS}, "made_by": {"sums": {"commit": "0", "torch": "2"}}}
RULES = """tolerance: {"*": 0.01, "sums.total": 0.1}
invariants:
  - {page: sums, metric: "t*", low: 0, high: 10}
  - {page: sums, rising: [total, total]}
"""
NOTEBOOK = '# %% tags=["parameters"]\nprofile = "smoke"\nlast = {}\n# %%\nlast\n'
PYTHON = [
    *TEXTS, "(", "1 + 2", "range(3)", "None", "lambda: 0", "{1: 2}", "-5", "1j", "b'x'", "...", "__import__('os')",
    "'a",
    "1\\",
]  # fmt: skip


def baselines(place: Path) -> Callable[[Path, random.Random], Callable]:
    complete = place / "complete"
    files.write_json(baseline_file(complete, "smoke"), BASELINE)
    (complete / FOLDER / "rules.yml").write_text(RULES)

    def make(folder: Path, chance: random.Random) -> Callable:
        root = shutil.copytree(complete, folder / "root")
        path = chance.choice([baseline_file(root, "smoke"), baseline_file(root, "smoke"), root / FOLDER / "rules.yml"])
        if path.suffix == ".json" and chance.random() < 0.8:
            mutations.json_of(path, chance)
        else:
            mutations.bytes_of(path, chance)
        page = Page(root / "notebooks" / "sums.py", folder / "pages", {}, "")
        files.write_json(page.metrics, METRICS)

        def case() -> None:
            rules = Rules.read(root / FOLDER / "rules.yml")
            baseline = read_baseline(root, "smoke")
            for finding in compare(page, baseline.pages.get("sums", {}), rules, {}):
                finding.cells()

        return case

    return make


def parameters(place: Path) -> Callable[[Path, random.Random], Callable]:
    def make(folder: Path, chance: random.Random) -> Callable:
        source, content = folder / "sums.py", NOTEBOOK.format(chance.choice(PYTHON)).encode()
        source.write_bytes(mutations.flip(content, chance) if chance.random() < 0.3 else content)
        return lambda: prepare(Page(source, folder / "pages", {"profile": "smoke"}, ""))

    return make
