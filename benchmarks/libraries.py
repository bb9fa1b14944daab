"""What is run side by side, and how each library's process is started."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from environments import EnvironmentFailed, prepare

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / ".bench"

TASKS = {
    "import": ["import"],
    "evaluate": ["evaluate"],
    "epoch-bce": ["epoch", "--loss", "bce"],
    "epoch-sampled": ["epoch", "--loss", "sampled"],
    "epoch-full": ["epoch", "--loss", "full"],
    "quality-sampled": ["quality", "--loss", "sampled"],
    "quality-full": ["quality", "--loss", "full"],
}

# Of ours alone: what scaling.py measures.
CURVES = ("cost", "encoders", "inference", "items", "users", "length", "pool", "seeds")


@dataclass(frozen=True)
class Library:
    script: str
    environment: str | None = None  # None is the one that runs this file
    arguments: tuple[str, ...] = ()
    tasks: tuple[str, ...] = tuple(TASKS)


LIBRARIES = {
    "ours": Library("ours.py", arguments=("--precision", "bf16")),
    "ours-fp32": Library("ours.py", tasks=("epoch-full", "epoch-sampled")),
    "scaling": Library("scaling.py", tasks=CURVES),
    "recbole": Library("peers/recbole.py", "recbole"),
    "recbole-bf16": Library("peers/recbole.py", "recbole", ("--precision", "bf16"), ("epoch-full",)),
    "replay": Library("peers/replay.py", "replay"),
    "replay-ce": Library("peers/replay.py", "replay", ("--variant", "ce"), ("epoch-full",)),
    "replay-bf16": Library("peers/replay.py", "replay", ("--precision", "bf16"), ("epoch-full",)),
    "replay-512": Library("peers/replay.py", "replay", ("--batch-size", "512"), ("epoch-sampled", "quality-sampled")),
    "rectools": Library("peers/rectools.py", "rectools"),
    "pmixer": Library("peers/pmixer.py", "pmixer"),
}


def python_of(name: str, torch_options: list[str]) -> str | None:
    """The python for a library, its environment made if need be; None, with the reason on stderr, if it cannot run."""
    library = LIBRARIES[name]
    if not (HERE / library.script).exists():
        print(f"skipped {name}: there is no benchmarks/{library.script}", file=sys.stderr)
    elif name == "pmixer" and not os.environ.get("PMIXER_SOURCE"):
        print("skipped pmixer: PMIXER_SOURCE does not name its source folder", file=sys.stderr)
    elif library.environment is None:
        return sys.executable
    else:
        try:
            pins = HERE / "peers" / f"{library.environment}.txt"
            return str(prepare(library.environment, pins, BENCH, torch_options))
        except EnvironmentFailed as failure:
            print(f"skipped {name}: no environment: {failure}", file=sys.stderr)
    return None
