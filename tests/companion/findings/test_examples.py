"""A few users' top ten, from finished runs of the grid."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.findings import examples
from rodpo_lite.data.schema import read_dataset, write_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.ranking import rank_dataset
from rodpo_lite.training.runs import load

DECLARED = """
datasets: [synthetic]
seeds: [1]
tuning: {seeds: [100], trials: 1}
rows:
  fused: {tier: A}
"""


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.yaml").write_text(DECLARED)
    return Grid.read(tmp_path / "grid.yaml")


def test_the_list_of_a_user_is_that_of_the_ranks(grid, world, reference_folder, tmp_path):
    shutil.copytree(reference_folder, tmp_path / "runs" / "synthetic" / "fused" / "final" / "seed-1")
    examples.write(world, grid, tmp_path / "runs", Ledger(tmp_path / "ledger"), ("fused",), users=5)
    found = examples.read("synthetic", Ledger(tmp_path / "ledger"))
    run = load(reference_folder, world)
    ranks = rank_dataset(run.model, world, "test", run.encoder.max_length).unmasked
    assert found["of"] == pytest.approx((ranks < 10).sum(), abs=1) and len(found["users"]) == 5
    start, end = leave_one_out(world).history("test")
    for example in found["users"]:
        user, top = example["user"], example["top"]["fused"]
        assert example["target"] == world.items[end[user]] and top.index(example["target"]) == ranks[user]
        assert example["history"] == world.items[start[user] : end[user]][-10:].tolist()
    shown = examples.table(example)
    place = int(ranks[example["user"]]) + 1
    assert shown.loc[place, "fused"] == f"★ item {example['target']}" and len(shown) == 10
    assert examples.table(example, world.titles).loc[place, "fused"] == f"★ {world.titles[example['target']][:40]}"
    assert torch.is_grad_enabled()


def test_what_moved_by_hand(tmp_path):
    """Two users and six items: user 0 has 0 and 1 and takes 2; user 1 has 3 and 4 and takes 5."""
    interactions = pd.DataFrame(
        {"user": [0] * 4 + [1] * 4, "item": [0, 0, 1, 2, 3, 3, 4, 5], "position": [0, 1, 2, 3] * 2}
    )
    write_dataset(tmp_path / "two", "two", interactions, pd.DataFrame({"item": range(6)}))
    dataset = read_dataset(tmp_path / "two")
    before, after = np.array([[0, 2], [3, 5]]), np.array([[0, 1], [5, 2]])
    found = examples.moves(dataset, before, after)
    assert found["left"] == {"items": 1, "owned": 0.5, "next": 0.5, "popularity": 1}
    assert found["came"] == {"items": 1, "owned": 0.5, "next": 0, "popularity": 0}
    assert found["stayed"] == {"items": 1, "owned": 0.5, "next": 0.5, "popularity": 1}
    worst = examples.losers(before, after, np.array([2, 5]))
    assert worst[0] == {"item": 3, "before": 1, "after": 0, "wanted": 0}
    assert {line["item"]: line["wanted"] for line in worst}[2] == 1, "user 0 lost it and took it next"
    assert examples.moves(dataset, before, before)["came"] == {"items": 0}


def test_a_row_that_has_not_run_is_named(grid, world, tmp_path):
    assert examples.read("synthetic", Ledger(tmp_path)) is None
    with pytest.raises(InputError, match="--rows fused"):
        examples.write(world, grid, tmp_path / "runs", Ledger(tmp_path), ("fused",))


def test_a_long_title_is_cut_at_a_word_and_says_so():
    assert examples.short("Title: Wooden train ; a description") == "Wooden train"
    assert examples.short(f"Title: {'word ' * 20}") == "word word word word word word word …"
    assert examples.short("x" * 60) == "x" * 39 + " …"


def test_what_moved_as_tables(grid):
    moved = {
        what: {"items": 2.0, "owned": 0.5, "next": 0.001 * n, "popularity": 7.0}
        for n, what in enumerate(("left", "came"), 1)
    }
    losers = [{"item": item, "before": 9, "after": item, "wanted": 1} for item in range(7)]
    kept = {"synthetic": {"moved": {"topk": {"moves": moved | {"stayed": {"items": 0.0}}, "losers": losers}}}}
    table = examples.moves_table(kept)
    assert table["what"].tolist() == ["left", "came", "stayed"] and table["already had, %"].tolist()[:2] == [50, 50]
    (row,) = examples.came_and_left(grid, table, ["topk"])["rows"].to_dict("records")
    assert row == {"dataset": "Synthetic", "row": "topk", "came": pytest.approx(20), "left": pytest.approx(10)}
    assert examples.losers_table(kept, {}, ["topk"])["item"].tolist() == [0, 1, 2, 3, 4]
    titles = {"synthetic": [f"Title: thing {item}" for item in range(7)]}
    assert examples.losers_table(kept, titles, ["topk"])["item"].tolist()[-1] == "thing 4"
