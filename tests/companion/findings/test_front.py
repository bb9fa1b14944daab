"""The first page says what the ledger holds, and no mark is left in it."""

import re

import pandas as pd

from companion.evidence.ledger import FOLDER
from companion.evidence.plan import GRID
from companion.findings import front

INDEX = GRID.parent.parent / "book" / "index.md"


def test_every_mark_is_replaced():
    text = INDEX.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- [a-z ]+ -->", text)
    found = front.fill(text, FOLDER)
    assert len(marks) >= 6 and not re.search(r"<!--|nan\b|None", found)
    tables = re.findall(r"(?:^\|.*\|\n)+", found, re.MULTILINE)
    assert len(tables) == 4, "two bases, the reference that may stay, the claims"
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, "as many cells in every line"


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    assert front.fill("# A page\n", tmp_path) == "# A page\n"


def test_a_table_without_runs_says_so():
    assert front._table(pd.DataFrame()) == "*No run is on record yet.*"
