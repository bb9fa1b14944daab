"""Stage 2: a preference loss against selected negatives, from and against a frozen reference, with an anchor."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.diagnostics import SelectionDiagnostics
from rodpo_lite.eligibility import OwnedItems, Selection, exclusions, masked
from rodpo_lite.engine import Engine
from rodpo_lite.losses import LOSSES, Pairs
from rodpo_lite.model.cross_entropy import Observer, full_cross_entropy
from rodpo_lite.model.scoring import Recommender, pair_scores, score_blocks
from rodpo_lite.negatives import SELECTORS
from rodpo_lite.training import Objective, with_router_losses


class FrozenStates:
    """Hidden states [I, C] of a model as it is now, in eval mode, at every training position, and its item vectors.

    Without dropout a state depends on the history alone, so it is computed once and then looked up in every epoch.
    """

    def __init__(self, model: Recommender, dataset: Dataset, sequences: PackedSequences, engine: Engine):
        mode = model.training
        model.eval()
        with torch.no_grad(), engine.autocast():
            catalogue = model.items()
            self.vectors, self.hidden = catalogue.vectors, None
            for batch in sequences.epoch(ENCODED_AT_ONCE):
                encoding = model.encode(batch, catalogue)
                if self.hidden is None:
                    self.hidden = encoding.hidden.new_zeros(len(dataset.items), encoding.hidden.shape[1])
                self.hidden[batch.rows] = encoding.hidden
        model.train(mode)

    def at(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Hidden states [P, C] of a batch, and item vectors [N, C]."""
        return self.hidden[batch.rows], self.vectors


ENCODED_AT_ONCE = 16_384


class AlignmentObjective(Objective):
    """L = L_pref(βh) + λ_ce L_ce, the negatives selected by `config.negatives`.

    With `negatives.name = none` only λ_ce L_ce is left: the continued cross-entropy control. Selection by the policy's
    current scores reads the blocks that the cross-entropy has computed; any other scorer costs a product of its own.
    """

    def __init__(
        self, policy: Recommender, reference: Recommender, dataset: Dataset, config: AlignmentConfig,
        generator: torch.Generator, planted: Planted | None = None, engine: Engine | None = None,
    ):  # fmt: skip
        super().__init__(engine or Engine(generator.device))
        self.policy = policy
        self.config, self.generator, self.epoch = config, generator, 0
        self.device = self.engine.device
        self.items = torch.as_tensor(dataset.items, device=self.device)
        self.rows = self.engine.rows(dataset.n_items)
        split, n_items = leave_one_out(dataset), dataset.n_items
        owned = partial(OwnedItems.within, dataset.items, split.start, n_items=n_items, device=self.device)
        self.owned = owned(split.train_end)
        self.popularity = torch.as_tensor(training_counts(dataset), device=self.device)
        self.loss = LOSSES[config.loss.name]
        self.selector = SELECTORS.get(config.negatives.name)
        self.start_of_epoch: FrozenStates | None = None
        if self.selector:
            sequences = PackedSequences.for_training(dataset, policy.max_length, self.device)
            self.freeze = partial(FrozenStates, dataset=dataset, sequences=sequences, engine=self.engine)
            self.reference = self.freeze(reference)
            self.state = self.selector.state(len(dataset.items), self.device)
            self.state["last_negative"] = torch.full((len(dataset.items),), -1, device=self.device)
            known = owned(split.train_end + 1)  # the validation item too: counted, never trained on
            self.diagnostics = SelectionDiagnostics(n_items, self.state["last_negative"], known, planted)

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.selector:
            self.diagnostics.last = self.state["last_negative"]  # of the checkpoint, in a resumed run
            self.diagnostics.reset()
        if self.selector and self.selector.scorer == "policy" and self.config.negatives.refresh == "epoch":
            self.start_of_epoch = self.freeze(self.policy)

    def end_epoch(self) -> dict[str, float]:
        return self.diagnostics.summary() if self.selector else {}

    def __call__(self, batch: PackedBatch) -> dict[str, Tensor]:
        positives, lambda_ce = self.items[batch.rows + 1], self.config.training.lambda_ce
        with self.engine.autocast():
            encoding = self.policy(batch)
        policy = encoding.hidden, encoding.vectors
        if self.selector is None:
            anchor = full_cross_entropy(*policy, positives, self.rows, dtype=self.engine.dtype)
            losses = {"loss": lambda_ce * anchor, "loss_ce": anchor}
            return with_router_losses(losses, encoding.routing, self.config.training)
        reference = self.reference.at(batch)
        negatives, anchor = self._select(batch, positives, policy, reference)
        pairs = Pairs(
            *(pair_scores(*model, items) for model in (policy, reference) for items in (positives, negatives))
        )
        if pairs.policy_negative.requires_grad:
            pairs.policy_negative.register_hook(partial(self.diagnostics.observe, batch, negatives))
        preference = self.loss.function(pairs, self.config.loss, self.state).mean()
        losses = {
            "loss": preference + lambda_ce * anchor,
            "loss_preference": preference,
            "loss_ce": anchor,
            "margin": pairs.margin.detach().mean(),
        }
        return with_router_losses(losses, encoding.routing, self.config.training)

    def _select(self, batch: PackedBatch, positives: Tensor, policy, reference) -> tuple[Tensor, Tensor]:
        """Negatives [P, n] and the anchor: the policy's score blocks, where both want them, are computed once."""
        draw, scorer = self._selector_of_epoch()
        scored = {"policy": policy, "reference": reference, None: None}
        if scorer == "start of epoch":
            scored[scorer] = self.start_of_epoch.at(batch)
        negatives = torch.empty(len(positives), self.config.negatives.n, dtype=torch.long, device=self.device)
        select = self._block_selection(draw, batch, positives, scored[scorer], negatives)
        anchor, shown = policy[0].new_zeros(()), scorer == "policy" and self.config.training.lambda_ce > 0
        if self.config.training.lambda_ce > 0:
            observe = select if shown else None
            anchor = full_cross_entropy(*policy, positives, self.rows, observe, self.engine.dtype)
        if scorer is None:
            select(slice(0, len(positives)), policy[0].new_empty(0))
        elif not shown:
            for block, scores in score_blocks(*scored[scorer], self.rows, self.engine.dtype):
                select(block, scores)
        return negatives, anchor

    def _selector_of_epoch(self) -> tuple[Callable, str | None]:
        """What draws, and whose scores it looks at; a pool that is refreshed per epoch starts with a uniform one."""
        if self.start_of_epoch is None:
            return self.selector.draw, self.selector.scorer
        return (self.selector.draw, "start of epoch") if self.epoch > 1 else (SELECTORS["uniform"].draw, None)

    @torch.no_grad()
    def _block_selection(
        self, draw: Callable, batch: PackedBatch, positives: Tensor, scored: tuple[Tensor, Tensor] | None,
        negatives: Tensor,
    ) -> Observer:  # fmt: skip
        """A function that draws for a block of positions from its scores (no scorer: empty) and fills in `negatives`.

        scored: hidden states and item vectors that the scores come from.
        """
        config, rounded = self.config.negatives, self.engine.dtype != torch.float32
        excluded = exclusions(config.exclude, batch.user_of_position, batch.rows, positives, self.owned)
        in_batch = torch.bincount(positives, minlength=len(self.popularity))
        at_positive = pair_scores(*scored, positives) if scored else positives.new_empty(0)

        @torch.no_grad()
        def select(block: slice, scores: Tensor) -> None:
            exact = partial(pair_scores, scored[0][block], scored[1]) if scored and rounded else None
            selection = Selection(
                scores, at_positive[block], excluded[block], self.popularity, in_batch, batch.rows[block], config,
                self.epoch, self.state, exact,
            )  # fmt: skip
            with masked(scores, excluded[block]) if scored else nullcontext():
                negatives[block] = draw(selection, self.generator)

        return select
