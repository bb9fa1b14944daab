"""Parts of selectors: the best items, draws of items under exclusion, probabilities by rank."""

from dataclasses import replace

import torch
from torch import Tensor

from rodpo_lite.sampling.candidates import Candidates, item_mask, repeats
from rodpo_lite.sampling.top_k import TopK, at_ranks, best, largest


def less_popular(candidates: Candidates, gamma: float) -> Candidates:
    """The same, ranked by s - γ log n, n being the training interactions of an item.

    The best possible scores of a cross-entropy are log p(j | S), so that with γ = 1 the pointwise mutual information of
    item and history ranks: how much more likely than to everybody an item is to this user.
    """
    if gamma == 0:
        return candidates
    penalty, rescore = gamma * candidates.popularity.clamp(min=1).to(torch.float32).log(), candidates.rescore
    exact = rescore and (lambda items: rescore(items) - penalty[items])
    return replace(candidates, scores=candidates.scores - penalty.to(candidates.scores.dtype), rescore=exact)


def best_items(candidates: Candidates, depth: int) -> TopK:
    """The `depth` best by exact scores; where scores are rounded, a few more than the best of these are looked at."""
    if candidates.rescore is None:
        return best(candidates.scores, depth)
    wide = best(candidates.scores, depth + depth // 4 + 4, ordered=False)
    exact = candidates.rescore(wide.indices).masked_fill(wide.values.isneginf(), -torch.inf)
    values, place = largest(exact, min(depth, candidates.n_items))
    return TopK(values, wide.indices.gather(1, place))


def items_at(candidates: Candidates, ranks: Tensor) -> Tensor:
    """The eligible items of these ranks [R, n], 0 for the best, by exact scores.

    Where scores are rounded, those a little above and below a rank are looked at again.
    """
    if candidates.rescore is None:
        return at_ranks(candidates.scores, ranks)
    depth = int(ranks.max()) + 1
    margin = depth // 4 + 4
    pool = best(candidates.scores, depth + margin)  # as many as there are
    width = min(2 * margin + 1, pool.indices.shape[1])
    first = (ranks - margin).clamp(0, pool.indices.shape[1] - width)  # [R, n]
    window = (first[:, :, None] + torch.arange(width, device=ranks.device)).flatten(1)  # [R, n W]
    items = pool.indices.gather(1, window)
    exact = candidates.rescore(items).masked_fill(pool.values.gather(1, window).isneginf(), -torch.inf)
    order = exact.unflatten(1, (-1, width)).argsort(2, descending=True)  # [R, n, W]
    place = order.gather(2, (ranks - first)[:, :, None])
    return items.unflatten(1, (-1, width)).gather(2, place)[:, :, 0]


def ranks(candidates: Candidates, depth: int) -> Tensor:
    """The ranks 0 to depth - 1, or as many as there are items."""
    return torch.arange(min(depth, candidates.n_items), device=candidates.scores.device)


def by_rank(candidates: Candidates, probabilities: Tensor) -> Tensor:
    """Give each item the probability of its rank: [R, depth] to [R, N]."""
    order = best_items(candidates, probabilities.shape[1]).indices
    return torch.zeros_like(candidates.scores, dtype=torch.double).scatter_(1, order, probabilities)


def below(size: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Uniform integers [R, n] in [0, size), size [R, 1]."""
    draw = torch.rand((len(size), n), generator=generator, device=size.device, dtype=torch.float64)
    return (draw * size).long()


def nth_eligible(candidates: Candidates, number: Tensor) -> Tensor:
    """The eligible items with these numbers, counted from 0 in the order of item ids; number [R, n]."""
    # The r-th eligible item is r plus the number of excluded items at or below it (excluded is sorted).
    column = torch.arange(candidates.excluded.shape[1], device=number.device)
    gaps = torch.where(candidates.excluded < candidates.n_items, candidates.excluded - column, candidates.n_items)
    return number + torch.searchsorted(gaps, number, right=True)


def uniform_items(candidates: Candidates, n: int, generator: torch.Generator) -> Tensor:
    """Uniform over the eligible items, [R, n]."""
    return nth_eligible(candidates, below(candidates.eligible, n, generator))


def weighted_items(candidates: Candidates, weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draws [R, n] in proportion to item weights [N], excluded items left out; uniform where no weight is left."""
    shape = (len(candidates.excluded), n)
    cumulative = weights.double().cumsum(0)
    drawn, pending = uniform_items(candidates, n, generator), torch.ones(shape, dtype=torch.bool, device=weights.device)
    for _ in range(20 if bool(cumulative[-1] > 0) else 0):
        point = torch.rand(shape, generator=generator, device=weights.device, dtype=torch.float64) * cumulative[-1]
        item = torch.searchsorted(cumulative, point, right=True).clamp(max=candidates.n_items - 1)
        accepted = pending & ~(item[:, :, None] == candidates.excluded[:, None, :]).any(2)
        drawn, pending = torch.where(accepted, item, drawn), pending & ~accepted
        if not bool(pending.any()):
            return drawn
    rows = pending.any(1).nonzero()[:, 0]  # where nearly all weight is excluded, rejection is too slow
    mass = weights.double() * ~item_mask(candidates.excluded[rows], candidates.n_items)
    possible = mass.sum(1) > 0
    rows, mass = rows[possible], mass[possible]
    if len(rows):
        exact = torch.multinomial(mass, n, replacement=True, generator=generator)
        drawn[rows] = torch.where(pending[rows], exact, drawn[rows])
    return drawn


def distinct_items(candidates: Candidates, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Different uniform eligible items and their scores, both [R, M]; where fewer are left, the rest scores -inf."""
    eligible = candidates.eligible
    if 2 * count > int(eligible.min()):
        key = torch.rand(candidates.scores.shape, generator=generator, device=eligible.device)
        items = key.masked_fill_(candidates.is_excluded, -1.0).topk(min(count, candidates.n_items), dim=1).indices
    else:
        number = below(eligible, count, generator)
        while bool((again := _repeated(number)).any()):  # what is drawn twice is drawn anew
            number = torch.where(again, below(eligible, count, generator), number)
        items = nth_eligible(candidates, number)
    return items, candidates.scores_at(items)


def _repeated(number: Tensor) -> Tensor:
    """Which values of a row are in the row before them, too."""
    ordered = number.sort(dim=1, stable=True)
    return torch.zeros_like(number, dtype=torch.bool).scatter_(1, ordered.indices, repeats(ordered.values))
