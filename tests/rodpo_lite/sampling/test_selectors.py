"""Selectors: what is excluded is never drawn, and what is drawn follows the stated probabilities."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rodpo_lite.sampling.candidates import Candidates, ExactScores, OwnedItems, exclusions, item_mask
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig

WITH_PROBABILITIES = sorted(name for name, selector in SELECTORS.items() if selector.probabilities)


class Block(NamedTuple):
    """What a selector gets: candidates of R positions, and the configuration."""

    candidates: Candidates
    config: NegativesConfig


def block_of(scores: torch.Tensor, excluded: list[list[int]], **values) -> Block:
    """A block of R positions; keys of NegativesConfig and fields of Candidates by name."""
    n_items, width = scores.shape[1], max(map(len, excluded))
    padded = torch.tensor([sorted(row) + [n_items] * (width - len(row)) for row in excluded])
    counts = {key: values.pop(key, torch.arange(1, n_items + 1)) for key in ("popularity", "in_batch")}
    epoch = values.pop("epoch", 1)
    state = {
        name: value for selector in SELECTORS.values() for name, value in selector.state(len(scores), None).items()
    }
    candidates = Candidates(
        scores.masked_fill(item_mask(padded, n_items), -torch.inf),
        values.pop("positive_scores", torch.zeros(len(scores))),
        padded,
        **counts,
        rows=torch.arange(len(scores)),
        epoch=epoch,
        state=state,
    )
    return Block(candidates, NegativesConfig(**values))


def rounded_of(exact: torch.Tensor, excluded: list[list[int]], **values) -> tuple[Block, list[int]]:
    """`block_of` scores that were rounded to bf16, and how many items of a row are looked at again, each time."""
    looked_at = []

    class Watched(ExactScores):
        def at(self, items, *rows):
            looked_at.append(1 if rows else items.shape[1])
            return super().at(items, *rows)

    block = block_of(exact.bfloat16(), excluded, **values)
    candidates = dataclasses.replace(block.candidates, exact=Watched(exact, torch.eye(exact.shape[1]), torch.ones(())))
    return block._replace(candidates=candidates), looked_at


def draw(name: str, block: Block, seed: int = 0) -> torch.Tensor:
    return SELECTORS[name].draw(*block, torch.Generator().manual_seed(seed))


def probabilities(name: str, block: Block) -> torch.Tensor:
    return SELECTORS[name].probabilities(*block)


@st.composite
def selections(draw):
    n_items = draw(st.integers(2, 12))
    rows = draw(st.integers(1, 5))
    excluded = draw(
        st.lists(st.sets(st.integers(0, n_items - 1), min_size=1, max_size=n_items - 1), min_size=rows, max_size=rows)
    )
    scores = torch.randn(rows, n_items, generator=torch.Generator().manual_seed(draw(st.integers(0, 1000))))
    return block_of(
        scores,
        [list(row) for row in excluded],
        k=draw(st.integers(1, 15)),
        n=draw(st.integers(1, 4)),
        skip=draw(st.integers(0, 12)),
        candidates=draw(st.integers(1, 15)),
        in_batch=torch.tensor(draw(st.lists(st.integers(0, 2), min_size=n_items, max_size=n_items))),
        popularity=torch.tensor(draw(st.lists(st.integers(0, 2), min_size=n_items, max_size=n_items))),
    )


@settings(max_examples=300, deadline=None)
@given(selections(), st.sampled_from(sorted(SELECTORS)), st.integers(0, 99))
def test_excluded_items_are_never_selected(block, name, seed):
    for _ in range(2):  # the second time with what the first has left in the state
        chosen = draw(name, block, seed)
        assert chosen.shape == (len(block.candidates.scores), block.config.n)
        assert bool(((chosen >= 0) & (chosen < block.candidates.n_items)).all())
        assert not bool((chosen[:, :, None] == block.candidates.excluded[:, None, :]).any())


@settings(max_examples=200, deadline=None)
@given(selections(), st.sampled_from(WITH_PROBABILITIES))
def test_probabilities_are_a_distribution_over_eligible_items(block, name):
    chance = probabilities(name, block)
    assert chance.shape == block.candidates.scores.shape and bool((chance >= 0).all())
    torch.testing.assert_close(chance.sum(1), torch.ones(len(chance), dtype=torch.double))
    assert float((chance * block.candidates.is_excluded).sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "settings",
    [{}, {"k": 3, "candidates": 4}, {"k": 3, "candidates": 2, "skip": 4}, {"k": 3, "popularity_penalty": 2}],
)
@pytest.mark.parametrize("name", WITH_PROBABILITIES)
def test_drawn_frequencies_follow_the_stated_probabilities(name, settings):
    """Chi-square at level 0.001 on 20,000 draws from one fixed score vector."""
    scores = torch.tensor([0.3, 2.0, -1.0, 0.9, 1.5, 0.0, -0.4, 3.0])
    values = {"k": 4, "candidates": 5, "skip": 1, "temperature": 0.7, **settings}
    # Independent rows, so that the candidates of dns are drawn anew for each.
    block = block_of(scores.expand(20_000, -1), [[3, 7]] * 20_000, **values)
    counts = np.bincount(draw(name, block, 8)[:, 0].numpy(), minlength=8)
    chance = probabilities(name, block_of(scores[None], [[3, 7]], **values))[0].numpy()
    assert chance.sum() == pytest.approx(1) and chance[[3, 7]].sum() == 0
    assert not counts[chance < 1e-12].any()
    if (chance > 1e-12).sum() > 1:
        possible = chance > 1e-12
        assert stats.chisquare(counts[possible], 20_000 * chance[possible]).pvalue > 0.001


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("name, k", [("hard", 1), ("topk", 1), ("static_hard", 1), ("static_topk", 1)])
def test_popular_items_are_less_hard_by_the_penalty(name, k, rounded):
    scores = torch.tensor([[2.0, 1.9, 0.0, 5.0]])
    block = block_of(scores, [[3]], popularity=torch.tensor([8, 2, 0, 1]), popularity_penalty=0.5, k=k)
    if rounded:  # the block says the opposite, and is looked at again
        candidates = dataclasses.replace(block.candidates, exact=ExactScores(scores, torch.eye(4), torch.ones(())))
        candidates = dataclasses.replace(candidates, scores=torch.tensor([[1.0, 0.9, 1.0, -torch.inf]]))
        block = block._replace(candidates=candidates)
    assert draw(name, block).tolist() == [[1]], "2 - ½ log 8 is less than 1.9 - ½ log 2"
    kept = block.config.model_copy(update={"popularity_penalty": 0.0})
    assert draw(name, block._replace(config=kept)).tolist() == [[0]]


def test_candidates_by_rejection_follow_the_same_probabilities():
    """With few candidates among many items, duplicates are redrawn instead of shuffling the catalogue."""
    scores = torch.linspace(3, -3, 40).expand(20_000, -1)
    block = block_of(scores, [[0]] * 20_000, k=2, candidates=6)
    counts = np.bincount(draw("dns", block).flatten().numpy(), minlength=40)
    chance = probabilities("dns", block_of(scores[:1], [[0]], k=2, candidates=6))[0].numpy()
    likely = chance * 20_000 >= 5
    observed, expected = [np.append(x[likely], x[~likely].sum()) for x in (counts, 20_000 * chance)]
    assert stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 0.001


def test_identities_of_the_family():
    scores = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    excluded = [[int(i) % 30] for i in range(40)]

    def chance(name, **values):
        return probabilities(name, block_of(scores, excluded, **values))

    for name, values, twin, its in [
        ("topk", {"k": 1}, "hard", {}),
        ("topk", {"k": 30}, "uniform", {}),
        ("rank_window", {"skip": 0, "k": 7}, "topk", {"k": 7}),
        ("topk_softmax", {"k": 1}, "hard", {}),
        ("dns", {"k": 7, "candidates": 30}, "topk", {"k": 7}),
        ("dns", {"k": 1, "candidates": 1}, "uniform", {}),
        ("dns", {"k": 5, "candidates": 5}, "uniform", {}),
    ]:
        torch.testing.assert_close(chance(name, **values), chance(twin, **its))
    torch.testing.assert_close(chance("topk_softmax", k=7, temperature=1e9), chance("topk", k=7))
    torch.testing.assert_close(chance("topk_softmax", k=7, temperature=1e-6), chance("hard"))
    single = block_of(scores, excluded, k=1)
    assert torch.equal(draw("topk", single), draw("hard", single))
    everything = block_of(scores, excluded, k=5, candidates=30, n=50)
    best = everything.candidates.scores.topk(5).indices
    assert all(set(row.tolist()) <= set(pool.tolist()) for row, pool in zip(draw("dns", everything), best))


def test_static_selectors_are_the_same_functions_of_the_reference():
    for name in ("hard", "topk"):
        static = SELECTORS[f"static_{name}"]
        assert static.draw is SELECTORS[name].draw and static.scorer == "reference"
        assert SELECTORS[name].scorer == "policy"


def test_the_rank_window_moves_up_where_the_items_end():
    block = block_of(torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]]), [[0]], k=2, skip=10, n=200)
    assert set(draw("rank_window", block)[0].tolist()) == {3, 4}
    block = block_of(torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]]), [[0]], k=2, skip=1, n=200)
    assert set(draw("rank_window", block)[0].tolist()) == {2, 3}


def test_weighted_draws_fall_back_where_all_weight_is_excluded():
    only = torch.tensor([0, 9, 0, 0, 0])
    block = block_of(torch.zeros(1, 5), [[1]], n=200, in_batch=only, popularity=only)
    for name in ("in_batch", "popularity"):
        assert set(draw(name, block)[0].tolist()) == {0, 2, 3, 4}


def test_small_weights_count_as_large_ones():
    weights = torch.tensor([0.3, 0.1, 0.0, 0.0])
    block = block_of(torch.zeros(1, 4), [[3]], n=8000, in_batch=weights)
    drawn = draw("in_batch", block)
    assert (drawn == 0).double().mean().item() == pytest.approx(0.75, abs=0.02) and drawn.max() == 1
    torch.testing.assert_close(probabilities("in_batch", block)[0].tolist(), [0.75, 0.25, 0.0, 0.0])
    last = block_of(torch.zeros(1, 4), [[0]], n=200, in_batch=torch.tensor([0, 0, 0, 5]))
    assert set(draw("in_batch", last)[0].tolist()) == {3}


def test_nearly_excluded_weight_is_drawn_exactly():
    weights = torch.tensor([10**9, 1, 3])
    block = block_of(torch.zeros(1, 3), [[0]], n=8000, in_batch=weights)
    share = (draw("in_batch", block) == 2).double().mean().item()
    assert share == pytest.approx(0.75, abs=0.02)


class LargestTensor(TorchDispatchMode):
    """Within, `size` is the number of entries of the largest tensor that was computed."""

    size = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        self.size = max(self.size, *(part.numel() for part in tree_leaves(result) if isinstance(part, torch.Tensor)), 0)
        return result


def test_a_weighted_draw_looks_at_the_catalogue_of_few_rows_only():
    """In two of 500 rows nearly all weight is excluded; the others need no mask over the catalogue."""
    rows, n_items = 500, 20_000
    weights = torch.ones(n_items)
    weights[0] = 1e12
    excluded = [[0]] * 2 + [[1]] * (rows - 2)
    candidates = dataclasses.replace(block_of(torch.zeros(rows, n_items), excluded).candidates, popularity=weights)
    with LargestTensor() as largest:
        drawn = draw("popularity", Block(candidates, NegativesConfig(n=3)))
    assert drawn[:2].min() > 0 and not drawn[2:].any()
    assert n_items < largest.size < 5 * n_items


def test_ahns_takes_the_candidate_closest_to_its_target():
    """σ(s+) = 0.5 and a = b = 0.5 give the target 0.5 / 1 = 0.5, so the item with score 0 is taken."""
    scores = torch.tensor([[3.0, 0.1, -2.0, 1.0]])
    block = block_of(scores, [[0]], candidates=4, ahns_alpha=0.5, ahns_beta=0.5)
    assert draw("ahns", block).item() == 1
    unsure = block_of(scores, [[0]], candidates=4, ahns_alpha=0.1, ahns_beta=0.3)
    assert draw("ahns", unsure).item() == 1, "target 0.3 / 0.6 = 0.5, and not 0.3 · 0.6 = 0.18"
    sure = block_of(scores, [[0]], candidates=4, ahns_alpha=0.5, ahns_beta=0.2, positive_scores=torch.tensor([9.0]))
    assert draw("ahns", sure).item() == 2, "target 0.2 / 1.5 = 0.13: σ(-2) = 0.12"


def test_srns_prefers_the_uncertain_candidate_once_it_is_warm():
    scores = torch.full((1, 60), -1.0)
    block = block_of(scores, [[0]], epoch=50)
    memory = torch.arange(1, 9)
    block.candidates.state["srns_items"][0] = memory
    steady = torch.sigmoid(torch.tensor(-1.0))
    block.candidates.state["srns_values"][0] = steady
    block.candidates.state["srns_values"][0, 3] = torch.tensor([0.1, 0.9, 0.1, 0.9, 0.5])
    assert draw("srns", block).item() == 4
    kept = block.candidates.state["srns_items"][0]
    assert len(kept) == 8 and bool((kept > 0).all()), "the excluded item never joins"
    cold = block_of(scores + 2 * torch.eye(60)[[2]], [[0]], epoch=1)
    cold.candidates.state["srns_items"][0], cold.candidates.state["srns_values"][0] = memory, steady
    cold.candidates.state["srns_values"][0, 3] = torch.tensor([0.1, 0.9, 0.1, 0.9, 0.5])
    assert draw("srns", cold).item() == 2, "at first the score decides"


def test_srns_remembers_what_it_saw():
    """A new position remembers 8 eligible items, σ(s - s+) of each in the last of 5 places, and no more."""
    scores = torch.linspace(-1, 1, 80)[None]
    block = block_of(scores, [[0]], positive_scores=torch.tensor([0.5]))
    draw("srns", block)
    items, values = block.candidates.state["srns_items"][0], block.candidates.state["srns_values"][0]
    assert bool((items > 0).all())
    torch.testing.assert_close(values[:, -1], torch.sigmoid(scores[0, items] - 0.5))
    assert bool(values[:, :3].isnan().all())
    draw("srns", block)
    assert bool(block.candidates.state["srns_values"][0, :, -1].isfinite().all())


def test_srns_chooses_among_what_it_remembers_and_keeps_high_scores():
    """Item 0 is like others; of two kinds of candidates, 10 apart at τ = 10, the better is kept e times as often."""
    scores = torch.zeros(1, 60)
    scores[0, :9] = torch.arange(9.0, 0, -1)
    block = block_of(scores, [[59]])
    block.candidates.state["srns_items"][0] = torch.arange(8)
    assert draw("srns", block).item() == 0
    halves = torch.zeros(2000, 200)
    halves[:, 100:] = 10.0
    many = block_of(halves, [[0]] * 2000)
    draw("srns", many)
    share = (many.candidates.state["srns_items"] >= 100).double().mean().item()
    assert 0.65 < share < np.e / (1 + np.e), "somewhat below the ratio, since nothing is kept twice"


@pytest.mark.parametrize(("factor", "expected"), [(0.98, 4), (1.02, 6)])
def test_srns_leaves_values_that_it_does_not_have_yet_out_of_the_variance(factor, expected):
    """Item 4 has three values, the last of them new; item 6 has five, whose deviation is `factor` of that of the three.

    All have the same new value, and the others no deviation: the larger of the two is drawn.
    """
    block, now = block_of(torch.full((1, 60), -1.0), [[0]], epoch=50), 1 / (1 + np.e)
    block.candidates.state["srns_items"][0] = torch.arange(1, 9)
    values = block.candidates.state["srns_values"][0]
    values[:] = now
    values[1] = torch.nan
    values[3] = torch.tensor([0.5, torch.nan, torch.nan, 0.6, 0.9])
    step = factor * np.std([0.6, 0.9, now]) * (5 / 4) ** 0.5
    values[5] = torch.tensor([0.5, now - step, now + step, now - step, now + step])
    assert draw("srns", block).item() == expected


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_a_selector_draws_from_its_generator_alone(name):
    """The same generator gives the same items, and the global random numbers are left alone."""
    scores = torch.randn(30, 80, generator=torch.Generator().manual_seed(0))
    excluded = [[row, row + 40] for row in range(30)]
    for values in ({"k": 20, "candidates": 8}, {"k": 20, "candidates": 70}):
        before, draws = torch.random.get_rng_state(), []
        for _ in range(2):
            block = block_of(scores, excluded, n=3, **values)
            draws.append([draw(name, block, 5), draw(name, block, 6)])
            assert torch.equal(torch.random.get_rng_state(), before)
            torch.random.set_rng_state(before)
        assert all(map(torch.equal, *draws))


@pytest.mark.parametrize("name", ["hard", "topk", "topk_softmax", "rank_window"])
def test_rounded_scores_rank_the_pool_by_exact_ones(name):
    """Where exact scores are to be had beside rounded ones, probabilities are those of the exact ones."""
    exact = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    excluded, values = [[row, 200] for row in range(50)], {"k": 10, "skip": 3}
    rounded, looked_at = rounded_of(exact, excluded, **values)
    chance = probabilities(name, rounded)
    torch.testing.assert_close(chance, probabilities(name, block_of(exact, excluded, **values)))
    depth = {"hard": 1, "rank_window": 13}.get(name, 10)
    assert depth <= max(looked_at) <= 2 * depth + 10, "only a few more than the pool are looked at again"
    everything = Block(rounded.candidates, NegativesConfig(k=500))
    assert probabilities("topk", everything)[0].count_nonzero() == 298


@pytest.mark.parametrize("name", ["topk", "rank_window"])
@pytest.mark.parametrize("k", [2, 40])  # in order, and by proposals
def test_rounded_scores_draw_from_what_is_best_by_exact_ones(name, k):
    """All of it, in 2,000 draws, and nothing else."""
    exact = torch.randn(20, 900, generator=torch.Generator().manual_seed(0))
    excluded, values = [[row, 200] for row in range(20)], {"k": k, "skip": 3, "n": 2000}
    rounded, _ = rounded_of(exact, excluded, **values)
    wanted = probabilities(name, block_of(exact, excluded, **values)) > 0
    assert (rounded.candidates.scores.sort(1).values.diff(1)[:, -43:] == 0).any(), "some of them are equal, if rounded"
    for block in (rounded, block_of(exact, excluded, **values)):
        drawn = torch.zeros_like(wanted).scatter_(1, draw(name, block), True)
        assert torch.equal(drawn, wanted)


@pytest.mark.parametrize("k", [1, 3, 4, 6, 7])
def test_of_equal_scores_as_many_are_drawn_as_there_is_room_for(k):
    scores = torch.tensor([2.0, 1.0, 1.0, 5.0, 1.0, 1.0, 0.5]).expand(50, -1)
    block = block_of(scores, [[4]] * 50, k=k, n=500)
    drawn = draw("topk", block)
    assert {len(set(row)) for row in drawn.tolist()} == {min(k, 6)}
    assert set(drawn.flatten().tolist()) == set([3, 0, 1, 2, 5, 6][:k]), "of equal ones those of smaller ids"


def test_a_window_of_equal_scores_is_as_wide_as_it_should_be():
    block = block_of(torch.ones(30, 12), [[0]] * 30, k=3, skip=2, n=400)
    assert {len(set(row)) for row in draw("rank_window", block).tolist()} == {3}


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("name, k", [("topk", 40), ("topk", 500), ("rank_window", 200)])
def test_products_of_rounded_operands_draw_from_what_is_best_by_exact_ones(name, k, penalty):
    """Hidden states and vectors are rounded, and so are products and penalties; bounds are near 0 where K = N / 2."""
    generator = torch.Generator().manual_seed(0)
    hidden, vectors = torch.randn(12, 64, generator=generator), torch.randn(1000, 64, generator=generator)
    excluded = [[row, 200] for row in range(12)]
    values = {"k": k, "skip": 30, "n": 8000, "popularity_penalty": penalty if name == "topk" else 0.0}
    exact = block_of(hidden @ vectors.T, excluded, **values)
    block = block_of(hidden.bfloat16() @ vectors.bfloat16().T, excluded, **values)
    candidates = dataclasses.replace(
        block.candidates, exact=ExactScores(hidden, vectors, vectors.norm() / len(vectors) ** 0.5)
    )
    wanted = probabilities(name, exact) > 0
    drawn = torch.zeros_like(wanted).scatter_(1, draw(name, block._replace(candidates=candidates)), True)
    rounded = torch.zeros_like(wanted).scatter_(1, draw(name, block), True)
    missed, by_rounding = int((drawn != wanted).sum()), int((rounded != wanted).sum())
    assert missed <= 2 and missed < by_rounding, "of some thousand items; rounding alone moves more"


def test_proposals_are_uniform_over_the_best():
    """Chi-square at level 0.001: 30 of 300 items, by rounded scores of which many are equal at the border."""
    exact = torch.randn(1, 300, generator=torch.Generator().manual_seed(3)).mul(0.02).add(1).expand(2000, -1)
    for block in (rounded_of(exact, [[7]] * 2000, k=30, n=5)[0], block_of(exact, [[7]] * 2000, k=30, n=5)):
        counts = np.bincount(draw("topk", block).flatten().numpy(), minlength=300)
        assert set(np.flatnonzero(counts)) == set(exact[0].scatter(0, torch.tensor([7]), -9).topk(30).indices.tolist())
        assert stats.chisquare(counts[counts > 0]).pvalue > 0.001


def test_the_pool_is_that_of_the_given_scores():
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    drawn = draw("topk", block_of(scores, [[1]], k=2, n=200))
    assert set(drawn[0].tolist()) == {0, 2}


def owned_items():
    # User 0 trains on items 4, 2, 4, 7 (rows 0 to 3), user 1 on items 1, 5 (rows 4 and 5).
    items = np.array([4, 2, 4, 7, 1, 5])
    return OwnedItems.within(items, np.array([0, 4]), np.array([4, 6]), 9)


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
