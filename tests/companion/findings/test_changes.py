"""What a row changes over others, and for whom: tables and facts, from a ledger whose effects are known."""

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence import comparison
from companion.evidence.grid import Experiment
from companion.evidence.ledger import Ledger
from companion.findings import changes
from companion.findings.sentences import render
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import crossed_change
from rodpo_lite.files import read_json, write_json

BASELINES = {"popularity": 0.1, "item_knn": 0.45}  # of each, the share of users whose item it finds


@pytest.fixture
def empty(ledger):
    return with_records(ledger.folder, ledger.records.iloc[:0])


@pytest.fixture
def with_baselines(folder):
    """The tiny ledger with two baselines on its dataset; the weaker one validates worse."""
    like = read_json(folder / "world-reference-base1.json")
    for name, share in BASELINES.items():
        ranks = np.where(np.arange(tiny_ledger.USERS) % 100 < 100 * share, 0, 200)
        file = f"world-baseline-{name}"
        pd.DataFrame({"rank": ranks, "own_above": 0}).to_parquet(folder / "ranks" / f"{file}.parquet")
        entry = {"config_hash": file, "stage": "baseline", "config": {"stage": "baseline", "name": name, "decay": 1.0}}
        entry |= dict.fromkeys(("valid", "valid_masked", "test", "test_masked"), metrics.from_ranks(ranks))
        write_json(folder / f"{file}.json", like | entry)
    return Ledger(folder)


def test_what_rejected_items_do_to_the_reference(grid, ledger, empty):
    table = changes.against_the_reference(grid, ledger)
    assert list(table) == ["World"] and table.index.tolist() == ["topk", "hard"]
    assert table.loc["topk", "World"].startswith("+")
    assert changes.against_the_reference(grid, empty).empty
    assert changes.against_the_reference(grid, ledger, changes.TOWERS).empty, "no such rows are declared"


def test_where_the_reference_may_stay(grid, ledger):
    records = ledger.records
    records.loc[records["strategy"] == "hard", "valid.ndcg@5"] = 0.0
    table = changes.where_the_reference_may_stay(grid, ledger)["World"]
    assert table["`hard` validates no better in"] == "3 of 3 seeds"
    assert table["`topk` validates no better in"] == "0 of 3 seeds"
    assert table["what is left of `topk` over `hard`, %"].startswith("+")
    records.loc[records["strategy"] == "topk", "valid.ndcg@5"] = 0.0
    table = changes.where_the_reference_may_stay(grid, with_records(ledger.folder, records))["World"]
    assert table["what is left of `topk` over `hard`, %"] == "the reference on both sides"


def test_nothing_is_shown_before_every_seed_is_there(grid, folder, ledger):
    part = with_records(folder, ledger.records[ledger.records["file"] != "world-align-topk2.json"])
    assert changes.where_the_reference_may_stay(grid, part).empty
    assert changes.against_the_reference(grid, part).index.tolist() == ["hard"]
    assert changes.signs(grid, [("topk", "hard")], part).empty


def test_the_sign_of_each_pair(grid, ledger):
    table = changes.signs(grid, [("topk", "hard"), ("hard", "topk"), ("hard", "base")], ledger)
    assert list(table) == ["World", "World, dropped"]
    assert table["World"].str[0].tolist() == ["▲", "▼", "○"] and table.loc["`topk` over `hard`", "World"][2] == "+"


def test_labels_go_with_their_pairs(grid, ledger):
    table = comparison.changes(grid, {"pool": ("topk", "hard"), "harm": ("hard", "base")}, ledger)
    assert {(row.what, row.after, row.before) for row in table.itertuples()} == {
        ("pool", "topk", "hard"), ("harm", "hard", "base"),
    }  # fmt: skip
    assert set(table["dataset"]) == {"world"}, "where nothing is hidden"


def _table(*lines):
    table = pd.DataFrame(lines, columns=["protocol", "after", "change %", "low", "high"])
    return table.assign(dataset="world", before="topk")


def test_which_rows_are_ahead_and_behind(grid):
    up, down, unsure = ("up", 2.0, 1.0, 3.0), ("down", -2.0, -3.0, -1.0), ("open", 0, -1, 1)
    table = _table(*(("all items", *row) for row in (up, down, unsure)), ("history dropped", *up))
    table = pd.concat([table, table[2:3].assign(dataset="world-planted")], ignore_index=True)
    said = " ".join(render("others", changes=changes.labelled(grid, changes.ranked(table))).split())
    assert said.startswith("Of these 4 intervals with all items ranked, 2 leave zero out")
    assert "- **World**: ahead `up` +2.0 % [+1.0 %, +3.0 %]; behind `down` −2.0 % [−3.0 %, −1.0 %]" in said
    assert said.endswith("- **World, 10 % hidden**: none")


def test_pairs_that_turn_round_with_the_protocol():
    lines = [("all items", "a", 1, 0, 2), ("history dropped", "a", -1, -2, 0)]
    lines += [("all items", "b", 1, 0, 2), ("history dropped", "b", 3, 2, 4)]
    assert changes.other_sign(_table(*lines), _table(*lines)).index.tolist() == [("world", "a over topk")]


def test_a_second_set_beside_the_first():
    first = [("all items", "a", 1.0, 0.5, 1.5), ("all items", "b", 1.0, 0.5, 1.5), ("all items", "c", 1.0, 0.5, 1.5)]
    second = [("all items", "a", 1.4, 0.9, 1.9), ("all items", "b", -1.0, -1.5, -0.5), ("all items", "c", 0.6, -1, 2)]
    sets = [_table(*lines).assign(set=name) for name, lines in (("first", first), ("second", second))]
    table = pd.concat(sets).rename(columns={"after": "what", "before": "than"})
    assert changes.replication(table) == {"changes": 3, "inside": 2, "sure": 2, "same_sign": 1}


def test_a_pair_with_more_and_more_seeds(grid, ledger):
    dataset, table = changes.with_more_seeds(grid, ("topk", "hard"), ledger)
    assert dataset == "world" and table["seeds"].tolist() == [1, 2, 3]
    whole = changes.ranked(comparison.changes(grid, [("topk", "hard")], ledger)).iloc[0]
    assert table["change %"].iloc[-1] == whole["change %"]
    assert table["half width"].iloc[-1] == pytest.approx((whole["high"] - whole["low"]) / 2)


def test_each_row_against_the_baseline_that_validates_best(grid, with_baselines):
    table = changes.over_baselines(grid, with_baselines, ["base", "topk", "other"])
    assert set(table["baseline"]) == {"item_knn"} and table["its"].unique() == pytest.approx(BASELINES["item_knn"])
    assert table["row"].tolist() == ["base", "topk"] * 2, "under both protocols; what is not declared is left out"
    arms = [
        np.stack([metrics.ndcg(with_baselines.ranks(f"world-{name}.json")["rank"].to_numpy()) for name in names])
        for names in (["baseline-item_knn"] * 3, [f"align-topk{seed}" for seed in (1, 2, 3)])
    ]
    one = crossed_change(*arms)
    assert table.iloc[1][["change %", "low", "high"]].tolist() == [one.estimate, one.low, one.high]


def test_a_row_that_lacks_a_seed_is_left_out(grid, with_baselines):
    (with_baselines.folder / "world-align-topk2.json").unlink()
    assert set(changes.over_baselines(grid, with_baselines, ["base", "topk"])["row"]) == {"base"}
    records = with_baselines.records
    without = with_records(with_baselines.folder, records[records["stage"] != "baseline"])
    assert changes.over_baselines(grid, without).empty


def test_other_data_are_refused(grid, with_baselines):
    records = with_baselines.records
    records["checksums"] = np.where(records["stage"] == "baseline", "other", "same")
    with pytest.raises(InputError, match="different editions"):
        changes.over_baselines(grid, with_baselines, ["base"])


def test_only_an_interval_that_leaves_zero_out_puts_a_baseline_ahead():
    columns = ["dataset", "protocol", "baseline", "its", "row", "change %", "low", "high"]
    lines = [("base", -14.0, -20.0, -9.0), ("topk", -1.0, -7.0, 5.0), ("hard", 3.0, 1.0, 5.0)]
    table = pd.DataFrame([("World", "all items", "knn", 0.0415, *line) for line in lines], columns=columns)
    ahead = "With all items ranked, `knn` is ahead of `base` on World"
    assert render("baselines_ahead", rows=table) == f"{ahead}, and cannot be told apart from `topk`."
    assert render("baselines_ahead", rows=table.head(1)) == f"{ahead}."
    assert render("baselines_ahead", rows=table.iloc[1:]) == "", "nobody is shown to be behind"


@pytest.mark.parametrize(("by", "count"), [("popularity", 10), ("history", 4)])
def test_contributions_add_up_to_the_whole_change(grid, ledger, by, count):
    pair = Experiment(grid, "world", "topk"), Experiment(grid, "world", "hard")
    table = changes.contributions(grid, ledger, [("topk", "hard", by, count)])
    assert len(table) == count and table["users"].sum() == tiny_ledger.USERS
    assert table["change %"].sum() == pytest.approx(comparison.change(*pair, ledger).estimate)
    assert (table["low"] < table["change %"]).all() and (table["to"].shift() < table["from"])[1:].all()


def test_the_groups_of_a_row_add_up_to_its_change(grid, folder, ledger):
    table = changes.of_groups(grid, ledger)
    assert set(table["row"]) == {"topk", "hard"}, "`none` is not declared"
    for (row, by), part in table.groupby(["row", "by"]):
        whole = comparison.change(Experiment(grid, "world", row), Experiment(grid, "world", "base"), ledger)
        assert part["change %"].sum() == pytest.approx(whole.estimate)
        assert part["users"].sum() == tiny_ledger.USERS and part["group"].iloc[0] == 1
        assert len(part) == (10 if by == "popularity" else 5)
    assert changes.of_groups(grid, with_records(folder, ledger.records.head(0))).empty


def test_groups_whose_interval_leaves_zero_out():
    columns = ["row", "by", "dataset", "group", "low", "high"]
    lines = [("topk", "popularity", 1, 1, 2), ("topk", "popularity", 2, -1, 1), ("topk", "popularity", 3, 0.5, 1)]
    lines += [("topk", "history", 1, -2, -1), ("hard", "popularity", 1, -2, -1)]
    table = pd.DataFrame([(row, by, "World", *rest) for row, by, *rest in lines], columns=columns)
    said = render("groups", groups=table, shares=[])
    assert said == "Under `topk` the interval leaves zero out in 2 groups that gain and 1 that lose, of 4."
    assert render("groups", groups=table.tail(1), shares=[]).startswith("Under `topk` no group")


def test_what_lies_with_the_most_popular_items(grid, folder):
    for seed in (1, 2, 3):  # `topk` finds what `hard` finds, and the item of every user of the last tenth
        hard = pd.read_parquet(folder / "ranks" / f"world-align-hard{seed}.parquet")
        popular = np.arange(tiny_ledger.USERS) >= 0.9 * tiny_ledger.USERS
        topk = hard.assign(rank=np.where(popular, 0, hard["rank"]))
        topk.to_parquet(folder / "ranks" / f"world-align-topk{seed}.parquet")
    ledger = Ledger(folder)
    whole = comparison.change(Experiment(grid, "world", "topk"), Experiment(grid, "world", "hard"), ledger).estimate
    (row,) = changes.popular(grid, ledger)["shares"].to_dict("records")
    assert (row["other"], row["dataset"]) == ("hard", "World"), "`hard_as_topk` is not declared"
    assert row["change %"] == pytest.approx(whole) == row["all"] and row["share"] == pytest.approx(1)
    assert changes.popular(grid, ledger, ["none"])["shares"].empty
