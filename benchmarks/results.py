"""What a benchmark leaves behind: one file for each finished process, and one summary of them all."""

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

Line = dict[str, Any]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Process(Record):
    """One finished process of one library: the lines that it printed."""

    library: str
    task: str
    round: int
    date: str
    others: float | None = None  # cores that other processes kept busy meanwhile, where /proc tells
    lines: list[Line]

    def measured(self) -> list[Line]:
        return [line for line in self.lines if "seconds" in line]

    def stated(self, key: str) -> Any:
        """The value of the one line that holds `key`, such as versions, settings, unsupported."""
        return next((line[key] for line in self.lines if key in line), None)


class Summary(Record):
    min: float
    median: float
    max: float
    raw: list[float]


class Outcome(Record):
    """One task of one library over all rounds."""

    seconds: Summary | None = None
    first: Summary | None = None  # first epoch or evaluation of each process, where others count
    peak_mib: Summary | None = None
    settings: Line = {}
    facts: Line = {}  # targets of an epoch, users of an evaluation, the quality that was reached
    curves: list[list[tuple[float, float]]] = []  # quality: (training seconds, validation NDCG@10), one list a round
    note: str | None = None  # why there is no time


class Point(Record):
    """Seconds of what is named, at x, over all rounds and repeats."""

    of: str
    x: float
    seconds: Summary


class Machine(Record):
    cpu: str
    cores: int
    memory_gib: float
    flags: list[str]
    system: str
    threads: int


class Results(Record):
    date: str
    dataset: str
    machine: Machine
    versions: dict[str, dict[str, str]]  # library → distribution → version
    tasks: dict[str, dict[str, Outcome]] = {}  # task → library → outcome
    curves: dict[str, list[Point]] = {}  # of scaling.py


def summarise(values: list[float]) -> Summary | None:
    if not values:
        return None
    return Summary(min=min(values), median=statistics.median(values), max=max(values), raw=values)


def outcome(processes: list[Process]) -> Outcome:
    """Summary of one task of one library.

    The first epoch of a process also pays for what is done once, so later ones count where there are any. Of a search
    for quality the time counts at which the target was reached, in the rounds in which it was.
    """
    if reason := processes[0].stated("unsupported"):
        return Outcome(note=reason)
    lines = [line for process in processes for line in process.measured()]
    settings = {k: v for k, v in (processes[0].stated("settings") or {}).items() if k != "seed"}
    common: Line = {"settings": settings}
    common["peak_mib"] = summarise([max(line["peak_mib"] for line in process.measured()) for process in processes])
    if processes[0].task.startswith("quality"):
        curves = [[(line["seconds"], line["ndcg10"]) for line in process.measured()] for process in processes]
        times = [line["seconds"] for line in lines if line["reached"]]
        best = max(score for curve in curves for _, score in curve)
        note = None if times else f"not reached in {curves[0][-1][0]:.0f} s: best NDCG@10 {best:.4f}"
        facts = {"target": lines[0]["target"], "best_ndcg10": best, "rounds": len(curves)}
        return Outcome(seconds=summarise(times), curves=curves, note=note, facts=facts, **common)
    first = [line["seconds"] for line in lines if line.get("first")]
    later = [line["seconds"] for line in lines if not line.get("first")]
    facts = {key: lines[0][key] for key in ("targets", "users") if key in lines[0]}
    return Outcome(seconds=summarise(later or first), first=summarise(first if later else []), facts=facts, **common)


def points(processes: list[Process]) -> list[Point]:
    """One curve of scaling.py, in the order in which it was measured."""
    found: dict[tuple[str, float], list[float]] = {}
    for line in (line for process in processes for line in process.measured()):
        found.setdefault((line["of"], line["x"]), []).append(line["seconds"])
    return [Point(of=of, x=x, seconds=summarise(values)) for (of, x), values in found.items()]


class Store:
    """The finished processes of one dataset, a file each; what is there need not be run again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, library: str, task: str, number: int) -> Path:
        return self.folder / f"{task}.{library}.{number}.json"

    def get(self, library: str, task: str, number: int) -> Process | None:
        path = self.path(library, task, number)
        return Process.model_validate_json(path.read_text()) if path.exists() else None

    def put(self, process: Process) -> None:
        write_atomically(self.path(process.library, process.task, process.round), process)

    def rounds(self, library: str, task: str) -> list[Process]:
        paths = self.folder.glob(f"{task}.{library}.*.json")
        return sorted((Process.model_validate_json(p.read_text()) for p in paths), key=lambda process: process.round)


def write_atomically(path: Path, record: Record) -> None:
    """A reader, and a run that is cut off, sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.model_dump(exclude_defaults=True), indent=1, ensure_ascii=False) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)
