"""For whom a change is: parts that add up to it, and what is said of them."""

import re

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence import comparison
from companion.evidence.grid import Experiment
from companion.evidence.ledger import Ledger
from companion.findings import groups


def test_the_groups_of_a_row_add_up_to_its_change(grid, folder, ledger):
    found = groups.over_the_reference(grid, ledger)
    assert set(found["row"]) == {"topk", "hard"}, "`none` is not declared"
    for (row, by), part in found.groupby(["row", "by"]):
        whole = comparison.change(Experiment(grid, "world", row), Experiment(grid, "world", "base"), ledger)
        assert part["change %"].sum() == pytest.approx(whole.estimate)
        assert part["users"].sum() == tiny_ledger.USERS and part["group"].iloc[0] == 1
        assert len(part) == (10 if by == "popularity" else 5)
    assert groups.over_the_reference(grid, with_records(folder, ledger.records.head(0))).empty


def test_groups_whose_interval_leaves_zero_out(grid):
    columns = ["row", "by", "dataset", "group", "low", "high"]
    lines = [("topk", "popularity", 1, 1, 2), ("topk", "popularity", 2, -1, 1), ("topk", "popularity", 3, 0.5, 1)]
    lines += [("topk", "history", 1, -2, -1), ("hard", "popularity", 1, -2, -1)]
    found = pd.DataFrame([(row, by, "world", *rest) for row, by, *rest in lines], columns=columns)
    assert groups.told(grid, found).split("\n") == [
        "- **World** gains in groups 1 and 3 of 3 by popularity.",
        "- **World** loses in group 1 of 1 by history.",
    ]
    assert groups.told(grid, found, "none") == ""


def test_what_lies_with_the_most_popular_items(grid, folder):
    for seed in (1, 2, 3):  # `topk` finds what `hard` finds, and the item of every user of the last tenth
        hard = pd.read_parquet(folder / "ranks" / f"world-align-hard{seed}.parquet")
        popular = np.arange(tiny_ledger.USERS) >= 0.9 * tiny_ledger.USERS
        hard.assign(rank=np.where(popular, 0, hard["rank"])).to_parquet(
            folder / "ranks" / f"world-align-topk{seed}.parquet"
        )
    ledger = Ledger(folder)
    whole = comparison.change(Experiment(grid, "world", "topk"), Experiment(grid, "world", "hard"), ledger).estimate
    said = groups.with_the_most_popular(grid, ledger).replace("\xa0", " ")
    of_top, of_all = re.search(r"over `hard`, \+([\d.]+) % \[.*\] of \+([\d.]+) % on World", said).groups()
    assert float(of_top) == float(of_all) == pytest.approx(whole, abs=0.06)
    assert "In 1 of 1 comparisons" in said and "hard_as_topk" not in said
    assert groups.with_the_most_popular(grid, ledger, ["none"]) == ""
