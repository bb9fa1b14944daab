"""The lab: what `book/_static/lab` computes in the browser, by `rodpo_lite`, and the small world of its race."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import Dataset, read_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle, WorldSizes, synthesise
from rodpo_lite.engine import stream_seed
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.ranking import encode_histories
from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs
from rodpo_lite.model.recommender import Recommender, eval_mode
from rodpo_lite.sampling.candidates import Candidates
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig
from rodpo_lite.settings import build
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.trainer import Trainer

SIZES = WorldSizes(users=300, items=400, latent=6, phases=1, slate=60, mean_length=12.0, relevant_share=0.2)
EPOCHS = (6, 16, 48)  # of one training: the references, from one that has just learnt to one that memorises
SHOWN_SEED = 7  # of the choice of what is spared: the same for every run
RACERS = ("none", "hard", "topk", "uniform")


@dataclass(frozen=True)
class Settings:
    """Pool size K, β, weight of the anchor, size of a step; and of a race the share of what users would like, and the
    log does not show, that may be rejected, and the positions of a step."""

    k: int
    beta: float
    lambda_ce: float
    rate: float
    hidden: float = 1.0
    batch: int = 100


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


def ten_steps(shop: pd.DataFrame, names: Iterable[str], settings: Settings, seed: int, steps: int = 10) -> pd.DataFrame:
    """What selectors make of a shop, a row for each and item: score after so many steps, hits, push in points of score.

    shop: a row for each item with columns item, score, and taken, true for the positive.
    """
    reference, positive = torch.tensor(shop["score"].to_numpy(float)), int(shop["taken"].to_numpy().argmax())
    eligible, parts = torch.tensor(~shop["taken"].to_numpy()), []
    for name in names:
        scores, hits, pushed, luck = reference, np.zeros(len(shop), int), np.zeros(len(shop)), mulberry32(seed)
        for _ in range(steps):
            scores, negative, push = step(scores, reference, positive, eligible, name, settings, next(luck))
            hits[negative] += 1
            pushed[negative] += settings.rate * push
        parts.append(shop.assign(selector=name, after=scores.numpy(), hits=hits, pushed=pushed))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Reference:
    """Item vectors [N, D], states of positions [P, D] and of the users' whole histories [U, D], rounded to 8 bits."""

    epochs: int
    vectors: Tensor
    states: Tensor
    last: Tensor

    def payload(self) -> dict[str, Any]:
        return {"epochs": self.epochs, **{name: _packed(getattr(self, name)) for name in ("vectors", "states", "last")}}


@dataclass(frozen=True)
class World:
    """User and positive of each position [P]; what users would like, and what is in the log [U, N]; the references."""

    user: np.ndarray
    positive: np.ndarray
    liked: np.ndarray
    owned: np.ndarray
    references: list[Reference]

    @classmethod
    def train(cls, folder: Path, seed: int, sizes: WorldSizes = SIZES, epochs: tuple[int, ...] = EPOCHS) -> "World":
        """Make a world in `folder`, train one model on its log, and keep it at these epochs."""
        dataset = read_dataset(synthesise(folder / "world", seed, sizes))
        liked = Oracle.of(dataset, folder / "world").relevance[:, 0]
        split, owned = leave_one_out(dataset), np.zeros_like(liked)
        for user, (start, end) in enumerate(zip(split.start, split.train_end)):
            owned[user, dataset.items[start:end]] = True
        batch = next(PackedSequences.for_training(dataset, _LENGTH).epoch(len(dataset.items)))
        user, positive = batch.user_of_position.numpy(), dataset.items[batch.rows.numpy() + 1]
        references = []
        for epoch, model in _checkpoints(dataset, folder / "reference", seed, epochs):
            with eval_mode(model), torch.no_grad():
                encoding = model(batch)
            last = torch.empty(dataset.n_users, encoding.hidden.shape[1])
            for users, hidden, _ in encode_histories(model, dataset, split.start, split.train_end, _LENGTH):
                last[users] = hidden
            tables = (encoding.vectors, encoding.hidden, last)
            references.append(Reference(epoch, *(_rounded(table) for table in tables)))
        return cls(user, positive, liked, owned, references)

    def eligible(self, hidden: float) -> np.ndarray:
        """What may be rejected, [U, N]: nothing in the log, and of the rest of what is liked only the share hidden."""
        chance = np.fromiter(mulberry32(SHOWN_SEED), float, self.liked.size).reshape(self.liked.shape)
        return ~self.owned & ~(self.liked & (chance >= hidden))

    def payload(self) -> dict[str, Any]:
        """All of it as JSON: tables of bytes in base64, truth values eight to a byte."""
        (users, items), width = self.liked.shape, self.references[0].vectors.shape[1]
        numbers = {name: _text(getattr(self, name).astype("<u2")) for name in ("user", "positive")}
        truths = {name: _text(np.packbits(getattr(self, name))) for name in ("liked", "owned")}
        references = [reference.payload() for reference in self.references]
        return {"users": users, "items": items, "width": width, **numbers, **truths, "references": references}


class Race:
    """Alignment of the item vectors from one reference, as alignment.js does it; `wrong` and `right` push add up."""

    def __init__(self, world: World, reference: Reference, name: str, settings: Settings, seed: int):
        self.world, self.reference, self.name, self.settings = world, reference, name, settings
        self.vectors, self.luck = reference.vectors.clone(), mulberry32(seed)
        self.eligible = torch.from_numpy(world.eligible(settings.hidden))
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
    world: World, reference: int, settings: Settings, seed: int, steps: int = 200, every: int = 10
) -> pd.DataFrame:
    """Every `every` steps of each of RACERS: change of NDCG@5 from the reference in %, wrong and right push so far."""
    rows = []
    for name in RACERS:
        runner = Race(world, world.references[reference], name, settings, seed)
        start = runner.ndcg()
        for number in range(steps + 1):
            if number % every == 0:
                rows.append((name, number, 100 * (runner.ndcg() / start - 1), runner.wrong, runner.right))
            runner.step()
    return pd.DataFrame(rows, columns=["selector", "step", "NDCG@5 change %", "wrong push", "right push"])


_LENGTH = 50  # most recent items that the encoder sees


def _checkpoints(dataset: Dataset, folder: Path, seed: int, epochs: Iterable[int]) -> Iterator[tuple[int, Recommender]]:
    """One training at a constant rate; yields the model as it is after each of these epochs."""
    encoder = {"width": 16, "dropout": 0.1, "max_length": _LENGTH}
    training = {"epochs": max(epochs), "patience": max(epochs), "schedule": "constant", "batches_per_epoch": 16}
    training |= {"precision": "fp32", "device": "cpu"}
    config = build(ReferenceConfig, {"seed": seed, "encoder": encoder, "training": training})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "weights"))
        model = Recommender.for_dataset(config.encoder, dataset)
    objective = ReferenceObjective(model, dataset, config)
    trainer = Trainer(objective, dataset, config, folder, torch.Generator().manual_seed(seed))
    with trainer.random:
        trainer.start(resume=False)
        while not trainer.finished:
            for batch in trainer.batches():
                trainer.step(batch)
            trainer.end_epoch()
            if trainer.epoch - 1 in epochs:
                yield trainer.epoch - 1, model


def _unit(table: Tensor) -> float:
    return float(table.abs().max()) / 127


def _rounded(table: Tensor) -> Tensor:
    """A table as whole multiples of a 127th of its largest value, in double precision."""
    table = table.detach().double()
    return (table / _unit(table)).round() * _unit(table)


def _packed(table: Tensor) -> dict[str, Any]:
    unit = _unit(table)
    return {"unit": unit, "values": _text((table / unit).round().numpy().astype(np.int8))}


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
