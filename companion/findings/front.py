"""The first page of the book: the facts for the sentences that `book/index.md` asks for."""

from pathlib import Path

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
    bases = {
        base: {
            "rejected": {"prefix": prefix, "changes": changes.against_the_reference(grid, ledger, prefix)},
            "pool": runs.pool(grid, ledger, prefix),
            "history_dropped": changes.with_history_dropped(grid, ledger, prefix),
        }
        for base, prefix in (("fused", ""), ("towers", changes.TOWERS))
    }
    return sentences.fill(
        text,
        **bases,
        may_stay={"rows": changes.where_the_reference_may_stay(grid, ledger)},
        pushed=negatives.pushed(grid, ledger),
        popular=changes.popular(grid, ledger),
        baselines={"rows": changes.over_baselines(grid, ledger)},
        verdicts={"claims": claims.summaries(claims.read(grid), grid, ledger)},
    )
