"""The first page of the book: the facts for the sentences that `book/index.md` asks for."""

from pathlib import Path

from companion.evidence import claims
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import explorer, negatives, sentences
from companion.findings.answer import answer
from companion.site.parts.board import board
from companion.site.parts.forest import forest


def fill(text: str, folder: Path) -> str:
    """Fill in the page by what the ledger in `folder` says; a page that asks for nothing stays as it is."""
    if "{{" not in text:
        return text
    grid, ledger = Grid.read(GRID), Ledger(folder)
    verdicts = claims.summaries(claims.read(grid), grid, ledger)
    return sentences.fill(
        text,
        answer=answer(grid, ledger),
        because=negatives.because(grid, ledger),
        forest=forest(explorer.table(grid, ledger), grid),
        board=board(verdicts, "notebooks/scoreboard.html"),
    )
