"""`make trust`: every suite in full, and its counts, with what they belong to, in counts.json."""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rodpo_lite import files
from rodpo_lite.provenance import commit, versions
from trust import faults, fuzz, memory, mutants, worlds

COUNTS = Path(__file__).parent / "counts.json"
SUITES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "faults": partial(faults.kill_all, faults.ALL),
    "fuzz": partial(fuzz.try_all, fuzz.ALL),
    "mutants": mutants.try_all,
    "memory": memory.measure,
    "worlds": worlds.judge_all,
}


def main(names: list[str]) -> int:
    """Run the suites of these names, by default all; the others' counts stay. Returns 1 if something failed.

    `mutants:ledger,trainer` changes these modules alone.
    """
    counts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    for name in names or SUITES:
        name, _, modules = name.partition(":")
        known, counts[name] = counts.get(name), {"commit": commit(), "versions": versions()}
        part = {"known": known} if modules else {}
        with tempfile.TemporaryDirectory(prefix="rodpo-trust-") as place:
            counts[name] |= SUITES[name](Path(place), *filter(None, modules.split(",")), **part)
        files.write_json(COUNTS, counts)
    print(json.dumps(counts, indent=2))
    return int(
        any(
            found.get(wrong)
            for found in counts.values()
            for wrong in ("unhandled", "different", "too_few", "too_much", "wrongly_kept")
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
