"""Random kills: a job that is killed, again and again, must end like one that was left alone.

Most jobs are forked from a process that has the libraries loaded, so that kills fall into the work and not into
imports; every fourth start is that of the command line.
"""

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_book import write_tiny_book

from trust.jobs import BOOK, Job, Started, jobs, site

ALL = {"train": 24, "align": 18, "evaluate": 10, "grid": 4, "book": 4}
IN_A_ROW = 3
LATE = 0.75  # of kills come after the job has written something
OTHER = ("total = sum", "total = 1 + sum")  # another edition of the tiny book


class Broken(AssertionError):
    """A job that was killed did not end like one that was left alone."""


@dataclass
class Kills:
    """Kills of one job; `usual` are the seconds that it takes, cold (True) and warm (False)."""

    job: Job
    place: Path
    random: random.Random
    cold_share: float = 0.25
    usual: dict[bool, float] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    reached: Counter = field(default_factory=Counter)
    trials: int = 0

    def __post_init__(self):
        ways = [False] if self.job.warm else [True]
        ways += [True] if self.job.warm and self.cold_share else []
        for cold in ways:
            folder, seconds = self.folder("whole"), []
            for _ in range(1 if cold else 2):  # the first one also waits for what is loaded
                shutil.rmtree(folder, ignore_errors=True)
                self.job.prepare(folder)
                started = time.perf_counter()
                complete(self.job, folder, cold)
                seconds.append(time.perf_counter() - started)
            found = self.job.result(folder)
            if self.expected and found != self.expected:
                raise Broken(f"{self.job.name}: two runs without a kill differ in {differing(self.expected, found)}")
            self.expected, self.usual[cold] = found, min(seconds)

    def folder(self, name: str) -> Path:
        return self.place / f"{self.job.name}-{name}"

    def trial(self, most: int) -> int:
        """Kill the job up to `most` times in a row, let it end, and compare; returns how often it was killed."""
        folder, kills = self.folder("killed"), 0
        shutil.rmtree(folder, ignore_errors=True)
        self.job.prepare(folder)
        while kills < most and self.kill(folder):
            kills += 1
        complete(self.job, folder, not self.job.warm)
        self.trials += 1
        found = self.job.result(folder)
        if found != self.expected:
            raise Broken(f"{self.job.name} in {folder}, killed {kills} times: {differing(self.expected, found)}")
        return kills

    def kill(self, folder: Path) -> bool:
        """Start the job and kill it at a random moment; whether it had not finished by then."""
        cold = not self.job.warm or self.random.random() < self.cold_share
        began, newest = time.perf_counter(), self.job.newest(folder)
        started = Started(self.job, folder, cold)
        if self.random.random() < LATE:  # loading takes most of the time, and nothing is written in it
            while self.job.newest(folder) == newest and started.wait(0.002) is None:
                pass
        left = max(self.usual[cold] - (time.perf_counter() - began), 0.05)
        started.wait(self.random.uniform(0, left))
        killed = started.kill()
        self.reached[self.job.reached(folder) if killed else f"{self.job.name}: had finished"] += 1
        return killed

    def counts(self, kills: int) -> dict[str, Any]:
        places = {name: count for name, count in sorted(self.reached.items()) if not name.endswith("had finished")}
        return {"kills": kills, "trials": self.trials, "different": 0, "where": places}


def complete(job: Job, folder: Path, cold: bool = True) -> None:
    """Let a job run to its end."""
    if code := Started(job, folder, cold).wait():
        log = (folder / "log.txt").read_text().strip()
        raise Broken(f"{job.name} in {folder} ended with exit code {code}: {log[-500:]}")


def differing(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return sorted(name for name in expected | found if expected.get(name) != found.get(name))


def kill_all(wanted: dict[str, int], place: Path, seed: int = 0, cold_share: float = 0.25, say=print) -> dict[str, Any]:
    """Kill each job so often, at random moments, several times in a row; raises Broken at the first difference."""
    place.mkdir(parents=True, exist_ok=True)
    known, found = jobs(place), {}
    for name, number in wanted.items():
        chance, started = random.Random(f"{seed}/{name}"), time.perf_counter()
        if name == "book":
            found[name] = kill_book(number, place, chance)
        else:
            runs, kills = Kills(known[name], place, chance, cold_share), 0
            while kills < number:
                kills += runs.trial(min(chance.randint(1, IN_A_ROW), number - kills))
            found[name] = runs.counts(kills)
        found[name]["seconds"] = round(time.perf_counter() - started)
        say(f"{name}: {found[name]}")
    return {"seed": seed, "kills": sum(entry["kills"] for entry in found.values()), "different": 0, "jobs": found}


def kill_book(number: int, place: Path, chance: random.Random) -> dict[str, Any]:
    """Kill builds of a book that stands already: whenever one is killed, the old site or the new one is whole."""
    job, root, kills, builds, reached = BOOK, place / "book", 0, 0, Counter()
    write_tiny_book(root)
    source = root / "notebooks" / "sums.py"
    editions = [source.read_text(), source.read_text().replace(*OTHER)]
    sites = []
    for edition in editions:
        source.write_text(edition)
        started = time.perf_counter()
        complete(job, root)
        usual = time.perf_counter() - started
        sites.append(site(root))
    if sites[0] == sites[1]:
        raise Broken("the two editions of the book are one")
    while kills < number:
        builds += 1
        source.write_text(editions[(builds + 1) % 2])
        for _ in range(min(chance.randint(1, IN_A_ROW), number - kills)):
            started = Started(job, root, cold=True)
            started.wait(chance.uniform(0, usual))
            if not started.kill():
                break
            kills += 1
            reached[job.reached(root)] += 1
            if site(root) not in sites:
                raise Broken(f"a build that was killed left a site that is neither the old nor the new one in {root}")
        complete(job, root)
        if site(root) != sites[(builds + 1) % 2]:
            raise Broken(f"{root}, killed: {differing(sites[(builds + 1) % 2], site(root))}")
    return {"kills": kills, "trials": builds, "different": 0, "where": dict(sorted(reached.items()))}
