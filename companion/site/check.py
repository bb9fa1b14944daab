"""The regression check: every notebook again, and which of its recorded metrics moved away from the baseline.

`tests/baselines/<profile>.json` holds what each notebook recorded when `rodpo check --update` was last run, and what
computed it; `tests/baselines/rules.yml` what is allowed, see rules.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from companion.site.execution import execute
from companion.site.pages import BUILDS, Page, find_pages, require_root
from companion.site.rules import Rules
from rodpo_lite.errors import InputError
from rodpo_lite.files import exclusive, read_json, write_json

FOLDER = Path("tests", "baselines")
What = Literal["same", "moved", "drift", "gone", "new", "broken", "failed"]
MEANING = {
    "drift": "moved further than allowed",
    "gone": "is no longer recorded",
    "new": "is not in the baseline yet",
    "broken": "does not hold",
    "failed": "could not be executed",
    "moved": "moved within what is allowed",
}


@dataclass(frozen=True)
class Finding:
    """A metric of a chapter, an invariant that is broken, or, without a metric, a chapter that failed."""

    chapter: str
    metric: str
    before: Any
    now: Any
    what: What
    change: float | None = None
    allowed: float | None = None

    @property
    def wrong(self) -> bool:
        return self.what not in ("same", "moved")

    def cells(self) -> tuple[str, ...]:
        """Chapter, metric, baseline, now, change, allowed and what happened, for a reader."""
        change = "–" if self.change is None else f"{100 * self.change:+.3g} %"
        allowed = "–" if self.allowed is None else f"±{100 * self.allowed:.3g} %"
        happened = MEANING.get(self.what, self.what)
        return self.chapter, self.metric, _shown(self.before), _shown(self.now), change, allowed, happened


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


COLUMNS = ("chapter", "metric", "baseline", "now", "change", "allowed", "what")


@dataclass(frozen=True)
class Check:
    """What a check found; `made_by`, baseline and now, is what computed them."""

    pages: list[Page]
    findings: list[Finding]
    made_by: tuple[dict[str, str], dict[str, str]]

    @property
    def wrong(self) -> list[Finding]:
        return [one for one in self.findings if one.wrong]

    @property
    def moved(self) -> list[Finding]:
        return [one for one in self.findings if one.what == "moved"]

    @property
    def summary(self) -> str:
        """In a sentence or two, with what else differs from what computed the baseline."""
        metrics = [one for one in self.findings if one.metric and one.what != "broken"]
        checked = f"{len(self.pages)} chapter{'s' * (len(self.pages) != 1)}"
        said = f"{len(metrics)} metrics of {checked}: {len(self.wrong)} wrong"
        if chapters := dict.fromkeys(one.chapter for one in self.wrong):
            said += f" (in {', '.join(chapters)})"
        said += f", {len(self.moved)} moved within what is allowed."
        before, now = self.made_by
        keys = [key for key in before if now and key != "commit" and before[key] != now.get(key)]
        other = "; ".join(f"{key} {before[key]}, now {now.get(key)}" for key in keys)
        return said + (f" The baseline was computed by {other}." if other else "")


def check(
    root: Path, profile: str, only: tuple[str, ...] = (), progress: Callable[[str], Any] = print
) -> Check:  # fmt: skip
    """Execute the notebooks of a profile and compare what they recorded; executed pages are kept for the book.

    only: these chapters; by default all. Raises InputError for an unknown profile or chapter, or rules that cannot be
    read.
    """
    require_root(root)
    rules, build, baseline = Rules.read(root / FOLDER / "rules.yml"), root / "_build", read_baseline(root, profile)
    pages = find_pages(root, profile, build)
    if unknown := sorted(set(only) - {page.name for page in pages}):
        known = ", ".join(page.name for page in pages)
        raise InputError(f"There is no chapter {unknown[0]!r} to check: choose of {known}.")
    pages = [page for page in pages if not only or page.name in only]
    with exclusive(build, BUILDS):
        failed = execute(pages, build, progress)
    findings = [one for page in pages for one in compare(page, baseline.pages.get(page.name, {}), rules, failed)]
    made = [page for page in pages if page.name not in failed]
    before = next((baseline.made_by[page.name] for page in pages if page.name in baseline.made_by), {})
    return Check(pages, findings, (before, read_json(made[0].stamp)["made_by"] if made else {}))


def compare(page: Page, before: dict[str, Any], rules: Rules, failed: dict[str, str]) -> list[Finding]:
    """Each metric of a page against its baseline, then its broken invariants."""
    if page.name in failed:
        return [Finding(page.name, "", None, failed[page.name], "failed")]
    now = read_json(page.metrics)
    found = [_finding(page.name, metric, before, now, rules) for metric in before | now]
    return found + [Finding(page.name, asked, None, values, "broken") for asked, values in rules.broken(page.name, now)]


def _finding(page: str, metric: str, before: dict[str, Any], now: dict[str, Any], rules: Rules) -> Finding:
    if metric not in now:
        return Finding(page, metric, before[metric], None, "gone")
    if metric not in before:
        return Finding(page, metric, None, now[metric], "new")
    old, new = before[metric], now[metric]
    if any(isinstance(value, bool | str) for value in (old, new)):
        return Finding(page, metric, old, new, "same" if old == new else "drift")
    change, allowed = _change(old, new), rules.allowed(page, metric)
    what: What = "same" if change == 0 else "moved" if abs(change) <= allowed else "drift"
    return Finding(page, metric, old, new, what, change, allowed)


def _change(old: float, new: float) -> float:
    if old == new:
        return 0.0
    return (new - old) / abs(old) if old else math.inf


def baseline_file(root: Path, profile: str) -> Path:
    return root / FOLDER / f"{profile}.json"


class Baseline(BaseModel):
    """Metrics by page, and what computed them: commit, versions and processor, by page."""

    model_config = ConfigDict(extra="forbid")
    pages: dict[str, dict[str, bool | int | float | str]] = {}
    made_by: dict[str, dict[str, str]] = {}


def read_baseline(root: Path, profile: str) -> Baseline:
    """The baseline of a profile, empty where there is none yet; raises InputError for one that is damaged."""
    path = baseline_file(root, profile)
    try:
        return Baseline.model_validate_json(path.read_bytes()) if path.exists() else Baseline()
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole"
        raise InputError(f"The baseline {path} is damaged ({where}): restore it from the repository.") from None


def update(root: Path, profile: str, found: Check) -> Path:
    """Make what the pages recorded the baseline; returns its file.

    Raises InputError if a page failed: its metrics would be lost.
    """
    if failed := [one.chapter for one in found.findings if one.what == "failed"]:
        raise InputError(f"The baseline stays as it is, because {failed[0]} could not be executed.")
    known = {path.stem for path in (root / "notebooks").glob("*.py")}
    baseline = read_baseline(root, profile)
    pages = baseline.pages | {page.name: read_json(page.metrics) for page in found.pages}
    made_by = baseline.made_by | dict.fromkeys((page.name for page in found.pages), found.made_by[1])
    content = {"pages": pages, "made_by": made_by}
    kept = {key: {name: part[name] for name in sorted(part.keys() & known)} for key, part in content.items()}
    write_json(baseline_file(root, profile), kept)
    return baseline_file(root, profile)
