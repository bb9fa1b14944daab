"""Models beside plain baselines: a baseline whose users and ranks are known, and what may be said about it."""

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence.ledger import Ledger
from companion.findings import rivals
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import crossed_change
from rodpo_lite.files import read_json, write_json

FOUND = {"popularity": 0.1, "item_knn": 0.45}  # of each baseline, the share of users whose item it finds


@pytest.fixture
def folder(folder):
    """The tiny ledger with two baselines on its dataset; the weaker one validates worse."""
    like = read_json(folder / "world-reference-base1.json")
    for name, found in FOUND.items():
        ranks = np.where(np.arange(tiny_ledger.USERS) % 100 < 100 * found, 0, 200)
        file = f"world-baseline-{name}"
        pd.DataFrame({"rank": ranks, "own_above": 0}).to_parquet(folder / "ranks" / f"{file}.parquet")
        entry = {"config_hash": file, "stage": "baseline", "config": {"stage": "baseline", "name": name, "decay": 1.0}}
        entry |= dict.fromkeys(("valid", "valid_masked", "test", "test_masked"), metrics.from_ranks(ranks))
        write_json(folder / f"{file}.json", like | entry)
    return folder


def test_each_row_against_the_baseline_that_validates_best(grid, folder):
    found = rivals.over_baselines(grid, Ledger(folder), ["base", "topk", "other"])
    assert set(found["baseline"]) == {"item_knn"} and found["its"].unique() == pytest.approx(FOUND["item_knn"])
    assert found["row"].tolist() == ["base", "topk"] * 2, "under both protocols; what is not declared is left out"
    arms = [
        np.stack([metrics.ndcg(Ledger(folder).ranks(f"world-{name}.json")["rank"].to_numpy()) for name in names])
        for names in (["baseline-item_knn"] * 3, [f"align-topk{seed}" for seed in (1, 2, 3)])
    ]
    one = crossed_change(*arms)
    assert found.iloc[1][["change %", "low", "high"]].tolist() == [one.estimate, one.low, one.high]


def test_a_row_that_lacks_a_seed_is_left_out(grid, folder, ledger):
    (folder / "world-align-topk2.json").unlink()
    found = rivals.over_baselines(grid, ledger, ["base", "topk"])
    assert set(found["row"]) == {"base"}
    without = ledger.records[ledger.records["stage"] != "baseline"]
    assert rivals.over_baselines(grid, with_records(folder, without)).empty


def test_other_data_are_refused(grid, ledger):
    table = ledger.records
    table["checksums"] = np.where(table["stage"] == "baseline", "other", "same")
    with pytest.raises(InputError, match="different editions"):
        rivals.over_baselines(grid, ledger, ["base"])


def test_only_an_interval_that_leaves_zero_out_puts_a_baseline_ahead(grid):
    columns = ["dataset", "protocol", "baseline", "its", "row", "change %", "low", "high"]
    lines = [("base", -14.0, -20.0, -9.0), ("topk", -1.0, -7.0, 5.0), ("hard", 3.0, 1.0, 5.0)]
    found = pd.DataFrame([("world", "all items", "knn", 0.0415, *line) for line in lines], columns=columns)
    (said,) = rivals.told(grid, found)
    assert said.startswith("**World**, all items ranked: `knn` has 0.0415; against it, `base` −14")
    assert rivals.ahead(grid, found) == [
        "With all items ranked, `knn` is ahead of `base` on World, and cannot be told apart from `topk`."
    ]
    assert rivals.ahead(grid, found.head(1)) == ["With all items ranked, `knn` is ahead of `base` on World."]
    assert rivals.ahead(grid, found.iloc[1:]) == [], "nobody is shown to be behind"
