"""The first page of the book: what came out, in place of the marks in `book/index.md`."""

from pathlib import Path

import pandas as pd

from companion.evidence import claims
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import groups, rivals, story


def fill(text: str, folder: Path) -> str:
    """The page with each of its marks replaced by what the ledger in `folder` says."""
    if any(mark in text for mark in _WRITTEN):
        recorded = Grid.read(GRID), Ledger(folder)
        for mark, write in _WRITTEN.items():
            text = text.replace(mark, write(*recorded))
    return text


def _so_far(*recorded) -> str:
    """What each kind of rejected item does to the reference, and what it comes to."""
    words = (story.pool_sizes(*recorded), story.with_history_dropped(*recorded))
    return "\n\n".join([_table(story.against_the_reference(*recorded)), *words])


def _on_towers(*recorded) -> str:
    """The same on the base with towers."""
    return _so_far(*recorded, story.TOWERS)


def _may_stay(*recorded) -> str:
    """How often an alignment validates no better than its reference, and what is left if that may stay."""
    return _table(story.where_the_reference_may_stay(*recorded))


def _baselines(grid: Grid, *recorded) -> str:
    """Where a baseline that trains nothing is ahead of a model."""
    ahead = rivals.ahead(grid, rivals.over_baselines(grid, *recorded))
    if not ahead:
        return ""
    told = "Not everything that is trained is ahead of a plain [baseline](notebooks/results), which trains nothing."
    return f"{told} {' '.join(ahead)}"


def _scoreboard(grid: Grid, *recorded) -> str:
    """The claims of the paper with their verdicts."""
    found = claims.scoreboard(claims.read(grid), grid, *recorded)
    tally = found["tally"].where(found["tally"] == "", " (" + found["tally"] + ")")
    lines = [
        f"| {row.says} | **{row.verdict}**{of_pairs} | {row.so_far or '–'} |"
        for row, of_pairs in zip(found.itertuples(), tally, strict=True)
    ]
    head = "| the paper says | verdict (of its pairs) | effect of the first pair |"
    return "\n".join([head, "|---|---|---|", *lines])


def _table(found: pd.DataFrame) -> str:
    """A table with a column for each dataset."""
    if found.empty:
        return "*No run is on record yet.*"
    found = found.fillna("–")
    for name in found:  # where a telephone stacks the experiments, each says its column
        interval = found[name].str.replace(r"(\[.*\])", r'<span class="rodpo-whole">\1</span>', regex=True)
        found[name] = f'<span class="rodpo-stacked">{name}:</span> ' + interval
    lines = [f"| {label} | {' | '.join(row)} |" for label, row in found.iterrows()]
    head = f"| {found.index.name} | {' | '.join(found)} |"
    return "\n".join([head, "|---" * (1 + found.shape[1]) + "|", *lines])


_WRITTEN = {
    "<!-- so far -->": _so_far,
    "<!-- on towers -->": _on_towers,
    "<!-- may stay -->": _may_stay,
    "<!-- pushed -->": story.pushed,
    "<!-- popular -->": groups.with_the_most_popular,
    "<!-- baselines -->": _baselines,
    "<!-- scoreboard -->": _scoreboard,
}
