"""Ranks against a brute-force twin, ties and masks included; metrics against numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rodpo_lite import engine
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.ranking import Ranks, rank_dataset, rank_targets
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender


def brute_force_rank(scores: list[float], target: int, dropped: set[int]) -> int:
    greater = ties = 0
    for item, score in enumerate(scores):
        if item == target or item in dropped:
            continue
        greater += score > scores[target]
        ties += score == scores[target]
    return greater + math.ceil(ties / 2)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_ranks_equal_a_brute_force_twin(data):
    n_items = data.draw(st.integers(2, 9))
    scores = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=n_items, max_size=n_items))
    target = data.draw(st.integers(0, n_items - 1))
    history = data.draw(st.lists(st.integers(0, n_items - 1), max_size=6))
    padded = torch.tensor([history + [n_items] * (7 - len(history))])
    unmasked, masked = rank_targets(torch.tensor([scores]), torch.tensor([target]), padded)
    assert unmasked.item() == brute_force_rank(scores, target, set())
    assert masked.item() == brute_force_rank(scores, target, set(history) - {target})


def test_a_constant_scorer_lands_in_the_middle():
    unmasked, masked = rank_targets(torch.zeros(1, 11), torch.tensor([4]), torch.tensor([[0, 1, 11]]))
    assert (unmasked.item(), masked.item()) == (5, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_an_error(bad):
    with pytest.raises(ValueError, match="not finite"):
        rank_targets(torch.tensor([[0.0, bad, 1.0]]), torch.tensor([0]), torch.tensor([[3]]))


@pytest.mark.parametrize("part", ["valid", "test"])
def test_dataset_ranks_equal_scoring_each_user_alone(world, part, monkeypatch):
    monkeypatch.setitem(engine.BUDGET_MIB, "cpu", 0.05)
    torch.manual_seed(2)
    # In float64 no two items are so close that another order of summation could swap them.
    model = Recommender.for_dataset(EncoderConfig(width=16, max_length=6), world).double()
    found = rank_dataset(model, world, part, max_length=6)
    assert model.training, "ranking leaves the model in the mode it was in"
    start, end = leave_one_out(world).history(part)
    model.eval()
    catalogue = model.items()
    for user in range(0, world.n_users, 9):
        history = world.items[start[user] : end[user]]
        alone = PackedSequences(world.items, start[user : user + 1], end[user : user + 1], 6)
        batch = next(alone.epoch(100))
        scores = (model.encode(batch, catalogue).hidden[-1] @ catalogue.vectors.T).tolist()
        target = int(world.items[end[user]])
        assert found.unmasked[user] == brute_force_rank(scores, target, set())
        assert found.masked[user] == brute_force_rank(scores, target, set(history.tolist()))
        assert found.losses[user] == pytest.approx(math.log(sum(map(math.exp, scores))) - scores[target], rel=1e-9)


def test_ranks_as_a_table():
    table = Ranks(np.array([5, 0]), np.array([3, 0])).table()
    assert table.to_dict("list") == {"user": [0, 1], "rank": [5, 0], "rank_masked": [3, 0]}
    assert (table.dtypes == np.int32).all()


def test_metrics_by_hand():
    found = metrics.from_ranks(np.array([0, 2, 4, 5, 100]))
    assert found["hr@5"] == 3 / 5
    assert found["hr@10"] == 4 / 5
    assert found["ndcg@5"] == pytest.approx((1 + 1 / 2 + 1 / math.log2(6)) / 5)
    assert metrics.ndcg(np.array([0, 2, 4, 5])).tolist() == pytest.approx([1, 1 / 2, 1 / math.log2(6), 0])
    assert found["mrr@20"] == pytest.approx((1 + 1 / 3 + 1 / 5 + 1 / 6) / 5)


def test_metrics_refuse_nonsense():
    with pytest.raises(ValueError, match="no users"):
        metrics.from_ranks(np.array([], int))
    with pytest.raises(ValueError, match="from 0"):
        metrics.from_ranks(np.array([1, -1]))


def test_a_model_with_a_weight_that_is_not_finite_cannot_be_ranked(world):
    model = Recommender.for_dataset(EncoderConfig(width=16, max_length=6), world)
    with torch.no_grad():
        model.items.id.weight[3, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        rank_dataset(model, world, "test", max_length=6)
