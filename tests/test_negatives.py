"""Selectors: what is excluded is never drawn, and what is drawn follows the stated law."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rodpo_lite.negatives import SELECTORS, OwnedItems, Selection, exclusions, mask_excluded, rank_probabilities


def selection_of(scores: torch.Tensor, excluded: list[list[int]], k: int = 1, n: int = 1) -> Selection:
    n_items, width = scores.shape[1], max(map(len, excluded))
    padded = torch.tensor([sorted(row) + [n_items] * (width - len(row)) for row in excluded])
    return Selection(mask_excluded(scores.clone(), padded), padded, k, n)


@st.composite
def selections(draw):
    n_items = draw(st.integers(2, 12))
    rows = draw(st.integers(1, 5))
    excluded = draw(
        st.lists(st.sets(st.integers(0, n_items - 1), min_size=1, max_size=n_items - 1), min_size=rows, max_size=rows)
    )
    scores = torch.randn(rows, n_items, generator=torch.Generator().manual_seed(draw(st.integers(0, 1000))))
    return selection_of(scores, [list(row) for row in excluded], draw(st.integers(1, 15)), draw(st.integers(1, 4)))


@settings(max_examples=150, deadline=None)
@given(selections(), st.sampled_from(sorted(SELECTORS)), st.integers(0, 99))
def test_excluded_items_are_never_selected(selection, name, seed):
    chosen = SELECTORS[name](selection, torch.Generator().manual_seed(seed))
    assert chosen.shape == (len(selection.scores), selection.n)
    assert bool(((chosen >= 0) & (chosen < selection.scores.shape[1])).all())
    assert not bool((chosen[:, :, None] == selection.excluded[:, None, :]).any())


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_drawn_frequencies_follow_the_stated_law_over_ranks(name):
    """Chi-square at level 0.001 on 20,000 draws from one fixed score vector."""
    scores = torch.tensor([0.3, 2.0, -1.0, 0.9, 1.5, 0.0, -0.4, 3.0])
    chosen = SELECTORS[name](selection_of(scores[None], [[3, 7]], k=4, n=20_000), torch.Generator().manual_seed(8))
    by_rank = [1, 4, 0, 5, 6, 2]
    counts = np.bincount(chosen[0].numpy(), minlength=8)[by_rank]
    assert counts.sum() == 20_000
    law = rank_probabilities(name, 4, np.array([6]), 6)[0]
    assert law.sum() == pytest.approx(1)
    assert not counts[law == 0].any()
    if (law > 0).sum() > 1:
        assert stats.chisquare(counts[law > 0], 20_000 * law[law > 0]).pvalue > 0.001


def test_topk_with_one_is_hard_and_with_the_catalogue_is_uniform():
    scores = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    excluded = [[int(i) % 30] for i in range(40)]
    one, everything = selection_of(scores, excluded, k=1), selection_of(scores, excluded, k=30)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(SELECTORS["topk"](one, generator), SELECTORS["hard"](one, generator))
    eligible = np.full(40, 29)
    assert np.array_equal(rank_probabilities("topk", 30, eligible, 30), rank_probabilities("uniform", 1, eligible, 30))
    drawn = SELECTORS["topk"](everything, generator)
    assert len(drawn.unique()) > 15


def test_the_pool_is_that_of_the_current_scores():
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    draws = SELECTORS["topk"](selection_of(scores, [[1]], k=2, n=200), torch.Generator().manual_seed(0))
    assert set(draws[0].tolist()) == {0, 2}


def owned_items():
    # User 0 trains on items 4, 2, 4, 7 (rows 0 to 3), user 1 on items 1, 5 (rows 4 and 5).
    items = np.array([4, 2, 4, 7, 1, 5])
    return OwnedItems.of_training(items, np.array([0, 4]), np.array([4, 6]), 9)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("none", [{2}, {7}, {5}]),
        ("past", [{4, 2}, {4, 2, 7}, {1, 5}]),
        ("train", [{2, 4, 7}, {2, 4, 7}, {1, 5}]),
    ],
)
def test_exclusion_rules(rule, expected):
    users, rows, positives = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 4]), torch.tensor([2, 7, 5])
    excluded = exclusions(rule, users, rows, positives, owned_items())
    assert [{int(i) for i in row if i < 9} for row in excluded] == expected
    for row in excluded.tolist():
        assert row == sorted(row)
        real = [item for item in row if item < 9]
        assert len(real) == len(set(real))


def test_past_allows_a_future_positive_and_train_does_not():
    users, rows, positives = torch.tensor([0]), torch.tensor([0]), torch.tensor([2])
    for rule, allowed in (("past", True), ("train", False)):
        excluded = exclusions(rule, users, rows, positives, owned_items())
        assert (7 not in excluded[0].tolist()) == allowed


def test_no_eligible_item_is_an_error():
    with pytest.raises(ValueError, match="no eligible negative"):
        selection_of(torch.zeros(1, 3), [[0, 1, 2]])
