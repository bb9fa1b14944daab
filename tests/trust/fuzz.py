"""Broken input: every case ends in success or in one sentence, in bounded time, with nothing half-written.

Hypothesis draws the cases: it plays the random generator of a family.
"""

import random
import shutil
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rodpo_lite.errors import InputError
from rodpo_lite.training.trainer import TrainingDiverged
from trust import fuzz_book, fuzz_data, fuzz_imports, fuzz_runs, fuzz_text

# A family makes, once, what its cases are made from, and then a case: mutates it and returns what is to be tried.
Case = Callable[[], Any]
FAMILIES: dict[str, Callable[[Path], Callable[[Path, random.Random], Case]]] = {
    "datasets": fuzz_data.family,
    "imports": fuzz_imports.family,
    "configurations": fuzz_text.configurations,
    "runs": fuzz_runs.family,
    "ledgers": fuzz_runs.ledgers,
    "profiles": fuzz_text.profiles,
    "titles": fuzz_text.titles,
    "baselines": fuzz_book.baselines,
    "parameters": fuzz_book.parameters,
}
ALL = {
    "datasets": 300, "imports": 300, "configurations": 200, "runs": 200, "ledgers": 60, "profiles": 60, "titles": 60,
    "baselines": 100, "parameters": 40,
}  # fmt: skip
SECONDS = 20  # of processor time
WARNINGS = 20


def try_all(wanted: dict[str, int], place: Path, seed: int = 0, say=print) -> dict[str, Any]:
    """Try so many cases of each family; what was neither accepted nor refused in a sentence stands in `unhandled`."""
    found, unhandled = {}, []
    for name, number in wanted.items():
        (place / name).mkdir(parents=True)
        make, counts, started = FAMILIES[name](place / name), Counter(), time.perf_counter()
        for outcome, detail in drawn(make, place / name / "case", number, f"{seed}/{name}"):
            counts[outcome] += 1
            if outcome == "unhandled":
                unhandled.append(f"{name} {counts.total()}: {detail}")
        found[name] = {key: counts[key] for key in ("accepted", "rejected", "unhandled")}
        say(f"{name}: {counts.total()} cases, {found[name]}, {time.perf_counter() - started:.0f} s")
    totals = {key: sum(entry[key] for entry in found.values()) for key in ("accepted", "rejected", "unhandled")}
    return {"seed": seed, "cases": sum(totals.values()), **totals, "families": found, "first": unhandled[:20]}


def drawn(make: Callable[[Path, random.Random], Case], folder: Path, number: int, seed: str) -> list[tuple[str, str]]:
    """What became of so many cases of a family, the same ones for the same seed."""
    found = []

    def one(chance: random.Random) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        found.append(attempt(make, folder, chance))

    rules = settings(
        max_examples=number, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    hypothesis.seed(seed)(rules(given(st.randoms(use_true_random=False))(one)))()
    return found


def attempt(make: Callable[[Path, random.Random], Case], folder: Path, chance: random.Random) -> tuple[str, str]:
    """What became of a case, and why if it is none of what is allowed."""
    outcome = "accepted"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case = make(folder, chance)
        caught.clear()
        started = time.process_time()
        try:
            case()
        except (InputError, TrainingDiverged) as error:
            outcome, message = "rejected", str(error)
            if "\n" in message or not message.endswith(".") or len(message) > 4000:
                return "unhandled", f"not a sentence: {message[:300]!r}"
        except Exception:
            return "unhandled", " | ".join(traceback.format_exc(chain=False).strip().splitlines()[-5:])
    if time.process_time() - started > SECONDS:
        return "unhandled", f"took {time.process_time() - started:.0f} s"
    if len(caught) > WARNINGS:
        return "unhandled", f"{len(caught)} warnings, such as {caught[0].message}"
    left = [path.name for path in folder.rglob(".*")]
    if left or (outcome == "rejected" and half_written(folder / "out")):
        return "unhandled", f"left behind: {left or 'out'}"
    return outcome, ""


def half_written(out: Path) -> bool:
    """Whether an output folder is there that is neither a dataset nor an unfinished run."""
    return out.exists() and not (out / "dataset.json").exists() and not (out / "run.json").exists()
