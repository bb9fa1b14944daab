"""Negative sampling for a training step: shows a selector its candidates, block by block."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import training_counts
from rodpo_lite.engine import Engine
from rodpo_lite.losses.cross_entropy import Observer
from rodpo_lite.losses.sampled_softmax import Step
from rodpo_lite.model.recommender import score_blocks
from rodpo_lite.sampling.candidates import Candidates, ExactScores, OwnedItems, exclusions, masked, renumbered
from rodpo_lite.sampling.draws import uniform_items
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig


class Scored(NamedTuple):
    """Whose scores a selector looks at: hidden states [P, C], vectors [N, C] of the pool, scores [P] of positives."""

    hidden: Tensor
    vectors: Tensor
    positive: Tensor


class NegativeSampler:
    """Draws negatives [P, n] for packed batches; `state` is what the selector remembers between steps.

    The pool that is selected from is the catalogue, or the sorted item ids that a step gives: then everything that a
    selector sees is numbered within it, and where it holds nothing eligible, uniform items of the catalogue are taken.
    """

    def __init__(
        self, dataset: Dataset, config: NegativesConfig, engine: Engine, generator: torch.Generator,
        planted: Planted | None = None,
    ):  # fmt: skip
        self.config, self.engine, self.generator, self.epoch = config, engine, generator, 0
        self.selector = SELECTORS[config.name]
        self.rows = engine.rows(dataset.n_items)
        self.owned = OwnedItems.in_training(dataset, engine.device)
        if config.exclude == "planted":  # a run checks that there are some
            self.owned = self.owned.with_planted(planted.keys)
        self.popularity = torch.as_tensor(training_counts(dataset), device=engine.device)
        self.state = self.selector.state(len(dataset.items), engine.device)

    @property
    def scorer(self) -> str | None:
        """Whose scores the next draw looks at: policy, reference, start of epoch, or nobody's."""
        if self.selector.scorer != "policy" or self.config.refresh == "step":
            return self.selector.scorer
        return "start of epoch" if self.epoch > 1 else None

    def prepare(self, step: Step, scored: Scored | None, pool: Tensor | None) -> tuple[Tensor, Observer]:
        """Allocate negatives [P, n]; returns them and what fills them in from score blocks over the pool.

        Without a scorer there is one block for all positions, which is empty.
        """
        batch, positives, config = step.batch, step.positives, self.config
        # A pool that is refreshed per epoch starts with a uniform one.
        draw = self.selector.draw if scored or self.selector.scorer is None else SELECTORS["uniform"].draw
        excluded = exclusions(config.exclude, batch.user_of_position, batch.rows, positives, self.owned)
        counts = self.popularity, torch.bincount(positives, minlength=len(self.popularity))
        negatives = torch.empty(len(positives), config.n, dtype=torch.long, device=positives.device)
        elsewhere = None
        if pool is not None:
            catalogue = Candidates(negatives, negatives, excluded, *counts, batch.rows)
            excluded, counts = renumbered(excluded, pool).sort(1).values, [count[pool] for count in counts]
            nothing_left = (excluded < len(pool)).sum(1, keepdim=True) == len(pool)
            if bool(nothing_left.any()):  # else nothing is drawn
                elsewhere = uniform_items(catalogue, config.n, self.generator)
                excluded = excluded.masked_fill(nothing_left, len(pool))

        length = scored and scored.vectors.norm() / len(scored.vectors) ** 0.5

        @torch.no_grad()
        def select(block: slice, scores: Tensor) -> None:
            positive = scored.positive[block] if scored else scores
            rounded = scored is not None and scores.dtype.itemsize < 4  # large scores are computed in fp32
            exact = ExactScores(scored.hidden[block], scored.vectors, length) if rounded else None
            seen = scores, positive, excluded[block], *counts, batch.rows[block]
            candidates = Candidates(*seen, self.epoch, self.state, exact)
            with masked(scores, excluded[block]) if scored else nullcontext():
                drawn = draw(candidates, config, self.generator)
            negatives[block] = drawn if pool is None else pool[drawn]
            if elsewhere is not None:
                negatives[block] = torch.where(nothing_left[block], elsewhere[block], negatives[block])

        return negatives, select

    def draw(self, step: Step, scored: Scored | None, pool: Tensor | None) -> Tensor:
        """Draw negatives [P, n], from scores that are computed here."""
        negatives, select = self.prepare(step, scored, pool)
        if scored is None:
            select(slice(0, len(negatives)), torch.empty(0, device=negatives.device))
            return negatives
        rows = self.rows * len(self.popularity) // len(scored.vectors)
        for block, scores in score_blocks(scored.hidden, scored.vectors, rows, self.engine.dtype):
            select(block, scores)
        return negatives
