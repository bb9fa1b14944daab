"""The regression check: every notebook again, and which of its recorded metrics moved away from the baseline.

`tests/baselines/<profile>.json` holds what each notebook recorded when `rodpo check --update` was last run, and what
computed it; `tests/baselines/rules.yml` says how far metrics may move and what must hold whatever they are.
"""

import fnmatch
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import jinja2
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from companion.site.execution import execute
from companion.site.markup import table_html
from companion.site.pages import BUILDS, Page, find_pages, require_root
from rodpo_lite.errors import InputError
from rodpo_lite.files import exclusive, read_json, write_bytes, write_json
from rodpo_lite.settings import read_as

FOLDER = Path("tests", "baselines")
REPORT = Path(__file__).with_name("report.html")  # its template


class Status(StrEnum):
    """What is to say of a metric, an invariant or a chapter."""

    SAME = "same"
    MOVED = "moved within what is allowed"
    DRIFT = "moved further than allowed"
    GONE = "is no longer recorded"
    NEW = "is not in the baseline yet"
    BROKEN = "does not hold"
    FAILED = "could not be executed"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Within(Strict):
    """Every metric of a page whose name fits `metric`, `*` allowed, is between `low` and `high`, if there is any."""

    page: str
    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:g} ≤ {self.metric} ≤ {self.high:g}"

    def names(self, metrics: dict[str, Any]) -> list[str]:
        return fnmatch.filter(metrics, self.metric)

    def holds(self, values: list[float]) -> bool:
        return all(self.low <= value <= self.high for value in values)


class Rising(Strict):
    """These metrics of a page never fall from one to the next."""

    page: str
    rising: tuple[str, ...] = Field(min_length=2)

    def __str__(self) -> str:
        return " ≤ ".join(self.rising)

    def names(self, metrics: dict[str, Any]) -> list[str]:
        return list(self.rising)

    def holds(self, values: list[float]) -> bool:
        return values == sorted(values)


class Rules(Strict):
    """tolerance: of `<page>.<metric>`, `*` allowed, the largest change relative to the baseline; the last that fits."""

    tolerance: dict[str, Annotated[float, Field(ge=0)]]
    invariants: tuple[Within | Rising, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate a file of rules; raises InputError naming the key that is wrong."""
        return read_as(cls, path, "The rules")

    def allowed(self, page: str, metric: str) -> float:
        """How far a metric may move, relative to its baseline; 0 where no rule fits."""
        last_first = reversed(self.tolerance.items())
        return next((most for pattern, most in last_first if fnmatch.fnmatch(f"{page}.{metric}", pattern)), 0.0)

    def broken(self, page: str, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        """Invariants of a page that do not hold, and the values, as text."""
        broken = []
        for rule in self.invariants:
            values = [metrics.get(name) for name in rule.names(metrics)] if rule.page == page else []
            if None in values or not rule.holds(values):
                texts = ("missing" if value is None else f"{value:.6g}" for value in values)
                broken.append((str(rule), ", ".join(texts)))
        return broken


class Baseline(Strict):
    """Metrics by page, and what computed them: commit (None outside a repository), versions and processor."""

    pages: dict[str, dict[str, bool | int | float | str]] = {}
    made_by: dict[str, dict[str, str | None]] = {}


class Finding(NamedTuple):
    """A metric of a chapter, an invariant that is broken, or, without a metric, a chapter that failed."""

    chapter: str
    metric: str
    baseline: Any
    now: Any
    change: float | None
    allowed: float | None
    what: Status

    def cells(self) -> list[str]:
        """The finding as texts, a dash for what it does not have."""
        values = (f"{value:.6g}" if isinstance(value, float) else value for value in (self.baseline, self.now))
        change = None if self.change is None else f"{100 * self.change:+.3g} %"
        allowed = None if self.allowed is None else f"±{100 * self.allowed:.3g} %"
        cells = (self.chapter, self.metric, *values, change, allowed, self.what)
        return ["–" if cell is None else str(cell) for cell in cells]


@dataclass(frozen=True)
class Check:
    """The findings of a check; `made_by`, baseline and now, is what computed them."""

    pages: list[Page]
    findings: list[Finding]
    made_by: tuple[dict[str, str], dict[str, str]]

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.what not in (Status.SAME, Status.MOVED)]

    @property
    def moved(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.what == Status.MOVED]

    @property
    def summary(self) -> str:
        """In a sentence or two, with what else differs from what computed the baseline."""
        metrics = [finding for finding in self.findings if finding.metric and finding.what != Status.BROKEN]
        chapters = ", ".join(dict.fromkeys(finding.chapter for finding in self.wrong))
        wrong = f"{len(self.wrong)} wrong" + (f" (in {chapters})" if chapters else "")
        pages = f"{len(self.pages)} chapter{'s' * (len(self.pages) != 1)}"
        text = f"{len(metrics)} metrics of {pages}: {wrong}, {len(self.moved)} moved within what is allowed."
        before, now = self.made_by
        others = [key for key in before if now and key != "commit" and before[key] != now.get(key)]
        apart = "; ".join(f"{key} {before[key]}, now {now.get(key)}" for key in others)
        return f"{text} The baseline was computed by {apart}." if apart else text

    def write_report(self, folder: Path) -> Path:
        """Write report.html, and beside it a page of each chapter in which something is wrong; returns the report."""
        from nbconvert import HTMLExporter

        exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="")
        links, wrong = [], {finding.chapter for finding in self.wrong}
        for page in self.pages:
            executed = page.failed if page.failed.exists() else page.executed
            if page.name in wrong and executed.exists():
                notebook, _ = exporter.from_filename(str(executed))
                write_bytes(folder / f"{page.name}.html", notebook.encode())
                links.append(page.name)
        template = jinja2.Template(REPORT.read_text(encoding="utf-8"), autoescape=True)
        write_bytes(folder / "report.html", template.render(check=self, links=links, table=_table).encode())
        return folder / "report.html"


def _table(findings: list[Finding], caption: str) -> str:
    rows = pd.DataFrame([finding.cells() for finding in findings], columns=Finding._fields)
    return table_html(rows, caption, rows=len(rows))


def check(root: Path, profile: str, only: tuple[str, ...] = (), progress: Callable[[str], Any] = print) -> Check:
    """Execute the notebooks of a profile, or `only` some, and compare what they recorded; pages are kept for the book.

    Raises InputError for an unknown profile or chapter, or rules that cannot be read.
    """
    require_root(root)
    rules, build, baseline = Rules.read(root / FOLDER / "rules.yml"), root / "_build", read_baseline(root, profile)
    pages = find_pages(root, profile, build)
    names = [page.name for page in pages]
    if unknown := sorted(set(only) - set(names)):
        raise InputError(f"There is no chapter {unknown[0]!r} to check: choose of {', '.join(names)}.")
    pages = [page for page in pages if not only or page.name in only]
    with exclusive(build, BUILDS):
        failed = execute(pages, build, progress)
    findings = [part for page in pages for part in compare(page, baseline.pages.get(page.name, {}), rules, failed)]
    before = next((baseline.made_by[page.name] for page in pages if page.name in baseline.made_by), {})
    now = next((read_json(page.stamp)["made_by"] for page in pages if page.name not in failed), {})
    return Check(pages, findings, (before, now))


def compare(page: Page, before: dict[str, Any], rules: Rules, failed: dict[str, str]) -> list[Finding]:
    """Compare each metric of a page with its baseline, then list the invariants that are broken."""
    if page.name in failed:
        return [Finding(page.name, "", None, failed[page.name], None, None, Status.FAILED)]
    now = read_json(page.metrics)
    findings = [_finding(page.name, metric, before.get(metric), now.get(metric), rules) for metric in before | now]
    broken = rules.broken(page.name, now)
    return findings + [Finding(page.name, rule, None, values, None, None, Status.BROKEN) for rule, values in broken]


def _finding(page: str, metric: str, old: Any, new: Any, rules: Rules) -> Finding:
    if old is None or new is None:
        return Finding(page, metric, old, new, None, None, Status.NEW if old is None else Status.GONE)
    if any(isinstance(value, bool | str) for value in (old, new)):
        return Finding(page, metric, old, new, None, None, Status.SAME if old == new else Status.DRIFT)
    change = 0.0 if old == new else (new - old) / abs(old) if old else math.inf
    allowed = rules.allowed(page, metric)
    what = Status.SAME if change == 0 else Status.MOVED if abs(change) <= allowed else Status.DRIFT
    return Finding(page, metric, old, new, change, allowed, what)


def baseline_file(root: Path, profile: str) -> Path:
    return root / FOLDER / f"{profile}.json"


def read_baseline(root: Path, profile: str) -> Baseline:
    """The baseline of a profile, empty where there is none yet; raises InputError for one that is damaged."""
    path = baseline_file(root, profile)
    try:
        return Baseline.model_validate_json(path.read_bytes()) if path.exists() else Baseline()
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole"
        raise InputError(f"The baseline {path} is damaged ({where}): restore it from the repository.") from None


def update(root: Path, profile: str, result: Check) -> Path:
    """Make what the pages recorded the baseline; returns its file. Raises InputError if one failed."""
    if failed := [finding.chapter for finding in result.findings if finding.what == Status.FAILED]:
        raise InputError(f"The baseline stays as it is, because {failed[0]} could not be executed.")
    known = {path.stem for path in (root / "notebooks").glob("*.py")}
    content = read_baseline(root, profile).model_dump()
    for page in result.pages:
        content["pages"][page.name] = read_json(page.metrics)
        content["made_by"][page.name] = result.made_by[1]
    kept = {key: {name: part[name] for name in sorted(part.keys() & known)} for key, part in content.items()}
    write_json(baseline_file(root, profile), kept)
    return baseline_file(root, profile)
