"""The regression check: every notebook again, and which of its recorded metrics moved away from the baseline.

`tests/baselines/<profile>.json` holds what each notebook recorded when `rodpo check --update` was last run, and what
computed it; `tests/baselines/rules.yml` says how far metrics may move and what must hold whatever they are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import jinja2
import pandas as pd
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from companion.site.execution import execute
from companion.site.markup import table_html
from companion.site.pages import BUILDS, Page, find_pages, require_root
from rodpo_lite.errors import InputError
from rodpo_lite.files import exclusive, read_json, write_bytes, write_json
from rodpo_lite.settings import read_as

FOLDER = Path("tests", "baselines")
REPORT = Path(__file__).with_name("report.html")  # its template
Status = Literal["same", "moved", "drift", "gone", "new", "broken", "failed"]
MEANING = {
    "drift": "moved further than allowed",
    "gone": "is no longer recorded",
    "new": "is not in the baseline yet",
    "broken": "does not hold",
    "failed": "could not be executed",
    "moved": "moved within what is allowed",
}
COLUMNS = ("chapter", "metric", "baseline", "now", "change", "allowed", "what")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Within(Strict):
    """Every metric of a page whose name fits `metric`, `*` allowed, is between `low` and `high`, both included.

    It holds where none fits: a metric that is gone differs from the baseline, and a profile may have none.
    """

    page: str
    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:g} ≤ {self.metric} ≤ {self.high:g}"

    def names(self, metrics: dict[str, Any]) -> list[str]:
        return [name for name in metrics if fnmatch(name, self.metric)]

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
        fitting = [value for pattern, value in self.tolerance.items() if fnmatch(f"{page}.{metric}", pattern)]
        return fitting[-1] if fitting else 0.0

    def broken(self, page: str, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        """Invariants of a page that do not hold, and the values, as text."""
        broken = []
        for rule in self.invariants:
            names = rule.names(metrics) if rule.page == page else []
            if set(names) <= metrics.keys() and rule.holds([metrics[name] for name in names]):
                continue
            values = (f"{metrics[name]:.6g}" if name in metrics else "missing" for name in names)
            broken.append((str(rule), ", ".join(values)))
        return broken


class Baseline(Strict):
    """Metrics by page, and what computed them: commit (None outside a repository), versions and processor."""

    pages: dict[str, dict[str, bool | int | float | str]] = {}
    made_by: dict[str, dict[str, str | None]] = {}


@dataclass(frozen=True)
class Finding:
    """A metric of a chapter, an invariant that is broken, or, without a metric, a chapter that failed."""

    chapter: str
    metric: str
    before: Any
    now: Any
    status: Status
    change: float | None = None
    allowed: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The finding as texts, one for each of COLUMNS."""
        before, now = (
            "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in (self.before, self.now)
        )
        change = "–" if self.change is None else f"{100 * self.change:+.3g} %"
        allowed = "–" if self.allowed is None else f"±{100 * self.allowed:.3g} %"
        return self.chapter, self.metric, before, now, change, allowed, MEANING.get(self.status, self.status)


@dataclass(frozen=True)
class Check:
    """The findings of a check; `made_by`, baseline and now, is what computed them."""

    pages: list[Page]
    findings: list[Finding]
    made_by: tuple[dict[str, str], dict[str, str]]

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status not in ("same", "moved")]

    @property
    def moved(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == "moved"]

    @property
    def summary(self) -> str:
        """In a sentence or two, with what else differs from what computed the baseline."""
        metrics = [finding for finding in self.findings if finding.metric and finding.status != "broken"]
        chapters = ", ".join(dict.fromkeys(finding.chapter for finding in self.wrong))
        wrong = f"{len(self.wrong)} wrong" + (f" (in {chapters})" if chapters else "")
        pages = f"{len(self.pages)} chapter{'s' * (len(self.pages) != 1)}"
        text = f"{len(metrics)} metrics of {pages}: {wrong}, {len(self.moved)} moved within what is allowed."
        before, now = self.made_by
        keys = [key for key in before if now and key != "commit" and before[key] != now.get(key)]
        others = "; ".join(f"{key} {before[key]}, now {now.get(key)}" for key in keys)
        return text + (f" The baseline was computed by {others}." if others else "")

    def write_report(self, folder: Path) -> Path:
        """Write report.html, and beside it a page of each chapter in which something is wrong; returns the report."""
        from nbconvert import HTMLExporter

        exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="")
        links, wrong_pages = [], {finding.chapter for finding in self.wrong}
        for page in (page for page in self.pages if page.name in wrong_pages):
            executed = page.failed if page.failed.exists() else page.executed
            if executed.exists():
                notebook, _ = exporter.from_filename(str(executed))
                write_bytes(folder / f"{page.name}.html", notebook.encode())
                links.append(page.name)
        environment = jinja2.Environment(autoescape=True)
        environment.filters["table"] = _table
        template = environment.from_string(REPORT.read_text(encoding="utf-8"))
        html = template.render(summary=self.summary, wrong=self.wrong, links=links, moved=self.moved)
        write_bytes(folder / "report.html", html.encode())
        return folder / "report.html"


def _table(findings: list[Finding], caption: str) -> Markup:
    rows = pd.DataFrame([finding.cells() for finding in findings], columns=COLUMNS)
    return Markup(table_html(rows, caption, rows=len(rows)))


def check(root: Path, profile: str, only: tuple[str, ...] = (), progress: Callable[[str], Any] = print) -> Check:
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
    findings = [
        finding for page in pages for finding in compare(page, baseline.pages.get(page.name, {}), rules, failed)
    ]
    succeeded = [page for page in pages if page.name not in failed]
    before = next((baseline.made_by[page.name] for page in pages if page.name in baseline.made_by), {})
    return Check(pages, findings, (before, read_json(succeeded[0].stamp)["made_by"] if succeeded else {}))


def compare(page: Page, before: dict[str, Any], rules: Rules, failed: dict[str, str]) -> list[Finding]:
    """Compare each metric of a page with its baseline, then list the invariants that are broken."""
    if page.name in failed:
        return [Finding(page.name, "", None, failed[page.name], "failed")]
    now = read_json(page.metrics)
    findings = [_finding(page.name, metric, before, now, rules) for metric in before | now]
    broken = rules.broken(page.name, now)
    return findings + [Finding(page.name, rule, None, values, "broken") for rule, values in broken]


def _finding(page: str, metric: str, before: dict[str, Any], now: dict[str, Any], rules: Rules) -> Finding:
    old, new = before.get(metric), now.get(metric)
    if old is None or new is None:
        return Finding(page, metric, old, new, "new" if old is None else "gone")
    if any(isinstance(value, bool | str) for value in (old, new)):
        return Finding(page, metric, old, new, "same" if old == new else "drift")
    change = 0.0 if old == new else (new - old) / abs(old) if old else math.inf
    allowed = rules.allowed(page, metric)
    status: Status = "same" if change == 0 else "moved" if abs(change) <= allowed else "drift"
    return Finding(page, metric, old, new, status, change, allowed)


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
    """Make what the pages recorded the baseline; returns its file.

    Raises InputError if a page failed: its metrics would be lost.
    """
    if failed := [finding.chapter for finding in result.findings if finding.status == "failed"]:
        raise InputError(f"The baseline stays as it is, because {failed[0]} could not be executed.")
    known = {path.stem for path in (root / "notebooks").glob("*.py")}
    baseline = read_baseline(root, profile)
    pages = baseline.pages | {page.name: read_json(page.metrics) for page in result.pages}
    made_by = baseline.made_by | dict.fromkeys((page.name for page in result.pages), result.made_by[1])
    content = {"pages": pages, "made_by": made_by}
    kept = {key: {name: part[name] for name in sorted(part.keys() & known)} for key, part in content.items()}
    write_json(baseline_file(root, profile), kept)
    return baseline_file(root, profile)
