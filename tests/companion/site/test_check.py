"""The regression check: what moved, by how much, and in which chapter."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tiny_book import PROJECT, write_tiny_book

from companion.site import check
from companion.site.check import Rules, Status
from companion.site.pages import BUILDS, Page
from rodpo_lite import files
from rodpo_lite.errors import InputError
from rodpo_lite.files import write_json

RULES = """
tolerance: {"*": 1.0e-9, "sums.total": 0.1}
invariants:
  - {page: plots, metric: "w_*", low: 0, high: 1}
"""


@pytest.fixture(scope="module", autouse=True)
def no_real_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RODPO_DATA", raising=False)
        yield


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A tiny book with a baseline."""
    root = write_tiny_book(tmp_path_factory.mktemp("book"))
    (root / check.FOLDER).mkdir(parents=True)
    (root / check.FOLDER / "rules.yml").write_text(RULES)
    result = check.check(root, "smoke", progress=lambda line: None)
    assert [(finding.chapter, finding.metric, finding.what) for finding in result.wrong] == [
        ("plots", "w_at_0", Status.NEW),
        ("sums", "total", Status.NEW),
    ]
    check.update(root, "smoke", result)
    return root


@pytest.fixture
def edited(book):
    """Checks the book with a text of a notebook replaced, and puts it back."""
    originals = {}

    def run(name, old, new, executed=True):
        path = book / "notebooks" / f"{name}.py"
        originals.setdefault(path, path.read_text())
        assert old in originals[path]
        path.write_text(originals[path].replace(old, new))
        return check.check(book, "smoke", (name,), lambda line: None) if executed else None

    yield run
    for path, text in originals.items():
        path.write_text(text)


def only(result):
    (finding,) = result.wrong
    return finding


@pytest.fixture
def compared(tmp_path):
    """Compares what a notebook may have recorded with a baseline, without executing it."""

    def run(name, now, before):
        page = Page(tmp_path / f"{name}.py", tmp_path, {}, "")
        write_json(page.metrics, now)
        (tmp_path / "rules.yml").write_text(RULES)
        result = check.compare(page, before, Rules.read(tmp_path / "rules.yml"), {})
        return check.Check([page], result, ({}, {"commit": "1"}))

    return run


def test_nothing_moves_when_nothing_changed(book):
    result = check.check(book, "smoke", progress=lambda line: None)
    assert not result.wrong and not result.moved
    assert result.summary == "2 metrics of 2 chapters: 0 wrong, 0 moved within what is allowed."
    made_by = result.made_by[0] | {"torch": "1.0", "commit": "other"}
    other = check.Check(result.pages, [], (made_by, result.made_by[1])).summary
    assert re.search(r"The baseline was computed by torch 1\.0, now 2\.\S+\.$", other), "not the commit"


def test_a_metric_may_move_within_its_tolerance_and_no_further(compared):
    result = compared("sums", {"total": 6.5}, {"total": 6})
    assert not result.wrong and result.moved[0].change == pytest.approx(0.5 / 6)
    drifted = only(compared("sums", {"total": -10}, {"total": -6}))
    assert drifted.cells() == ["sums", "total", "-6", "-10", "-66.7 %", "±10 %", "moved further than allowed"]
    assert only(compared("plots", {"w_at_0": 0.5 + 1e-8}, {"w_at_0": 0.5})).allowed == 1e-9
    assert only(compared("sums", {"total": 1e-300}, {"total": 0})).cells()[4] == "+inf %"


def test_texts_and_truth_values_may_not_change(compared):
    assert not compared("sums", {"verdict": "yes", "holds": True}, {"verdict": "yes", "holds": True}).wrong
    result = compared("sums", {"verdict": "no", "holds": False}, {"verdict": "yes", "holds": True})
    assert [finding.what for finding in result.wrong] == [Status.DRIFT, Status.DRIFT]


def test_a_metric_that_is_gone_or_new_is_wrong(compared):
    result = compared("sums", {"sum": 6}, {"total": 6})
    assert [(finding.metric, finding.what) for finding in result.wrong] == [("total", Status.GONE), ("sum", Status.NEW)]


def test_an_invariant_is_checked_whatever_the_baseline_says(compared):
    broken = only(compared("plots", {"w_at_0": 1.5}, {"w_at_0": 1.5}))
    assert broken.cells() == ["plots", "0 ≤ w_* ≤ 1", "–", "1.5", "–", "–", "does not hold"]


def test_an_update_of_one_chapter_leaves_the_others(compared, tmp_path):
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    for name in ("plots", "sums"):
        (root / "notebooks" / f"{name}.py").touch()
    for name, metrics in (
        ("plots", {"w_at_0": 0.5}),
        ("gone", {"a": 1}),
        ("sums", {"total": 6}),
        ("sums", {"total": 10}),
    ):
        check.update(root, "smoke", compared(name, metrics, {}))
    pages = json.loads(check.baseline_file(root, "smoke").read_text())["pages"]
    assert pages == {"plots": {"w_at_0": 0.5}, "sums": {"total": 10}}, "a notebook that is no more leaves nothing"


def test_a_notebook_that_fails_is_in_the_report_as_far_as_it_ran(edited, book, tmp_path):
    result = edited("sums", "total = sum", "total = no_such_name + sum")
    assert only(result).what == Status.FAILED and "NameError" in only(result).now
    text = result.write_report(tmp_path).read_text()
    assert 'href="sums.html"' in text and "NameError" in text
    assert "no_such_name" in (tmp_path / "sums.html").read_text()
    before = check.baseline_file(book, "smoke").read_text()
    with pytest.raises(InputError, match="stays as it is, because sums could not"):
        check.update(book, "smoke", result)
    assert check.baseline_file(book, "smoke").read_text() == before


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("tolerance: {'*': much}", "tolerance.*"),
        ("tolerance: {}\ninvariants: [{page: a}]", "invariants.0"),
        ("[]", "must hold keys"),
    ],
)
def test_rules_that_cannot_be_read(tmp_path, rules, complaint):
    (tmp_path / "rules.yml").write_text(rules)
    with pytest.raises(InputError, match=re.escape(complaint)):
        Rules.read(tmp_path / "rules.yml")


def test_invariants():
    rules = Rules.model_validate(
        {
            "tolerance": {},
            "invariants": [
                {"page": "a", "rising": ["low", "high"]},
                {"page": "a", "metric": "share*", "low": 0},
            ],
        }
    )
    assert rules.broken("a", {"low": 0.25, "high": 0.75, "share": 0}) == []
    broken = rules.broken("a", {"low": 0.75, "high": 0.5, "share": -1})
    assert [asked for asked, _ in broken] == ["low ≤ high", "0 ≤ share* ≤ inf"]
    assert [values for _, values in rules.broken("a", {"low": 1})] == ["1, missing"]


def test_the_command_line(book, edited):
    edited("sums", "sum(range(last + 1))", "sum(range(last + 2))", executed=False)
    command = [sys.executable, "-m", "rodpo_lite", "check", "--only"]
    run = subprocess.run([*command, "sums"], cwd=book, capture_output=True, text=True)
    assert run.returncode == 1 and "--update" in run.stderr and "report.html" in run.stdout
    assert re.search(r"sums\s+│ total\s+│ 6\s+│ 10\s+│ \+66\.7 %", run.stdout)
    unknown = subprocess.run([*command, "none"], cwd=book, capture_output=True, text=True)
    assert unknown.returncode == 2 and "There is no chapter 'none' to check: choose of plots, sums." in unknown.stderr


def test_a_notebook_runs_by_plain_papermill_from_any_folder(tmp_path):
    tool = Path(sys.executable).parent
    notebook = [
        tool / "jupytext",
        "--to",
        "ipynb",
        PROJECT / "notebooks" / "scoreboard.py",
        "-o",
        tmp_path / "in.ipynb",
    ]
    subprocess.run(notebook, check=True, capture_output=True)
    command = [tool / "papermill", "in.ipynb", "out.ipynb", "-p", "profile", "mine"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert "mine" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"pages": []}', '{"pages": {"sums": 3}}', '{"pages": {"sums": {"total": [6]}}}',
     '{"pages": {}, "made_by": 3}'],
    ids=lambda text: text[:30] or "nothing",
)  # fmt: skip
def test_a_damaged_baseline_is_refused_before_anything_is_executed(book, text, monkeypatch):
    kept = check.baseline_file(book, "smoke").read_text()
    monkeypatch.setattr("companion.site.check.execute", lambda *_: pytest.fail("executed"))
    try:
        check.baseline_file(book, "smoke").write_text(text)
        with pytest.raises(InputError, match=r"The baseline .*smoke\.json is damaged"):
            check.check(book, "smoke", progress=lambda line: None)
    finally:
        check.baseline_file(book, "smoke").write_text(kept)


def test_a_partial_update_says_of_each_page_what_computed_it(book, edited):
    before = check.read_baseline(book, "smoke")
    other = {"sums": {"commit": "old"}, "plots": {"commit": "old"}}
    path = check.baseline_file(book, "smoke")
    path.write_text(before.model_copy(update={"made_by": other}).model_dump_json())
    check.update(book, "smoke", edited("sums", "total", "total"))
    after = check.read_baseline(book, "smoke")
    assert after.made_by["plots"] == {"commit": "old"} and "torch" in after.made_by["sums"]
    assert after.pages == before.pages
    path.write_text(before.model_dump_json())


def test_a_baseline_that_was_made_outside_a_repository_is_read_again(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "sums.py").touch()
    page = Page(tmp_path / "notebooks" / "sums.py", tmp_path, {}, "")
    write_json(page.metrics, {"total": 6})
    check.update(tmp_path, "smoke", check.Check([page], [], ({}, {"commit": None, "torch": "2"})))
    assert check.read_baseline(tmp_path, "smoke").made_by == {"sums": {"commit": None, "torch": "2"}}


def test_two_at_once_do_not_meet(book):
    with (
        files.exclusive(book / "_build", BUILDS),
        pytest.raises(InputError, match="builds the book, or checks it, in"),
    ):
        check.check(book, "smoke", progress=lambda line: None)


def test_a_check_outside_the_project_says_so(tmp_path):
    with pytest.raises(InputError, match=r"has no _config\.yml: run this in the project's root folder"):
        check.check(tmp_path, "smoke")


def test_a_metric_that_is_recorded_twice_shows_the_notebook_that_did_it(edited):
    again = edited("sums", 'record("total", total)', 'record("total", total); record("total", total)')
    assert only(again).what == Status.FAILED and "recorded twice" in only(again).now
    (page,) = again.pages
    assert page.failed.read_text().count("application/vnd.rodpo.metric+json") == 2


def test_the_project_s_rules_fit_its_baseline():
    """Each pattern fits a metric, and each invariant holds for what is on record."""
    rules = Rules.read(PROJECT / check.FOLDER / "rules.yml")
    kept = check.read_baseline(PROJECT, "smoke").pages
    assert set(kept) == {path.stem for path in (PROJECT / "notebooks").glob("*.py")}
    assert not [rule for rule in rules.invariants if rule.page not in kept]
    assert not [broken for page, metrics in kept.items() for broken in rules.broken(page, metrics)]
    names = [f"{page}.{metric}" for page, metrics in kept.items() for metric in metrics]
    assert all(any(fnmatch(name, pattern) for name in names) for pattern in rules.tolerance)
