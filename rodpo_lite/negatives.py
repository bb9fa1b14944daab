"""Negative selection: which item is pushed down as the rejected one.

A selector draws item ids [R, n] from a `Selection` (a block of R positions) and a `torch.Generator`. It never sees the
optimiser, and never returns an excluded item. Its law, where it can be stated, is the probability of each item in one
draw, [R, N]; the n draws are independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from rodpo_lite.eligibility import Selection
from rodpo_lite.pool import Pool, best, largest


def uniform(selection: Selection, generator: torch.Generator) -> Tensor:
    """Uniform over the eligible items."""
    return _nth_eligible(selection, _below(selection.eligible, selection.config.n, generator))


def popularity(selection: Selection, generator: torch.Generator) -> Tensor:
    """In proportion to (training interactions)^0.75. Source: Mikolov et al. 2013, for words."""
    return _weighted(selection, selection.popularity**0.75, generator)


def in_batch(selection: Selection, generator: torch.Generator) -> Tensor:
    """A random positive of the same batch; uniform where the batch holds nothing eligible."""
    return _weighted(selection, selection.in_batch, generator)


def hard(selection: Selection, generator: torch.Generator) -> Tensor:
    """The eligible item with the highest score: `topk` with K = 1."""
    return _pool(selection, 1).indices.expand(-1, selection.config.n)


def topk(selection: Selection, generator: torch.Generator) -> Tensor:
    """Uniform over the K eligible items with the highest scores: RoDPO as we read Huang et al. 2026.

    Whether the paper draws uniformly, and whether policy or reference ranks the pool, is not known to us.
    """
    pool = _pool(selection, selection.config.k).indices
    size = selection.eligible.clamp(max=selection.config.k)
    return pool.gather(1, _below(size, selection.config.n, generator))


def topk_softmax(selection: Selection, generator: torch.Generator) -> Tensor:
    """Among the K best, in proportion to exp(score / τ)."""
    pool = _pool(selection, selection.config.k)
    chance = (pool.values / selection.config.temperature).softmax(1)
    return pool.indices.gather(1, _categorical(chance, selection.config.n, generator))


def rank_window(selection: Selection, generator: torch.Generator) -> Tensor:
    """Uniform over ranks m to m + K - 1, or over the last K where there are fewer."""
    first, size = _window(selection)
    pool = _pool(selection, selection.config.skip + selection.config.k).indices
    return pool.gather(1, first + _below(size, selection.config.n, generator))


def dns(selection: Selection, generator: torch.Generator) -> Tensor:
    """Uniform over the K best of M uniform candidates: DNS(K, M) of Shi et al. 2023, after Zhang et al. 2013."""
    items, scores = _candidates(selection, generator)
    pool = scores.topk(min(selection.config.k, scores.shape[1]), dim=1).indices
    size = torch.isfinite(scores).sum(1, keepdim=True).clamp(max=selection.config.k)
    return items.gather(1, pool.gather(1, _below(size, selection.config.n, generator)))


def ahns(selection: Selection, generator: torch.Generator) -> Tensor:
    """Adaptive hardness: of M uniform candidates the one closest to b(σ(s+) + a)^-1 in σ(s); lower for a sure positive.

    σ makes scores positive, as the rule assumes; a is `ahns_alpha`, b is `ahns_beta`, the exponent p + 1 with p = -2.
    Source: Lai et al. 2024.
    """
    items, scores = _candidates(selection, generator)
    target = selection.config.ahns_beta / (selection.positive_scores.sigmoid() + selection.config.ahns_alpha)
    distance = (scores.sigmoid() - target[:, None]).abs().masked_fill(scores.isneginf(), torch.inf)
    return items.gather(1, distance.argmin(1, keepdim=True)).expand(-1, selection.config.n)


def srns(selection: Selection, generator: torch.Generator) -> Tensor:
    """High score and high variance: argmax of p + α min(1, t / T₀) std(p), p = σ(s - s+), over remembered candidates.

    A position remembers 8 candidates and their last 5 values of p. At every visit the argmax is taken over these, 56
    uniform ones join, and the next 8 are drawn from all 64 in proportion to exp(s / τ). α = 5, T₀ = 50 epochs, τ = 10.
    Source: Ding et al. 2020, with the settings reported there.
    """
    items, values = (selection.state[f"srns_{name}"][selection.rows] for name in ("items", "values"))
    new = items[:, :1] < 0
    first = _nth_eligible(selection, _below(selection.eligible, SRNS_MEMORY, generator))
    items = torch.where(new, first, items)
    values = torch.cat([values[:, :, 1:], _certainty(selection, items)[:, :, None]], 2)
    weight = SRNS_ALPHA * min(1.0, selection.epoch / SRNS_WARMUP)
    chosen = items.gather(1, (values[:, :, -1] + weight * _spread(values)).argmax(1, keepdim=True))

    joining = _nth_eligible(selection, _below(selection.eligible, SRNS_JOINING, generator))
    joining_values = torch.full((*joining.shape, values.shape[2]), torch.nan, device=values.device)
    joining_values[:, :, -1] = _certainty(selection, joining)
    items, values = torch.cat([items, joining], 1), torch.cat([values, joining_values], 1)
    chance = (selection.scores_at(items) / SRNS_TEMPERATURE).softmax(1)
    kept = torch.multinomial(chance, SRNS_MEMORY, generator=generator)
    selection.state["srns_items"][selection.rows] = items.gather(1, kept)
    selection.state["srns_values"][selection.rows] = values[torch.arange(len(kept), device=kept.device)[:, None], kept]
    return chosen.expand(-1, selection.config.n)


SRNS_MEMORY, SRNS_JOINING, SRNS_ALPHA, SRNS_WARMUP, SRNS_TEMPERATURE = 8, 56, 5.0, 50, 10.0


def _srns_state(rows: int, device: torch.device) -> dict[str, Tensor]:
    return {
        "srns_items": torch.full((rows, SRNS_MEMORY), -1, device=device),
        "srns_values": torch.full((rows, SRNS_MEMORY, 5), torch.nan, device=device),
    }


def _certainty(selection: Selection, items: Tensor) -> Tensor:
    return torch.sigmoid(selection.scores_at(items) - selection.positive_scores[:, None])


def _spread(values: Tensor) -> Tensor:
    """Standard deviation over the last axis, NaN left out; 0 where there is one value."""
    centred = values - values.nanmean(-1, keepdim=True)
    return centred.square().nanmean(-1).sqrt()


def _uniform_law(selection: Selection) -> Tensor:
    return (~selection.is_excluded).double() / selection.eligible


def _weighted_law(selection: Selection, weights: Tensor) -> Tensor:
    mass = weights.double() * ~selection.is_excluded
    total = mass.sum(1, keepdim=True)
    return torch.where(total > 0, mass / total, _uniform_law(selection))


def _rank_law(selection: Selection, by_rank: Tensor) -> Tensor:
    """Give each item the probability of its rank; by_rank [R, depth]."""
    order = _pool(selection, by_rank.shape[1]).indices
    return torch.zeros(selection.scores.shape, dtype=torch.double, device=order.device).scatter_(1, order, by_rank)


def _ranks(selection: Selection, depth: int) -> Tensor:
    return torch.arange(min(depth, selection.n_items), device=selection.scores.device)


def _hard_law(selection: Selection) -> Tensor:
    return _rank_law(selection, torch.ones_like(selection.eligible, dtype=torch.double))


def _topk_law(selection: Selection) -> Tensor:
    size = selection.eligible.clamp(max=selection.config.k)
    return _rank_law(selection, (_ranks(selection, selection.config.k) < size).double() / size)


def _topk_softmax_law(selection: Selection) -> Tensor:
    pool = _pool(selection, selection.config.k)
    return _rank_law(selection, (pool.values.double() / selection.config.temperature).softmax(1))


def _rank_window_law(selection: Selection) -> Tensor:
    (first, size), rank = _window(selection), _ranks(selection, selection.config.skip + selection.config.k)
    return _rank_law(selection, ((rank >= first) & (rank < first + size)).double() / size)


def _dns_law(selection: Selection) -> Tensor:
    """Rank r is drawn if it is a candidate and fewer than K of the r better items are."""
    rank = _ranks(selection, selection.n_items).cpu().numpy()
    # The law depends on a position by its number of eligible items alone, of which there are few different ones.
    eligible, row = np.unique(selection.eligible.cpu().numpy(), return_inverse=True)
    eligible = eligible[:, None]
    drawn = eligible.clip(max=selection.config.candidates)
    best = drawn.clip(max=selection.config.k)
    others = scipy.stats.hypergeom(eligible - 1, rank.clip(max=eligible - 1), drawn - 1)
    few_better = np.nan_to_num(others.cdf(best - 1), nan=1.0)  # NaN where there are no others
    law = (rank < eligible) * (drawn / eligible) * few_better / best
    return _rank_law(selection, torch.as_tensor(law[row.ravel()], device=selection.scores.device))


@dataclass(frozen=True)
class Selector:
    """An entry of the registry.

    draw: the function. law: the probability of each item in one draw, None where it cannot be stated. scorer: whose
    scores it looks at: the policy's (current or, with `refresh = epoch`, those at the start of the epoch), the frozen
    reference's, or nobody's. uses: the keys of `negatives` that it reads. state: what it remembers, for I rows.
    """

    draw: Callable[[Selection, torch.Generator], Tensor]
    law: Callable[[Selection], Tensor] | None = None
    scorer: Literal["policy", "reference"] | None = "policy"
    uses: tuple[str, ...] = ()
    state: Callable[[int, torch.device], dict[str, Tensor]] = lambda rows, device: {}
    note: str = ""

    @property
    def summary(self) -> str:
        """First line of the function's documentation."""
        return self.note or (self.draw.__doc__ or "").strip().splitlines()[0]


SELECTORS: dict[str, Selector] = {
    "uniform": Selector(uniform, _uniform_law, None),
    "popularity": Selector(popularity, lambda s: _weighted_law(s, s.popularity**0.75), None),
    "in_batch": Selector(in_batch, lambda s: _weighted_law(s, s.in_batch), None),
    "hard": Selector(hard, _hard_law),
    "static_hard": Selector(
        hard, _hard_law, "reference", note="The eligible item that the frozen reference scores highest."
    ),
    "topk": Selector(topk, _topk_law, uses=("k",)),
    "static_topk": Selector(
        topk, _topk_law, "reference", ("k",), note="Uniform over the K best of the frozen reference."
    ),
    "topk_softmax": Selector(topk_softmax, _topk_softmax_law, uses=("k", "temperature")),
    "rank_window": Selector(rank_window, _rank_window_law, uses=("skip", "k")),
    "dns": Selector(dns, _dns_law, uses=("k", "candidates")),
    "srns": Selector(srns, state=_srns_state),
    "ahns": Selector(ahns, uses=("candidates", "ahns_alpha", "ahns_beta")),
}


def _pool(selection: Selection, depth: int) -> Pool:
    """The `depth` best by exact scores; where scores are rounded, a few more than the best of these are looked at."""
    if selection.rescore is None:
        return best(selection.scores, depth)
    wide = best(selection.scores, depth + depth // 4 + 4, ordered=False)
    exact = selection.rescore(wide.indices).masked_fill(wide.values.isneginf(), -torch.inf)
    values, place = largest(exact, min(depth, selection.n_items))
    return Pool(values, wide.indices.gather(1, place))


def _window(selection: Selection) -> tuple[Tensor, Tensor]:
    """First rank and size of the rank window, both [R, 1]: moved up where the eligible items end before it does."""
    size = selection.eligible.clamp(max=selection.config.k)
    return (selection.eligible - size).clamp(max=selection.config.skip), size


def _below(size: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Uniform integers [R, n] in [0, size), size [R, 1]."""
    draw = torch.rand((len(size), n), generator=generator, device=size.device, dtype=torch.float64)
    return (draw * size).long()


def _nth_eligible(selection: Selection, number: Tensor) -> Tensor:
    """The eligible items with these numbers, counted from 0 in the order of item ids; number [R, n]."""
    # The r-th eligible item is r plus the number of excluded items at or below it (excluded is sorted).
    column = torch.arange(selection.excluded.shape[1], device=number.device)
    gaps = torch.where(selection.excluded < selection.n_items, selection.excluded - column, selection.n_items)
    return number + torch.searchsorted(gaps, number, right=True)


def _weighted(selection: Selection, weights: Tensor, generator: torch.Generator) -> Tensor:
    """Draws [R, n] in proportion to item weights [N], excluded items left out; uniform where no weight is left."""
    n, shape = selection.config.n, (len(selection.excluded), selection.config.n)
    cumulative = weights.double().cumsum(0)
    drawn, pending = uniform(selection, generator), torch.ones(shape, dtype=torch.bool, device=weights.device)
    for _ in range(20 if bool(cumulative[-1] > 0) else 0):
        point = torch.rand(shape, generator=generator, device=weights.device, dtype=torch.float64) * cumulative[-1]
        item = torch.searchsorted(cumulative, point, right=True).clamp(max=selection.n_items - 1)
        accepted = pending & ~(item[:, :, None] == selection.excluded[:, None, :]).any(2)
        drawn, pending = torch.where(accepted, item, drawn), pending & ~accepted
        if not bool(pending.any()):
            return drawn
    rows = pending.any(1).nonzero()[:, 0]  # where nearly all weight is excluded, rejection is too slow
    mass = weights.double() * ~selection.is_excluded[rows]
    possible = mass.sum(1) > 0
    rows, mass = rows[possible], mass[possible]
    if len(rows):
        exact = torch.multinomial(mass, n, replacement=True, generator=generator)
        drawn[rows] = torch.where(pending[rows], exact, drawn[rows])
    return drawn


def _candidates(selection: Selection, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Different uniform eligible items and their scores, both [R, M]; where fewer are left, the rest scores -inf."""
    wanted, eligible = selection.config.candidates, selection.eligible
    if 2 * wanted > int(eligible.min()):
        key = torch.rand(selection.scores.shape, generator=generator, device=eligible.device)
        items = key.masked_fill_(selection.is_excluded, -1.0).topk(min(wanted, selection.n_items), dim=1).indices
    else:
        number = _below(eligible, wanted, generator)
        while bool((again := _repeated(number)).any()):  # what is drawn twice is drawn anew
            number = torch.where(again, _below(eligible, wanted, generator), number)
        items = _nth_eligible(selection, number)
    return items, selection.scores_at(items)


def _repeated(number: Tensor) -> Tensor:
    """Where a row holds a value that stands before it in the row already."""
    ordered = number.sort(dim=1, stable=True)
    same = torch.zeros_like(number, dtype=torch.bool)
    same[:, 1:] = ordered.values[:, 1:] == ordered.values[:, :-1]
    return torch.zeros_like(same).scatter_(1, ordered.indices, same)


def _categorical(chance: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(chance, n, replacement=True, generator=generator)
