"""The first page says what the ledger holds, and every sentence that it asks for is there."""

import re

from companion.evidence.ledger import FOLDER
from companion.evidence.plan import GRID
from companion.findings import front

INDEX = GRID.parent.parent / "book" / "index.md"


def test_every_sentence_is_filled_in():
    text = INDEX.read_text(encoding="utf-8")
    found = front.fill(text, FOLDER)
    assert text.count("{{ sentence(") >= 6 and not re.search(r"{{|}}|{%|nan\b|None", found)
    tables = re.findall(r"(?:^\|.*\|\n)+", found, re.MULTILINE)
    assert len(tables) == 4, "two bases, the reference that may stay, the claims"
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, "as many cells in every line"


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    assert front.fill("# A page\n", tmp_path) == "# A page\n"
