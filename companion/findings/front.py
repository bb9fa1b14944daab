"""The first page of the book: the facts for the sentences that `book/index.md` asks for."""

from pathlib import Path
from typing import Any

from companion.evidence import claims
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import changes, negatives, runs, sentences


def fill(text: str, folder: Path) -> str:
    """Fill in the page by what the ledger in `folder` says; a page that asks for nothing stays as it is."""
    if "{{" not in text:
        return text
    grid, ledger = Grid.read(GRID), Ledger(folder)

    def on_base(prefix: str) -> dict[str, Any]:
        rejected = {"prefix": prefix, "changes": changes.against_the_reference(grid, ledger, prefix)}
        dropped = changes.with_history_dropped(grid, ledger, prefix)
        return {"rejected": rejected, "pool": runs.pool(grid, ledger, prefix), "history_dropped": dropped}

    return sentences.fill(
        text,
        fused=on_base(""),
        towers=on_base(changes.TOWERS),
        may_stay={"rows": changes.where_the_reference_may_stay(grid, ledger)},
        pushed=negatives.pushed(grid, ledger),
        popular=changes.popular(grid, ledger),
        baselines={"rows": changes.over_baselines(grid, ledger)},
        verdicts={"claims": claims.summaries(claims.read(grid), grid, ledger)},
    )
