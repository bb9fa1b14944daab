"""For whom a change is: parts that add up to it, and which of them are sure."""

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence import comparison
from companion.evidence.grid import Experiment
from companion.evidence.ledger import Ledger
from companion.findings import groups


@pytest.mark.parametrize(("by", "count"), [("popularity", 10), ("history", 4)])
def test_contributions_add_up_to_the_whole_change(grid, ledger, by, count):
    pair = Experiment(grid, "world", "topk"), Experiment(grid, "world", "hard")
    table = groups.contributions(*pair, ledger, by, count)
    assert len(table) == count and table["users"].sum() == tiny_ledger.USERS
    assert table["change %"].sum() == pytest.approx(comparison.change(*pair, ledger).estimate)
    assert (table["low"] < table["change %"]).all() and (table["to"].shift() < table["from"])[1:].all()


def test_the_groups_of_a_row_add_up_to_its_change(grid, folder, ledger):
    table = groups.over_the_reference(grid, ledger)
    assert set(table["row"]) == {"topk", "hard"}, "`none` is not declared"
    for (row, by), part in table.groupby(["row", "by"]):
        whole = comparison.change(Experiment(grid, "world", row), Experiment(grid, "world", "base"), ledger)
        assert part["change %"].sum() == pytest.approx(whole.estimate)
        assert part["users"].sum() == tiny_ledger.USERS and part["group"].iloc[0] == 1
        assert len(part) == (10 if by == "popularity" else 5)
    assert groups.over_the_reference(grid, with_records(folder, ledger.records.head(0))).empty


def test_groups_whose_interval_leaves_zero_out(grid):
    columns = ["row", "by", "dataset", "group", "low", "high"]
    lines = [("topk", "popularity", 1, 1, 2), ("topk", "popularity", 2, -1, 1), ("topk", "popularity", 3, 0.5, 1)]
    lines += [("topk", "history", 1, -2, -1), ("hard", "popularity", 1, -2, -1)]
    table = pd.DataFrame([(row, by, "world", *rest) for row, by, *rest in lines], columns=columns)
    assert groups.sure_groups(grid, table) == [
        {"dataset": "World", "verb": "gains", "groups": [1, 3], "of": 3, "by": "popularity"},
        {"dataset": "World", "verb": "loses", "groups": [1], "of": 1, "by": "history"},
    ]
    assert groups.sure_groups(grid, table, "none") == []


def test_what_lies_with_the_most_popular_items(grid, folder):
    for seed in (1, 2, 3):  # `topk` finds what `hard` finds, and the item of every user of the last tenth
        hard = pd.read_parquet(folder / "ranks" / f"world-align-hard{seed}.parquet")
        popular = np.arange(tiny_ledger.USERS) >= 0.9 * tiny_ledger.USERS
        topk = hard.assign(rank=np.where(popular, 0, hard["rank"]))
        topk.to_parquet(folder / "ranks" / f"world-align-topk{seed}.parquet")
    ledger = Ledger(folder)
    whole = comparison.change(Experiment(grid, "world", "topk"), Experiment(grid, "world", "hard"), ledger).estimate
    (row,) = groups.popular(grid, ledger)["shares"].to_dict("records")
    assert (row["other"], row["dataset"]) == ("hard", "World"), "`hard_as_topk` is not declared"
    assert row["change %"] == pytest.approx(whole) == row["all"] and row["share"] == pytest.approx(1)
    assert groups.popular(grid, ledger, ["none"])["shares"].empty
