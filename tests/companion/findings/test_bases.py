"""The bases: curves over seeds, where they begin to memorise, and what their parts are worth."""

import pandas as pd
import pytest

from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import bases


def _curve(base, ranked, dropped, seeds=2):
    rows = zip(range(1, 1 + len(ranked)), ranked, dropped, strict=True)
    return [(base, epoch, one, other, seeds) for epoch, one, other in rows]


def test_memorising_by_hand():
    """The second base peaks with the history dropped after epoch 2 and goes on with all items ranked."""
    lines = _curve("fused", (0.1, 0.2, 0.3), (0.2, 0.3, 0.4)) + _curve("towers", (0.1, 0.2, 0.3), (0.4, 0.5, 0.45))
    lines += [("towers", 4, 0.9, 0.9, 1)]  # one seed alone trained that long
    table = pd.DataFrame(lines, columns=["base", "epoch", "all items", "history dropped", "seeds"])
    found = bases.memorising(table).set_index("base")
    assert found.loc["fused"].tolist() == [3, 3, 3, 0.0]
    assert found.loc["towers"].tolist()[:3] == [2, 3, 3] and found.at["towers", "lost, %"] == pytest.approx(-10)


def test_where_nothing_is_on_record_there_is_nothing_to_show(tmp_path):
    grid = Grid.read(GRID)
    (tmp_path / "trials").mkdir()
    assert bases.along_training(grid, Ledger(tmp_path)).empty
    assert bases.memorising(bases.along_training(grid, Ledger(tmp_path))).empty
    assert bases.parts(grid, Ledger(tmp_path), "hm4sr").empty
