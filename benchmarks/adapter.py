"""What every adapter shares: one command line, the four tasks, one line of JSON for each measurement.

    python benchmarks/peers/replay.py import
    python benchmarks/peers/replay.py epoch --loss full --interactions beauty.csv --repeats 3
    python benchmarks/peers/replay.py evaluate --interactions beauty.csv
    python benchmarks/peers/replay.py quality --loss sampled --interactions beauty.csv --target 0.055

Only the standard library is imported at the top: the task `import` times a fresh process.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

TASKS = ("import", "epoch", "evaluate", "quality")
LOSSES = ("full", "sampled", "bce")
AfterEpoch = Callable[[float], bool]  # seconds of the training loop of one epoch → stop now?


class Model(Protocol):
    """What an adapter builds: a model over its library's own data loader, trainer and evaluation."""

    settings: dict[str, Any]  # batch size, learning rate and what else a reader should know
    targets: int  # next items that one epoch trains on

    def fit(self, after_epoch: AfterEpoch, steps: int | None) -> None:
        """Train, calling `after_epoch` after each epoch, until it says stop; an epoch of at most `steps` steps."""

    def scores(self, histories: list) -> Any:
        """Scores [R, N] of every item for R histories, -inf for items that the library does not know."""

    def evaluate(self) -> float:
        """The library's own NDCG@10 of all users' test items over the full catalogue, by its own path."""


def arguments(description: str | None, argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--interactions", type=Path, help="CSV file: user, item, position")
    parser.add_argument("--loss", choices=LOSSES, default="full")
    parser.add_argument("--repeats", type=int, default=3, help="epochs or evaluations in this process")
    parser.add_argument("--limit-seconds", type=float, default=600, help="start no epoch after so much training")
    parser.add_argument("--target", type=float, default=0.055, help="validation NDCG@10 at which `quality` stops")
    parser.add_argument("--epochs", type=int, help="of `quality`: train so long, whatever is reached and how slowly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, help="instead of the adapter's choice")
    parser.add_argument("--learning-rate", type=float, help="instead of the adapter's choice")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: mixed, as the library does it"
    )
    parser.add_argument("--variant", default="", help="a second way of the same library, where the adapter has one")
    parser.add_argument("--steps", type=int, help="cut each epoch: a check, not a measurement")
    options = parser.parse_args(argv)
    if options.task != "import" and options.interactions is None:
        parser.error("--interactions is needed")
    return options


class Run:
    """One process of one adapter: `begin`, the library's imports, `imported`, then `measure`."""

    def __init__(self, description: str | None = None, argv: list[str] | None = None) -> None:
        self.options = arguments(description, argv)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(self.options.threads)
        # Libraries print what they like: standard output is kept for the measurements.
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._began = time.perf_counter()

    def emit(self, **line: Any) -> None:
        print(json.dumps(line), file=self._out, flush=True)

    def refuse(self, reason: str) -> NoReturn:
        self.emit(unsupported=reason)
        sys.exit(0)

    def imported(self, *distributions: str) -> None:
        """End of the imports; what `import` measures. The distributions' versions go on record."""
        seconds = time.perf_counter() - self._began
        versions = {name: importlib.metadata.version(name) for name in distributions}
        self.emit(versions=versions | {"python": platform.python_version()})
        if self.options.task == "import":
            self.emit(task="import", seconds=seconds, peak_mib=peak_mib())
            sys.exit(0)

    def measure(self, build: Callable[[argparse.Namespace, Any], Model], lacks: dict[str, str] | None = None) -> None:
        """Carry out the task. `lacks` says why a task or a loss is not to be had from this library."""
        from protocol import read_interactions

        options, interactions = self.options, None
        asked = [options.task, options.precision] + [options.loss] * (options.task != "evaluate")
        if reasons := [lacks[key] for key in asked if key in (lacks or {})]:
            self.refuse(reasons[0])
        interactions = read_interactions(options.interactions)
        model = build(options, interactions)
        given = {"precision": options.precision, "threads": options.threads, "seed": options.seed}
        self.emit(settings=model.settings | given)
        {"epoch": self._epoch, "evaluate": self._evaluate, "quality": self._quality}[options.task](model, interactions)

    def _epoch(self, model: Model, interactions: Any) -> None:
        numbers, spent = itertools.count(1), 0.0

        def after_epoch(seconds: float) -> bool:
            nonlocal spent
            number, spent = next(numbers), spent + seconds
            # The first epoch of a process also pays for what is done once: allocation, kernels chosen, caches filled.
            first = {"epoch": number, "first": number == 1, "targets": model.targets, "peak_mib": peak_mib()}
            self.emit(task="epoch", loss=self.options.loss, seconds=seconds, **first)
            return number >= self.options.repeats or spent >= self.options.limit_seconds

        model.fit(after_epoch, self.options.steps)

    def _evaluate(self, model: Model, interactions: Any) -> None:
        model.fit(lambda seconds: True, self.options.steps or 10)  # so that scores are neither equal nor denormal
        for number in range(1, self.options.repeats + 1):
            began = time.perf_counter()
            ndcg10 = model.evaluate()
            line = {"seconds": time.perf_counter() - began, "ndcg10": ndcg10, "users": len(interactions.sequences)}
            self.emit(task="evaluate", first=number == 1, peak_mib=peak_mib(), **line)

    def _quality(self, model: Model, interactions: Any) -> None:
        from protocol import evaluate

        numbers, spent = itertools.count(1), 0.0

        def after_epoch(seconds: float) -> bool:
            nonlocal spent
            spent += seconds
            ndcg10, epoch = evaluate(model.scores, interactions), next(numbers)
            reached = ndcg10 >= self.options.target
            line = {"epoch": epoch, "seconds": spent, "ndcg10": ndcg10, "reached": reached}
            self.emit(task="quality", loss=self.options.loss, target=self.options.target, peak_mib=peak_mib(), **line)
            if self.options.epochs:
                return epoch >= self.options.epochs
            return reached or spent >= self.options.limit_seconds

        model.fit(after_epoch, self.options.steps)


def peak_mib() -> float:
    """Peak resident memory of this process.

    On Linux from /proc: getrusage would also count what the parent held when it started this process.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage / (1024**2 if sys.platform == "darwin" else 1024)
