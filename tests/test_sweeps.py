"""One setting at a time: what stands beside what, in which order, and what is said of it."""

import pytest
import tiny_ledger

from rodpo_lite import sweeps
from rodpo_lite.grid import Grid
from rodpo_lite.ledger import records

DECLARED = """
datasets: [toys]
seeds: [1, 2, 3]
tuning: {seeds: [100], trials: 1}
rows:
  base: {tier: A}
  topk: {tier: A, reference: base, set: {loss.beta: 2}}
  hard_as_topk: {tier: B, reference: base, like: topk, set: {negatives.name: hard}}
  hard.beta=10: {tier: C, reference: base, like: topk, set: {negatives.name: hard, loss.beta: 10}}
  beta=10: {tier: C, reference: base, like: topk, set: {loss.beta: 10}}
  beta=2: {tier: C, reference: base, like: topk, set: {loss.beta: 2}}
  beta=0.5: {tier: C, reference: base, like: topk, set: {loss.beta: 0.5}}
  hard.beta=2: {tier: C, reference: base, like: topk, set: {negatives.name: hard, loss.beta: 2}}
  n=3: {tier: C, reference: base, like: topk, set: {negatives.n: 3}}
"""
FOUND = {"base": 0.5, "topk": 0.6, "hard_as_topk": 0.5, "hard.beta=10": 0.2, "beta=10": 0.6, "beta=2": 0.6}
FOUND |= {"beta=0.5": 0.4, "hard.beta=2": 0.5, "n=3": 0.6}


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_ledger, "WORLD", {row: (found, None, None) for row, found in FOUND.items()})
    (tmp_path / "grid.yaml").write_text(DECLARED)
    grid = Grid.read(tmp_path / "grid.yaml")
    folder = tiny_ledger.fill(grid, tmp_path / "ledger")
    return grid, records(folder), folder


def test_a_sweep_is_in_the_order_of_its_values(filled):
    found = sweeps.against_topk(*filled)
    assert set(found["of"]) == {"β"}, "one value of n is no curve"
    topk, hard = (found[found["selector"] == name] for name in ("topk", "hard"))
    assert topk["value"].tolist() == [0.5, 2, 10] and hard["value"].tolist() == [2, 10]
    assert topk["change %"].iloc[0] < -20 and topk["seeds"].tolist() == [3, 3, 3]


def test_the_pool_against_the_hardest_item_at_the_same_settings(filled):
    found = sweeps.over_hard(*filled)
    assert found["setting"].tolist() == ["β 10", "as chosen"], "the largest first, what was chosen once"
    assert found["change %"].iloc[0] > 100 > found["change %"].iloc[1] > 0
    text = sweeps.strongest(found)
    assert (
        "At 1 of 2 settings" in text and "furthest at *β 10*, by +1" in text and "least at *as chosen*, by +2" in text
    )


def test_nothing_is_said_of_runs_that_are_not_on_record(filled):
    grid, table, folder = filled
    few = table[table["strategy"] == "reference"]
    assert sweeps.against_topk(grid, few, folder).empty and sweeps.over_hard(grid, few, folder).empty
