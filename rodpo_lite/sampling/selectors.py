"""Selectors: which item is rejected.

A selector draws item ids [R, n] from `Candidates` (a block of R positions) with a `torch.Generator`. It never sees the
optimiser, and never returns an excluded item. After it come, where they can be stated, the probabilities of each item
in one draw, [R, N]; the n draws are independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import scipy
import torch
from pydantic import Field
from torch import Tensor

from rodpo_lite.sampling.candidates import Candidates
from rodpo_lite.sampling.draws import (
    below,
    best_items,
    by_rank,
    distinct_items,
    less_popular,
    of_ranks,
    ranks,
    uniform_items,
    weighted_items,
)
from rodpo_lite.settings import Settings, one_of


class NegativesConfig(Settings):
    """How the rejected item is selected."""

    name: Annotated[str, one_of(lambda: ("none", *SELECTORS))] = Field(
        "topk", description="selector; `none` is the continued cross-entropy control"
    )
    k: int = Field(20, ge=1, description="pool size K")
    n: int = Field(1, ge=1, description="negatives per position, drawn independently")
    exclude: Literal["none", "past", "train", "planted"] = Field(
        "train",
        description="the user's own items that are never selected: none, those so far, all training items, or these "
        "and what was planted, which nobody knows in use",
    )
    refresh: Literal["step", "epoch"] = Field(
        "step",
        description="whose scores rank the pool: the policy's now, or at the start of the epoch (first: uniform)",
    )
    pool: Literal["catalogue", "sample"] = Field(
        "catalogue", description="what is selected from: every item, or the sample of training.loss = sampled"
    )
    popularity_penalty: float = Field(
        0.0, ge=0, description="γ of hard and topk, which rank by score - γ log(training interactions)"
    )
    temperature: float = Field(1.0, gt=0, description="τ of topk_softmax")
    skip: int = Field(5, ge=0, description="m of rank_window: so many of the best are never selected")
    candidates: int = Field(200, ge=1, description="uniform candidates M of dns and ahns")
    ahns_alpha: float = Field(0.5, gt=0, description="a of ahns")
    ahns_beta: float = Field(0.2, gt=0, description="b of ahns")


def uniform(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """Uniform over the eligible items."""
    return uniform_items(candidates, config.n, generator)


def popularity(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """In proportion to (training interactions)^0.75. Source: Mikolov et al. 2013, for words."""
    return weighted_items(candidates, candidates.popularity**0.75, config.n, generator)


def in_batch(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """A random positive of the same batch; uniform where the batch holds nothing eligible."""
    return weighted_items(candidates, candidates.in_batch, config.n, generator)


def _weighted_probabilities(candidates: Candidates, weights: Tensor) -> Tensor:
    """In proportion to weights [N], [R, N]; uniform where no weight is left."""
    mass = weights.double() * ~candidates.is_excluded
    total = mass.sum(1, keepdim=True)
    return torch.where(total > 0, mass / total, (~candidates.is_excluded).double() / candidates.eligible)


def hard(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """The eligible item with the highest score: `topk` with K = 1."""
    return best_items(less_popular(candidates, config.popularity_penalty), 1).indices.expand(-1, config.n)


def _hard_probabilities(candidates: Candidates, config: NegativesConfig) -> Tensor:
    ranked = less_popular(candidates, config.popularity_penalty)
    return by_rank(ranked, torch.ones_like(candidates.eligible, dtype=torch.double))


def topk(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """Uniform over the K eligible items with the highest scores: RoDPO as we read Huang et al. 2026.

    Whether the paper draws uniformly, and whether policy or reference ranks the pool, is not known to us.
    """
    size = candidates.eligible.clamp(max=config.k)
    ranked = less_popular(candidates, config.popularity_penalty)
    return of_ranks(ranked, torch.zeros_like(size), size, config.n, generator)


def _topk_probabilities(candidates: Candidates, config: NegativesConfig) -> Tensor:
    size = candidates.eligible.clamp(max=config.k)
    ranked = less_popular(candidates, config.popularity_penalty)
    return by_rank(ranked, (ranks(candidates, config.k) < size).double() / size)


def topk_softmax(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """Among the K best, in proportion to exp(score / τ)."""
    pool = best_items(candidates, config.k)
    probabilities = (pool.values / config.temperature).softmax(1)
    return pool.indices.gather(1, torch.multinomial(probabilities, config.n, replacement=True, generator=generator))


def _topk_softmax_probabilities(candidates: Candidates, config: NegativesConfig) -> Tensor:
    pool = best_items(candidates, config.k)
    return by_rank(candidates, (pool.values.double() / config.temperature).softmax(1))


def rank_window(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """Uniform over ranks m to m + K - 1, or over the last K where there are fewer."""
    return of_ranks(candidates, *_window(candidates, config), config.n, generator)


def _rank_window_probabilities(candidates: Candidates, config: NegativesConfig) -> Tensor:
    (first, size), rank = _window(candidates, config), ranks(candidates, config.skip + config.k)
    return by_rank(candidates, ((rank >= first) & (rank < first + size)).double() / size)


def _window(candidates: Candidates, config: NegativesConfig) -> tuple[Tensor, Tensor]:
    """First rank and size of the rank window, both [R, 1]: moved up where the eligible items end before it does."""
    size = candidates.eligible.clamp(max=config.k)
    return (candidates.eligible - size).clamp(max=config.skip), size


def dns(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """Uniform over the K best of M uniform candidates: DNS(K, M) of Shi et al. 2023, after Zhang et al. 2013."""
    items, scores = distinct_items(candidates, config.candidates, generator)
    pool = scores.topk(min(config.k, scores.shape[1]), dim=1).indices
    size = torch.isfinite(scores).sum(1, keepdim=True).clamp(max=config.k)
    return items.gather(1, pool.gather(1, below(size, config.n, generator)))


def _dns_probabilities(candidates: Candidates, config: NegativesConfig) -> Tensor:
    """Rank r is drawn if it is a candidate and fewer than K of the r better items are."""
    rank = ranks(candidates, candidates.n_items).cpu().numpy()
    # They depend on a position by its number of eligible items alone, of which there are few different ones.
    eligible, row = np.unique(candidates.eligible.cpu().numpy(), return_inverse=True)
    eligible = eligible[:, None]
    drawn = eligible.clip(max=config.candidates)
    best = drawn.clip(max=config.k)
    others = scipy.stats.hypergeom(eligible - 1, rank.clip(max=eligible - 1), drawn - 1)
    few_better = np.nan_to_num(others.cdf(best - 1), nan=1.0)  # NaN where there are no others
    probabilities = (rank < eligible) * (drawn / eligible) * few_better / best
    return by_rank(candidates, torch.as_tensor(probabilities[row.ravel()], device=candidates.scores.device))


def ahns(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """Adaptive hardness: of M uniform candidates the one closest to b(σ(s+) + a)^-1 in σ(s); lower for a sure positive.

    σ makes scores positive, as the rule assumes; a is `ahns_alpha`, b is `ahns_beta`, the exponent p + 1 with p = -2.
    Source: Lai et al. 2024.
    """
    items, scores = distinct_items(candidates, config.candidates, generator)
    target = config.ahns_beta / (candidates.positive_scores.sigmoid() + config.ahns_alpha)
    distance = (scores.sigmoid() - target[:, None]).abs().masked_fill(scores.isneginf(), torch.inf)
    return items.gather(1, distance.argmin(1, keepdim=True)).expand(-1, config.n)


def srns(candidates: Candidates, config: NegativesConfig, generator: torch.Generator) -> Tensor:
    """High score and high variance: argmax of p + α min(1, t / T₀) std(p), p = σ(s - s+), over remembered candidates.

    A position remembers 8 candidates and their last 5 values of p. At every visit the argmax is taken over these, 56
    uniform ones join, and the next 8 are drawn from all 64 in proportion to exp(s / τ). α = 5, T₀ = 50 epochs, τ = 10.
    Source: Ding et al. 2020, with the settings reported there.
    """
    items, values = (candidates.state[f"srns_{name}"][candidates.rows] for name in ("items", "values"))
    new = items[:, :1] < 0
    items = torch.where(new, uniform_items(candidates, SRNS_MEMORY, generator), items)
    values = torch.cat([values[:, :, 1:], _certainty(candidates, items)[:, :, None]], 2)
    weight = SRNS_ALPHA * min(1.0, candidates.epoch / SRNS_WARMUP)
    spread = (values - values.nanmean(-1, keepdim=True)).square().nanmean(-1).sqrt()  # NaN: not yet remembered
    chosen = items.gather(1, (values[:, :, -1] + weight * spread).argmax(1, keepdim=True))

    joining = uniform_items(candidates, SRNS_JOINING, generator)
    joining_values = torch.full((*joining.shape, values.shape[2]), torch.nan, device=values.device)
    joining_values[:, :, -1] = _certainty(candidates, joining)
    items, values = torch.cat([items, joining], 1), torch.cat([values, joining_values], 1)
    probabilities = (candidates.scores_at(items) / SRNS_TEMPERATURE).softmax(1)
    kept = torch.multinomial(probabilities, SRNS_MEMORY, generator=generator)
    candidates.state["srns_items"][candidates.rows] = items.gather(1, kept)
    candidates.state["srns_values"][candidates.rows] = values.take_along_dim(kept[:, :, None], 1)
    return chosen.expand(-1, config.n)


SRNS_MEMORY, SRNS_JOINING, SRNS_ALPHA, SRNS_WARMUP, SRNS_TEMPERATURE = 8, 56, 5.0, 50, 10.0


def _srns_state(rows: int, device: torch.device) -> dict[str, Tensor]:
    return {
        "srns_items": torch.full((rows, SRNS_MEMORY), -1, device=device),
        "srns_values": torch.full((rows, SRNS_MEMORY, 5), torch.nan, device=device),
    }


def _certainty(candidates: Candidates, items: Tensor) -> Tensor:
    return torch.sigmoid(candidates.scores_at(items) - candidates.positive_scores[:, None])


@dataclass(frozen=True)
class Selector:
    """draw: the function. probabilities: that of each item in one draw, None where it cannot be stated. scorer: whose
    scores it looks at: the policy's (current or, with `refresh = epoch`, those at the start of the epoch), the frozen
    reference's, or nobody's. uses: the keys of `negatives` that it reads. state: what it remembers, for I rows."""

    draw: Callable[[Candidates, NegativesConfig, torch.Generator], Tensor]
    probabilities: Callable[[Candidates, NegativesConfig], Tensor] | None = None
    scorer: Literal["policy", "reference"] | None = "policy"
    uses: tuple[str, ...] = ()
    state: Callable[[int, torch.device], dict[str, Tensor]] = lambda rows, device: {}
    note: str = ""

    @property
    def summary(self) -> str:
        return self.note or (self.draw.__doc__ or "").strip().splitlines()[0]


PENALTY = ("popularity_penalty",)
SELECTORS: dict[str, Selector] = {
    "uniform": Selector(uniform, lambda c, _: _weighted_probabilities(c, torch.zeros_like(c.popularity)), None),
    "popularity": Selector(popularity, lambda c, _: _weighted_probabilities(c, c.popularity**0.75), None),
    "in_batch": Selector(in_batch, lambda c, _: _weighted_probabilities(c, c.in_batch), None),
    "hard": Selector(hard, _hard_probabilities, uses=PENALTY),
    "static_hard": Selector(
        hard,
        _hard_probabilities,
        "reference",
        PENALTY,
        note="The eligible item that the frozen reference scores highest.",
    ),
    "topk": Selector(topk, _topk_probabilities, uses=("k", *PENALTY)),
    "static_topk": Selector(
        topk, _topk_probabilities, "reference", ("k", *PENALTY), note="Uniform over the K best of the frozen reference."
    ),
    "topk_softmax": Selector(topk_softmax, _topk_softmax_probabilities, uses=("k", "temperature")),
    "rank_window": Selector(rank_window, _rank_window_probabilities, uses=("skip", "k")),
    "dns": Selector(dns, _dns_probabilities, uses=("k", "candidates")),
    "srns": Selector(srns, state=_srns_state),
    "ahns": Selector(ahns, uses=("candidates", "ahns_alpha", "ahns_beta")),
}
