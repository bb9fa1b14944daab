"""Change the code that every number goes through, one place at a time, and see whether a test notices.

What is changed and which tests judge it stands under `tool.mutmut` in pyproject.toml. Functions with a decorator,
properties and module constants are left as they are: mutmut does not change them. Of each function every fifth change
is tried, from the first on.
"""

import os
import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from rodpo_lite.provenance import commit

PROJECT = Path(__file__).resolve().parents[2]
SURVIVORS = PROJECT / "_build" / "trust" / "survivors.diff"
COUNTED = ("noticed", "timed_out", "survived")
BECAME = {"killed": "noticed", "timeout": "timed_out"}  # anything else survived
ENOUGH = 0.9  # of the changes in each module must make a test fail; to run out of time is not enough
COPIED = ("rodpo_lite", "companion", "tests", "workflow", "data", "book", "notebooks", "benchmarks", "pyproject.toml")
NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
EVERY_FIFTH = ("1", "6")  # what its number ends in


def try_all(place: Path, *modules: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Counts of changes that a test noticed, in all and for each module; the others are shown in `SURVIVORS`.

    modules: only these, such as `ledger`; counts of the others are those `known`, each with its commit.
    """
    copy = place / "project"
    for name in _run(PROJECT, "git", "ls-files", *COPIED).splitlines():
        if (PROJECT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((PROJECT / name).read_bytes())
    for command in (["init", "-q"], ["add", "."], [*NOBODY, "commit", "-qm", "copy"]):  # runs name their commit
        _run(copy, "git", *command)
    mutmut = sys.executable, "-m", "mutmut"
    tried = [f"*.{module}.*__mutmut_*{end}" for module in modules or ("*",) for end in EVERY_FIFTH]
    _run(copy, *mutmut, "run", "--max-children", str(os.cpu_count()), *tried)
    lines = _run(copy, *mutmut, "results", "--all", "true").splitlines()
    became = dict(line.strip().split(": ") for line in lines if "__mutmut_" in line and "not checked" not in line)
    of: dict[str, Any] = dict((known or {}).get("of", {})) if modules else {}
    for module, names in groupby(sorted(became), lambda name: name.rpartition(".")[0]):
        counted = Counter(BECAME.get(became[name], "survived") for name in names)
        of[module] = {"commit": commit()} | {what: counted[what] for what in COUNTED}
    SURVIVORS.parent.mkdir(parents=True, exist_ok=True)
    unnoticed = [name for name, status in became.items() if status != "killed"]
    SURVIVORS.write_text("\n".join(_run(copy, *mutmut, "show", name) for name in unnoticed))
    totals = {module: sum(counts.get(what, 0) for what in COUNTED) for module, counts in of.items()}
    too_few = [module for module, total in totals.items() if of[module].get("noticed", 0) < ENOUGH * total]
    noticed, total = sum(counts.get("noticed", 0) for counts in of.values()), sum(totals.values())
    print(f"mutants: {noticed} of {total} noticed, too few in {too_few}; the others are in {SURVIVORS}")
    return {"mutants": total, "noticed": noticed, "too_few": too_few, "of": of}


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout
