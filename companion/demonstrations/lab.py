"""The lab: what `book/_static/lab` computes in the browser, by `rodpo_lite`, and what of it is on record."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from companion.demonstrations.lab_world import World
from companion.evidence.comparison import RANKED, changes, mechanism
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.findings import negatives, sweeps
from companion.findings.changes import labelled
from companion.findings.explorer import BASES, row_on
from rodpo_lite.evaluation import metrics
from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs
from rodpo_lite.sampling.candidates import Candidates
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig

RACERS = ("hard", "topk", "uniform", "none")
LOOKS = range(0, 201, 10)  # steps of a race after which its lists are looked at
LAST = LOOKS[-5:]  # where a race ends: the mean of the last fifty steps
LUCKS = 3  # races with other luck, over which an end is the mean
SHOWN_SEED = 7  # of the choice of what is spared: the same for every run


@dataclass(frozen=True)
class Settings:
    """Pool size K, β, weight of the anchor, size of a step; and of a race the share of what users would like, and the
    log does not show, that may be rejected, and the positions of a step."""

    k: int
    beta: float
    lambda_ce: float
    rate: float
    hidden: float = 1.0
    batch: int = 80


def mulberry32(seed: int) -> Iterator[float]:
    """Yield random numbers in [0, 1), the same as mathematics.js does (T. Ettinger, public domain)."""
    state, bits32 = seed & 0xFFFFFFFF, 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & bits32
        bits = (state ^ (state >> 15)) * (state | 1) & bits32
        bits ^= (bits + ((bits ^ (bits >> 7)) * (bits | 61) & bits32)) & bits32
        yield (bits ^ (bits >> 14)) / 2**32


def law(name: str, scores: Tensor, eligible: Tensor, k: int) -> Tensor:
    """The probability of each item in one draw of a selector, [R, N]; scores and eligible [R, N]."""
    n_items = scores.shape[1]
    excluded = torch.where(eligible, n_items, torch.arange(n_items)).sort(1).values
    nobody = torch.zeros(len(scores), dtype=scores.dtype)
    counts, rows = torch.zeros(n_items), torch.arange(len(scores))
    candidates = Candidates(scores.masked_fill(~eligible, -torch.inf), nobody, excluded, counts, counts, rows)
    return SELECTORS[name].probabilities(candidates, NegativesConfig(name=name, k=k))


def draw(name: str, scores: Tensor, eligible: Tensor, k: int, u: Tensor) -> Tensor:
    """The items [R] at which the law, added up from the best score down, passes u [R]; `uniform` adds up by item id."""
    items = torch.arange(scores.shape[1]).expand_as(scores)
    order = items if name == "uniform" else scores.argsort(dim=1, descending=True, stable=True)
    passed = law(name, scores, eligible, k).gather(1, order).cumsum(1)
    return order.gather(1, torch.searchsorted(passed, u[:, None], right=True))[:, 0]


def loss_and_push(
    scores: Tensor, reference: Tensor, positives: Tensor, negatives: Tensor | None, settings: Settings
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """-log σ(βh) - λ log π(i+) and the suppression w, both [R]; scores and reference [R, N].

    Without negatives the anchor is left, and nothing is pushed.
    """
    loss = settings.lambda_ce * F.cross_entropy(scores, positives, reduction="none")
    if negatives is None:
        return loss, torch.zeros_like(loss)
    chosen = [side.gather(1, torch.stack([positives, negatives], 1)) for side in (scores, reference)]
    pairs = Pairs(*(part for side in chosen for part in (side[:, 0], side[:, 1:])))
    config = LossConfig(beta=settings.beta)
    preference, suppression = LOSSES["dpo"].function(pairs, config, {}), LOSSES["dpo"].suppression(pairs, config)
    return loss + preference[:, 0], suppression[:, 0].detach()


def step(
    scores: Tensor, reference: Tensor, positive: int, eligible: Tensor, name: str, settings: Settings, u: float
) -> tuple[Tensor, int, float]:  # fmt: skip
    """One step on the scores [N] of one position: the scores after it, what was rejected, and how hard."""
    policy = scores[None].clone().requires_grad_()
    negatives = draw(name, policy.detach(), eligible[None], settings.k, torch.tensor([u], dtype=scores.dtype))
    loss, push = loss_and_push(policy, reference[None], torch.tensor([positive]), negatives, settings)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    return scores - settings.rate * gradient[0], int(negatives[0]), float(push[0])


def ndcg(scores: np.ndarray, wanted: np.ndarray, dropped: np.ndarray) -> float:
    """NDCG@5 of all items [N] that one user wants, in a list without the dropped ones; NaN if nothing is wanted."""
    ranks = np.where(dropped, -np.inf, scores).argsort()[::-1].argsort()[wanted & ~dropped]
    if not len(ranks):
        return float("nan")
    return float(metrics.ndcg(ranks).sum() / metrics.ndcg(np.arange(len(ranks))).sum())


def tables_of(shop: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Scores and what may be rejected, both [N], of a shop: a row for each item, `taken` true for the positive."""
    return torch.from_numpy(shop["score"].to_numpy(float)), torch.from_numpy(~shop["taken"].to_numpy())


def steps_of(shop: pd.DataFrame, names: Iterable[str], settings: Settings, seed: int, steps: int) -> pd.DataFrame:
    """What selectors make of a shop, a row for each and item: score after so many steps, hits, push in points of score.

    shop: as `tables_of` takes it.
    """
    (reference, eligible), parts = tables_of(shop), []
    positive = int(shop["taken"].to_numpy().argmax())
    for name in names:
        scores, hits, pushed, luck = reference, np.zeros(len(shop), int), np.zeros(len(shop)), mulberry32(seed)
        for _ in range(steps):
            scores, negative, push = step(scores, reference, positive, eligible, name, settings, next(luck))
            hits[negative] += 1
            pushed[negative] += settings.rate * push
        parts.append(shop.assign(selector=name, after=scores.numpy(), hits=hits, pushed=pushed))
    return pd.concat(parts, ignore_index=True)


def eligible_items(world: World, hidden: float) -> np.ndarray:
    """What may be rejected, [U, N]: nothing in the log, and of the rest of what is liked only the share hidden."""
    chance = np.fromiter(mulberry32(SHOWN_SEED), float, world.liked.size).reshape(world.liked.shape)
    return ~world.owned & ~(world.liked & (chance >= hidden))


class Race:
    """Alignment of the item vectors from one reference, as alignment.js does it; `wrong` and `right` push add up."""

    def __init__(self, world: World, reference: int, name: str, settings: Settings, seed: int):
        self.world, self.name, self.settings = world, name, settings
        self.reference, self.luck = world.references[reference], mulberry32(seed)
        self.vectors = self.reference.vectors.clone()
        self.eligible = torch.from_numpy(eligible_items(world, settings.hidden))
        self.wrong = self.right = 0.0

    def step(self) -> None:
        size = self.settings.batch
        places, u = np.fromiter(self.luck, float, 2 * size).reshape(size, 2).T
        positions = (places * len(self.world.user)).astype(int)
        users, positives = self.world.user[positions], torch.from_numpy(self.world.positive[positions]).long()
        states, vectors = self.reference.states[positions], self.vectors.clone().requires_grad_()
        scores, before, negatives = states @ vectors.T, states @ self.reference.vectors.T, None
        if self.name != "none":
            negatives = draw(self.name, scores.detach(), self.eligible[users], self.settings.k, torch.tensor(u))
        loss, push = loss_and_push(scores, before, positives, negatives, self.settings)
        (gradient,) = torch.autograd.grad(loss.mean(), vectors)
        self.vectors = self.vectors - self.settings.rate * gradient
        wanted = self.world.liked[users, negatives] if negatives is not None else np.zeros(size, bool)
        self.wrong += float(push[wanted].sum()) / size
        self.right += float(push[~wanted].sum()) / size

    def ndcg(self) -> float:
        """Mean NDCG@5 of what users would like and do not have, over the users who would like something."""
        lists = (self.reference.last @ self.vectors.T).numpy()
        return float(np.nanmean([ndcg(*user) for user in zip(lists, self.world.liked, self.world.owned)]))


def race(
    world: World,
    reference: int,
    settings: Settings,
    names: Iterable[str] = RACERS,
    looks: Sequence[int] = LOOKS,
    seed: int = 1,
) -> pd.DataFrame:
    """At these steps of each selector: change of NDCG@5 from the reference in %, wrong and right push so far."""
    rows = []
    for name in names:
        run = Race(world, reference, name, settings, seed)
        start = run.ndcg()
        for number in range(max(looks) + 1):
            if number in looks:
                rows.append((name, number, 100 * (run.ndcg() / start - 1), run.wrong, run.right))
            run.step()
    return pd.DataFrame(rows, columns=["selector", "step", "NDCG@5 change %", "wrong push", "right push"])


USUAL = Settings(k=50, beta=4.0, lambda_ce=0.3, rate=2.0)
SCENARIOS = {  # which reference, settings, and the selectors that the page quotes
    "usual": (1, USUAL, ("hard", "topk", "uniform")),
    "nothing hidden": (1, replace(USUAL, hidden=0.0), ("hard", "topk")),
    "small pool": (1, replace(USUAL, k=5), ("topk",)),
    "gentle": (1, replace(USUAL, beta=1.0), ("hard",)),
    "memorising": (2, USUAL, ("hard", "topk")),
}


def ends(world: World, reference: int, settings: Settings, names: Iterable[str], lucks: int = LUCKS) -> pd.DataFrame:
    """How races end, a row for each selector: its columns in `race`, means over the last looks and over the lucks."""
    runs = [race(world, reference, settings, names, LAST, seed) for seed in range(1, lucks + 1)]
    return pd.concat(runs).groupby("selector", sort=False).mean().drop(columns="step")


def on_record(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """What the ledger says of the same questions: changes of test NDCG@5, all items ranked, and what hides in them.

    harmed: `hard` against its reference on every base; gained: `topk` against it; apart: `uniform` over `topk`; gaps,
    trend: `topk` over `hard` as more is hidden; sizes, strengths: `topk` by K, `hard` by β, both against `topk` as
    chosen; short: `topk` from a reference that had not converged.
    """
    pairs = {"harmed": [(row_on(base, "hard"), base) for base in BASES]}
    pairs |= {"gained": [(row_on(base, "topk"), base) for base in BASES], "apart": [("uniform", "topk")]}
    tables = {name: labelled(grid, changes(grid, some, ledger, protocols=[RANKED])) for name, some in pairs.items()}
    planted = next(iter(grid.planted), None)
    gaps = negatives.gaps(grid, ledger, planted).query("before == 'hard'") if planted else pd.DataFrame()
    hiding = negatives.as_more_is_hidden(gaps, mechanism(grid, ledger)) if planted else {"gaps": []}
    swept = sweeps.against_topk(grid, ledger)
    of = swept["of"].map({label: name for name, label in sweeps.SETTINGS.items()})
    sizes = swept[(of == "k") & (swept["selector"] == "topk")]
    strengths = swept[(of == "beta") & (swept["selector"] == "hard")]
    short = sweeps.from_a_short_reference(grid, ledger)
    return tables | hiding | {"sizes": sizes, "strengths": strengths, "short": short}
