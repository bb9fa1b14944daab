"""The first page says what the ledger holds, and the opposite where the ledger holds the opposite."""

import re
from html.parser import HTMLParser

import pytest

from companion.evidence import claims
from companion.evidence.grid import Grid
from companion.evidence.ledger import FOLDER, Ledger
from companion.evidence.plan import GRID
from companion.findings import answer as answers
from companion.findings import sentences
from companion.site import front
from companion.site.board import board, in_short

INDEX = GRID.parent.parent / "book" / "index.md"


@pytest.fixture(scope="module")
def grid():
    return Grid.read(GRID)


@pytest.fixture(scope="module")
def ledger():
    return Ledger(FOLDER)


def test_every_sentence_is_filled_in():
    found = front.fill(INDEX.read_text(encoding="utf-8"), FOLDER)
    assert "**Always rejecting the hardest item" in found and not re.search(r"{{|}}|{%|nan\b|None", found)


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    assert front.fill("# A page\n", tmp_path) == "# A page\n"


def _told(facts) -> list[str]:
    """What the sentences say in bold."""
    return re.findall(r"\*\*(.+?)\*\*", sentences.render("answer", **facts))


def test_the_answer_turns_with_the_numbers(grid, ledger, monkeypatch):
    facts = answers.answer(grid, ledger)
    hard, pool, reference, mixture = _told(facts)
    assert (hard, pool) == (
        "Always rejecting the hardest item hurts.", "A random item of the best K does better than the hardest,",
    )  # fmt: skip
    assert "helps on Toys alone" in reference and mixture == "The sparse mixture never clearly helped."
    real = answers.changes

    def turned(*arguments, **options):
        table = real(*arguments, **options)
        ends = {"change %": -table["change %"], "low": -table["high"], "high": -table["low"]}
        return table.assign(**ends)

    monkeypatch.setattr(answers, "changes", turned)
    monkeypatch.setattr(answers, "given_up", lambda experiment, ledger: 0)
    facts = answers.answer(grid, ledger)
    hard, pool, reference, mixture = _told(facts)
    assert (hard, pool) == (
        "Always rejecting the hardest item helps.", "A random item of the best K does worse than the hardest,",
    )  # fmt: skip
    assert "hurts on Toys" in reference and "helped in" in mixture
    assert facts["hard"]["refused"] == 0


def test_the_answer_is_counted_by_hand(grid, ledger):
    facts = answers.answer(grid, ledger)
    pairs = [("hard", "fused"), ("towers_hard", "towers")]
    table = answers.changes(grid, pairs, ledger)
    assert facts["hard"]["of"] == len(table) == 12 and facts["hard"]["below"] == (table["high"] < 0).sum()
    assert facts["hard"]["seeds"] == 2 * 3 * 5


class _Marks(HTMLParser):
    """Classes and titles of the marks, in their order."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "title" in attrs:
            self.found.append((attrs["class"].split(" ", 1)[1], attrs["title"]))


def test_the_board_has_a_mark_for_each_member(grid, ledger):
    summaries = claims.summaries(claims.read(grid), grid, ledger)
    found = _Marks(board(summaries, "scoreboard.html")).found
    members = [member for claim in summaries for member in claim["members"]]
    assert sorted(kind for kind, _ in found) == sorted(member["verdict"].replace(" ", "-") for member in members)
    assert all(title.split(": ")[1].startswith(kind.replace("-", " ")) for kind, title in found)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ({"Toys": ["reproduced"] * 2, "Sports": ["reproduced"]}, "3 of 3 pairs"),
        ({"Toys": ["reproduced", "inconclusive"], "Sports": ["inconclusive"]}, "1 of 3 pairs, Toys only"),
        (
            {"Toys": ["reproduced"], "Sports": ["contradicted"]},
            "1 of 2 pairs, Toys only; against it 1 of 2 pairs, Sports only",
        ),
        ({"Toys": ["no effect"], "Sports": ["no effect"]}, "no effect"),
        ({"Toys": ["no effect"], "Sports": ["inconclusive"]}, "0 of 2 pairs"),
        ({"Toys": ["not run yet"]}, "not run yet"),
    ],
)  # fmt: skip
def test_a_verdict_in_short(verdicts, said):
    members = [{"column": column, "verdict": kind} for column, kinds in verdicts.items() for kind in kinds]
    assert in_short({"members": members}) == said
