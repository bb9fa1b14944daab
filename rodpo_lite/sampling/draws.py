"""Parts of selectors: the best items, draws of items under exclusion, probabilities by rank."""

from dataclasses import replace

import torch
from torch import Tensor

from rodpo_lite.sampling.candidates import Candidates, item_mask, masked, repeats
from rodpo_lite.sampling.top_k import TopK, best, kth_largest, largest


def less_popular(candidates: Candidates, gamma: float) -> Candidates:
    """The same, ranked by s - γ log n, n being the training interactions of an item.

    The best possible scores of a cross-entropy are log p(j | S), so that with γ = 1 the pointwise mutual information of
    item and history ranks: how much more likely than to everybody an item is to this user.
    """
    if gamma == 0:
        return candidates
    penalty = gamma * candidates.popularity.clamp(min=1).to(torch.float32).log()
    exact = candidates.exact and replace(candidates.exact, penalty=penalty)
    return replace(candidates, scores=candidates.scores - penalty.to(candidates.scores.dtype), exact=exact)


def best_items(candidates: Candidates, depth: int) -> TopK:
    """The `depth` best by exact scores; where scores are rounded, a few more than the best of these are looked at."""
    if candidates.exact is None:
        return best(candidates.scores, depth)
    wide = best(candidates.scores, depth + depth // 4 + 4, ordered=False)
    exact = candidates.exact.at(wide.indices).masked_fill(wide.values.isneginf(), -torch.inf)
    values, place = largest(exact, min(depth, candidates.n_items))
    return TopK(values, wide.indices.gather(1, place))


def of_ranks(candidates: Candidates, first: Tensor, size: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Uniform over the eligible items of ranks first to first + size - 1 by exact scores, [R, n]; both [R, 1].

    Nothing is put in order, unless the ranks are few: items are proposed at random, and the first one is taken that is
    of these ranks. For that the scores at both ends are enough, but for items that rounding may have carried across.
    """
    drawn = torch.full((len(candidates.scores) * n,), -1, device=candidates.scores.device)
    if candidates.n_items <= RARE * int(size.median()):
        _propose(candidates, first, first + size, drawn, generator)
    if bool((drawn < 0).any()):  # the ranks are few, or in a few rows
        in_order = best_items(candidates, max(1, int((first + size).max()))).indices
        in_order = in_order.gather(1, first + below(size, n, generator))
        drawn = torch.where(drawn < 0, in_order.flatten(), drawn)
    return drawn.view(-1, n)


RARE = 100  # proposals for one that is of the ranks: from here on it is cheaper to look for all of these
ROUNDS = 50  # each leaves some 13 % of the rows


def _propose(candidates: Candidates, first: Tensor, end: Tensor, drawn: Tensor, generator: torch.Generator) -> None:
    """Fill in items [R n] that were proposed at random and whose rank is `first` or more and below `end`, [R, 1]."""
    scores = candidates.scores
    low, high = (kth_largest(scores, int(one.max())).float()[:, 0] if one.any() else None for one in (end, first))
    noise = rounding = torch.zeros_like(low)
    if candidates.exact is not None:
        noise, rounding = candidates.exact.noise(), low.abs() / 2**8
    # `low` is rounded; against it, a rounded score is off by both roundings, an exact one by that of `low` alone.
    lowest, slack = low - noise - 2.1 * rounding, noise + rounding
    at_once, n = 2 * -(-candidates.n_items // int((end - first).median())), len(drawn) // len(scores)
    pending, everyone = (torch.arange(count, device=scores.device) for count in (len(drawn), len(scores)))
    aside = pending[:0]  # drawn, but so near to an end that the exact rank decides
    for _ in range(ROUNDS):
        rows = pending // n
        proposed = torch.randint(candidates.n_items, (len(rows), at_once), generator=generator, device=scores.device)
        whole = torch.equal(rows, everyone)
        score = (scores.gather(1, proposed) if whole else scores[rows[:, None], proposed]).float()  # [p, M]
        taken = (score >= lowest[rows, None]) & ~score.isneginf()
        place = taken.to(torch.uint8).argmax(1, keepdim=True)  # the first one
        item = proposed.gather(1, place)[:, 0]
        score = score.gather(1, place)[:, 0] if candidates.exact is None else candidates.exact.at(item, rows)
        accepted = taken.any(1) & (score >= (low - slack)[rows])
        doubtful = score <= (low + slack)[rows]
        if high is not None:
            doubtful |= score >= (high - slack)[rows]
        drawn[pending[accepted]] = item[accepted]
        aside = torch.cat([aside, pending[accepted & doubtful]])
        pending = pending[~accepted]
        if not len(pending) and len(aside):
            rows = aside // n
            rank = _rank(candidates, rows, drawn[aside])
            pending, aside = aside[(rank < first[rows, 0]) | (rank >= end[rows, 0])], aside[:0]
        if not len(pending):
            break
    drawn[torch.cat([pending, aside])] = -1


def _rank(candidates: Candidates, rows: Tensor, items: Tensor) -> Tensor:
    """Rank by exact scores of one item for each of these rows, both [r]; of equal scores the smaller id comes first."""
    scores = candidates.scores[rows] if candidates.exact is None else candidates.exact.of(rows)  # [r, N]
    own = scores.gather(1, items[:, None])
    with masked(scores, candidates.excluded[rows]):
        rank, as_high = ((scores > own).sum(1, dtype=torch.int32), (scores >= own).sum(1, dtype=torch.int32))
        tied = (as_high > rank + 1).nonzero()[:, 0]
        before = torch.arange(scores.shape[1], device=items.device) < items[tied, None]
        rank[tied] += ((scores[tied] == own[tied]) & before).sum(1, dtype=torch.int32)
    return rank


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
