"""Baselines against slow twins: dense matrices, one user at a time."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from command_line import assert_refused, rodpo

from companion.evidence.ledger import Ledger
from companion.evidence.record import Record
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import baselines, metrics
from rodpo_lite.evaluation.baselines import BaselineConfig
from rodpo_lite.evaluation.recommend import recommend, recommend_all


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


def slow_twin(world, name, decay):
    """A function of a history that returns the scores of all items."""
    if name == "popularity":
        return lambda history: training_counts(world).astype(float)
    if name == "item_knn":
        similarity = cosines(taken(world))
    else:
        parts = []
        for modality in sorted(world.features):
            has, features = world.present[modality], world.features[modality].astype(float)
            centred = features - features[has].mean(0)
            parts.append(has[:, None] * centred / np.linalg.norm(centred, axis=1, keepdims=True))
        similarity = np.concatenate(parts, 1) @ np.concatenate(parts, 1).T
        np.fill_diagonal(similarity, 0)
    return lambda history: sum(decay**age * similarity[item] for age, item in enumerate(history[::-1]))


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_ranks_equal_those_of_a_slow_twin(world, name, decay):
    twin, found = slow_twin(world, name, decay), baselines.rank(world, BaselineConfig(name=name, decay=decay), "test")
    start, end = leave_one_out(world).history("test")
    for user in range(0, world.n_users, 7):
        target, scores = world.items[end[user]], twin(world.items[start[user] : end[user]])
        greater, ties = (scores > scores[target] + 1e-6).sum(), (abs(scores - scores[target]) <= 1e-6).sum() - 1
        assert found.unmasked[user] == pytest.approx(greater + (ties + 1) // 2, abs=1)


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("name", baselines.NAMES)
def test_a_baseline_recommends_what_its_slow_twin_would(world, name, block, monkeypatch):
    """After the whole history, and nothing of it."""
    monkeypatch.setattr(baselines, "BLOCK", block)
    twin, config = slow_twin(world, name, 0.5), BaselineConfig(name=name, decay=0.5)
    everyone = pd.concat(recommend_all(config, world, 5)).groupby("user", sort=False)["score"].apply(list)
    for user in range(0, world.n_users, 17):
        history = world.items[world.offsets[user] : world.offsets[user + 1]]
        left = np.delete(twin(history), np.unique(history))
        best, one = np.sort(left)[::-1][:5], recommend(config, world, user, 5)
        assert np.allclose(one["score"], best, atol=1e-5) and np.allclose(
            everyone[world.user_ids[user]], best, atol=1e-5
        )
        assert not {world.item_ids[item] for item in history} & set(one["item"])


def test_a_baseline_recommends_by_command(world_folder):
    answer = rodpo("recommend", "--data", world_folder, "--baseline", "popularity", "--user", "3", "--top", 4)
    dataset = read_dataset(world_folder)
    best = recommend(BaselineConfig(name="popularity", decay=1.0), dataset, dataset.user_called("3"), 4)
    assert [line.split()[2] for line in answer.stdout.splitlines()] == best["item"].tolist()
    for options in ([], ["--baseline", "popularity", "--run", "a"]):
        answer = rodpo("recommend", "--data", world_folder, "--user", "3", *options)
        assert_refused(answer, "Give either --run, a finished run folder, or --baseline, the name of a baseline")
    answer = rodpo("recommend", "--data", world_folder, "--user", "3", "--baseline", "best")
    assert_refused(answer, "The baseline 'best' is not valid: allowed are popularity, item_knn, content_knn")


@pytest.mark.parametrize("history", [True, False])
def test_the_decay_is_the_best_on_validation(world, history):
    config, tried = baselines.choose(world, "item_knn", history)
    assert set(tried) == set(baselines.DECAYS) and tried[config.decay] == max(tried.values())
    ranks = baselines.rank(world, config, "valid")
    ranks = ranks.unmasked if history else ranks.masked
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
