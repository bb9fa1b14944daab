"""Baselines against slow twins: dense matrices, one user at a time."""

import dataclasses

import numpy as np
import pytest
from command_line import assert_refused, rodpo

from companion.evidence.ledger import Ledger
from companion.evidence.record import Record
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import baselines, metrics
from rodpo_lite.evaluation.baselines import BaselineConfig


def taken(world) -> np.ndarray:
    """Users × items: taken in training."""
    split, found = leave_one_out(world), np.zeros((world.n_users, world.n_items))
    for user in range(world.n_users):
        found[user, world.items[split.start[user] : split.train_end[user]]] = 1
    return found


def cosines(columns: np.ndarray) -> np.ndarray:
    norm = np.maximum(np.linalg.norm(columns, axis=0), 1e-6)
    found = columns.T @ columns / norm[:, None] / norm
    np.fill_diagonal(found, 0)
    return found


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_ranks_equal_those_of_a_slow_twin(world, name, decay):
    if name == "item_knn":
        similarity = cosines(taken(world))
    elif name == "content_knn":
        parts = []
        for modality in sorted(world.features):
            has, features = world.present[modality], world.features[modality].astype(float)
            centred = features - features[has].mean(0)
            parts.append(has[:, None] * centred / np.linalg.norm(centred, axis=1, keepdims=True))
        similarity = np.concatenate(parts, 1) @ np.concatenate(parts, 1).T
        np.fill_diagonal(similarity, 0)
    found = baselines.rank(world, BaselineConfig(name=name, decay=decay), "test")
    start, end = leave_one_out(world).history("test")
    for user in range(0, world.n_users, 7):
        history, target = world.items[start[user] : end[user]], world.items[end[user]]
        if name == "popularity":
            scores = training_counts(world).astype(float)
        else:
            scores = sum(decay**age * similarity[item] for age, item in enumerate(history[::-1]))
        greater, ties = (scores > scores[target] + 1e-6).sum(), (abs(scores - scores[target]) <= 1e-6).sum() - 1
        assert found.unmasked[user] == pytest.approx(greater + (ties + 1) // 2, abs=1)


def test_the_decay_is_the_best_on_validation(world):
    config, tried = baselines.choose(world, "item_knn")
    assert set(tried) == set(baselines.DECAYS) and tried[config.decay] == max(tried.values())
    ranks = baselines.rank(world, config, "valid").unmasked
    assert tried[config.decay] == metrics.from_ranks(ranks)["ndcg@5"]


def test_it_enters_the_ledger_beside_other_records(world_folder, tmp_path):
    for _ in range(2):
        options = ["--data", world_folder, "--name", "popularity", "--record", "--ledger", tmp_path / "ledger"]
        result = rodpo("baseline", *options)
        assert result.returncode == 0, result.stderr
    (row,) = Ledger(tmp_path / "ledger").records.itertuples()
    assert (row.stage, row.strategy) == ("baseline", "popularity")
    own = baselines.rank(read_dataset(world_folder), BaselineConfig(name="popularity", decay=1), "test")
    assert metrics.from_ranks(own.unmasked) == Record.read(tmp_path / "ledger" / row.file).test
    assert len(Ledger(tmp_path / "ledger").of(BaselineConfig(name="popularity", decay=1))) == 1


def test_what_cannot_be_done_is_refused(world, world_folder):
    with pytest.raises(InputError, match="no item features"):
        baselines.choose(dataclasses.replace(world, features={}), "content_knn")
    assert_refused(rodpo("baseline", "--data", world_folder, "--name", "random"), "popularity, item_knn, content_knn")
