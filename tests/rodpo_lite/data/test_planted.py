"""Planted false negatives: what is hidden, and where it counts; and what selection did, counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.planted import PLANTED, Planted, plant
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError
from rodpo_lite.mechanism.diagnostics import SelectionDiagnostics
from rodpo_lite.sampling.candidates import OwnedItems
from rodpo_lite.settings import build
from rodpo_lite.training import checkpoint, runs


@pytest.fixture(scope="module")
def planted_folder(world_folder, tmp_path_factory):
    return plant(world_folder, tmp_path_factory.mktemp("planted") / "world", 0.1, seed=1)


def test_a_tenth_of_training_is_hidden_and_nothing_else_changes(world, planted_folder):
    left, record = read_dataset(planted_folder), pd.read_parquet(planted_folder / PLANTED)
    split = leave_one_out(world)
    assert len(record) == round(0.1 * (split.train_end - split.start).sum())
    assert len(left.items) + len(record) == len(world.items)
    after = leave_one_out(left)
    assert (after.train_end - after.start).min() >= 2
    training = np.concatenate([left.items[a:b] for a, b in zip(after.start, after.train_end)])
    original = np.concatenate([world.items[a:b] for a, b in zip(split.start, split.train_end)])
    assert set(training) == set(original), "no item loses its last training interaction"
    for user in range(world.n_users):
        sequence = world.items[world.offsets[user] : world.offsets[user + 1]].tolist()
        rest = left.items[left.offsets[user] : left.offsets[user + 1]].tolist()
        assert rest[-2:] == sequence[-2:], "validation and test stay"
        for row in record[record["user"] == user].sort_values("place", ascending=False, kind="stable").itertuples():
            assert sequence.index(row.item) >= row.place
        known = set(record.loc[record["user"] == user, "item"])
        assert [item for item in sequence if item not in known] == rest


def test_a_hidden_item_is_a_false_negative_before_its_time_only(world, planted_folder):
    left = read_dataset(planted_folder)
    planted = Planted.of(left, planted_folder)
    record = pd.read_parquet(planted_folder / PLANTED)
    split = leave_one_out(left)
    batch = next(PackedSequences(left.items, split.start, split.train_end - 1, 50).epoch(10_000))
    everything = torch.arange(left.n_items).expand(len(batch.rows), -1)
    hits = planted.hit(batch, everything)
    for position in range(0, len(batch.rows), 23):
        user, row = int(batch.user_of_position[position]), int(batch.rows[position])
        sequence = world.items[world.offsets[user] : world.offsets[user + 1]].tolist()
        last_known = sequence.index(int(left.items[row]))
        mine = record.loc[record["user"] == user, "item"]
        expected = {item for item in mine if sequence.index(item) > last_known}
        assert set(hits[position].nonzero()[:, 0].tolist()) == expected


def test_what_was_planted_can_be_spared(planted_folder, tmp_path):
    """An oracle: nothing that was hidden is rejected, at any time; everything else may be as before."""
    left = read_dataset(planted_folder)
    planted = Planted.of(left, planted_folder)
    config = build(ReferenceConfig, {"training": {"epochs": 1, "batches_per_epoch": 2}, "encoder": {"width": 8}})
    runs.train(left, config, tmp_path / "reference")

    def align(out, rule, known):
        given = {"training": {"epochs": 1, "batches_per_epoch": 2}, "negatives": {"name": "topk", "exclude": rule}}
        config = build(AlignmentConfig, given | {"negatives": given["negatives"] | {"k": left.n_items}})
        runs.align(left, tmp_path / "reference", config, tmp_path / out, planted=known)
        return checkpoint.read_history(tmp_path / out)[0]

    assert align("train", "train", planted)["planted_rate"] > 0
    assert align("spared", "planted", planted)["planted_rate"] == 0
    with pytest.raises(InputError, match=r"nothing is planted in .*rodpo data plant"):
        align("unknown", "planted", None)


def test_spared_items_join_those_that_a_user_owns():
    owned = OwnedItems.within(np.array([5, 3, 7]), np.array([0, 2]), np.array([2, 3]), 9)
    both = owned.with_planted(torch.tensor([4, 5, 9 + 1]))  # user 0: 4 and 5, which is known; user 1: 1
    items, rows = both.items_of(torch.tensor([0, 1]))
    assert items.tolist() == [[3, 4, 5], [1, 7, 9]] and rows.tolist() == [[1, -1, 0], [-1, 2, 0]]


def test_ids_of_users_stay(plain_folder, tmp_path):
    pd.DataFrame({"user": range(60), "id": [f"u{n}" for n in range(60)]}).to_parquet(plain_folder / "users.parquet")
    assert read_dataset(plant(plain_folder, tmp_path / "planted")).user_ids[7] == "u7"


def test_nothing_is_hidden_beside_an_ordinary_dataset(world, world_folder):
    assert Planted.of(world, world_folder) is None


def test_a_share_that_hides_nothing_is_refused(world_folder, tmp_path):
    with pytest.raises(InputError, match="is none; use a larger one"):
        plant(world_folder, tmp_path / "out", 1e-5)
    assert not (tmp_path / "out").exists()


def test_an_item_that_was_hidden_twice_is_a_false_negative_until_the_second_time(world, tmp_path):
    (tmp_path / "planted").mkdir()
    twice = pd.DataFrame({"user": [0, 0], "item": [7, 7], "place": [3, 1]})
    twice.to_parquet(tmp_path / PLANTED)
    planted = Planted.of(world, tmp_path)
    assert planted.keys.tolist() == [7] and planted.places.tolist() == [3]
    twice.drop(columns="place").to_parquet(tmp_path / PLANTED)
    with pytest.raises(InputError, match="has no column 'place'"):
        Planted.of(world, tmp_path)
    twice[:0].to_parquet(tmp_path / PLANTED)
    assert Planted.of(world, tmp_path) is None


def test_diagnostics_by_hand():
    """Two steps over positions of one user who takes items 0 to 4, item 7 hidden before the third of them."""
    planted = Planted(torch.tensor([7]), torch.tensor([2]), torch.tensor([0, 5]), n_items=9)
    last = torch.full((5,), -1)
    taken = OwnedItems.within(np.arange(5), np.array([0]), np.array([5]), 9)
    diagnostics = SelectionDiagnostics(9, last, taken, planted)
    rows, lengths = torch.tensor([0, 1, 2]), torch.tensor([3])
    batch = PackedBatch(rows, rows, rows, lengths, torch.tensor([0]))
    push = torch.tensor([[0.1], [0.2], [0.3]])
    diagnostics.observe(batch, torch.tensor([[7], [7], [7]]), push)
    first = diagnostics.summary()
    # Positives are items 1, 2, 3: item 7 lies ahead of the first two, and was taken before the third.
    assert first["planted_rate"] == pytest.approx(2 / 3) and first["planted_share"] == pytest.approx(0.5)
    assert first["suppression"] == pytest.approx(0.6) and first["effective_negatives"] == pytest.approx(1)
    assert "repeat_rate" not in first and first["past_rate"] == first["future_share"] == 0
    diagnostics.reset()
    diagnostics.observe(batch, torch.tensor([[7], [3], [1]]), push)
    second = diagnostics.summary()
    assert second["repeat_rate"] == pytest.approx(1 / 3)
    assert second["effective_negatives"] == pytest.approx(math.exp(math.log(3)))
    # Item 3 comes two steps after position 1, whose positive is item 2; item 1 was taken before position 2.
    assert second["future_rate"] == second["past_rate"] == pytest.approx(1 / 3)
    assert second["future_share"] == pytest.approx(1 / 3) and second["past_share"] == pytest.approx(1 / 2)
    diagnostics.reset()
    diagnostics.observe(
        batch, torch.tensor([[1], [2], [3]]), push
    )  # the positives themselves are neither past nor future
    assert diagnostics.summary()["future_rate"] == diagnostics.summary()["past_rate"] == 0
