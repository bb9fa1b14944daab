"""Stage 2: a preference loss against selected negatives, from and against a frozen reference, with an anchor."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.diagnostics import SelectionDiagnostics
from rodpo_lite.eligibility import OwnedItems, Selection, exclusions, mask_excluded
from rodpo_lite.losses import LOSSES, Pairs
from rodpo_lite.model.scoring import Observer, Recommender, full_cross_entropy, pair_scores, rows_within, score_blocks
from rodpo_lite.negatives import SELECTORS
from rodpo_lite.training import Objective, with_router_losses


class AlignmentObjective(Objective):
    """L = L_pref(βh) + λ_ce L_ce, the negatives selected by `config.negatives`.

    With `negatives.name = none` only λ_ce L_ce is left: the continued cross-entropy control. Selection by the policy's
    current scores reads the blocks that the cross-entropy has computed; any other scorer costs a product of its own.
    """

    def __init__(
        self, policy: Recommender, reference: Recommender, dataset: Dataset, config: AlignmentConfig,
        generator: torch.Generator, planted: Planted | None = None,
    ):  # fmt: skip
        super().__init__()
        self.policy, self.reference = policy, reference.requires_grad_(False).eval()
        self.config, self.generator, self.epoch = config, generator, 0
        self.device = generator.device
        self.items = torch.as_tensor(dataset.items, device=self.device)
        self.rows = rows_within(config.training.memory_budget_mib, dataset.n_items)
        split, n_items = leave_one_out(dataset), dataset.n_items
        owned = partial(OwnedItems.within, dataset.items, split.start, n_items=n_items, device=self.device)
        self.owned = owned(split.train_end)
        self.popularity = torch.as_tensor(training_counts(dataset), device=self.device)
        self.loss = LOSSES[config.loss.name]
        self.selector = SELECTORS.get(config.negatives.name)
        self.start_of_epoch: Recommender | None = None
        if self.selector:
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
            self.start_of_epoch = copy.deepcopy(self.policy).requires_grad_(False).eval()

    def end_epoch(self) -> dict[str, float]:
        return self.diagnostics.summary() if self.selector else {}

    def __call__(self, batch: PackedBatch) -> dict[str, Tensor]:
        positives, lambda_ce = self.items[batch.rows + 1], self.config.training.lambda_ce
        encoding = self.policy(batch)
        policy = encoding.hidden, encoding.vectors
        if self.selector is None:
            anchor = full_cross_entropy(*policy, positives, self.rows)
            losses = {"loss": lambda_ce * anchor, "loss_ce": anchor}
            return with_router_losses(losses, encoding.routing, self.config.training)
        reference = self._frozen(self.reference, batch)
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
        negatives = torch.empty(len(positives), self.config.negatives.n, dtype=torch.long, device=self.device)
        select = self._block_selection(draw, batch, positives, negatives)
        if self.config.training.lambda_ce > 0:
            anchor = full_cross_entropy(*policy, positives, self.rows, select if scorer == "policy" else None)
            if scorer == "policy":
                return negatives, anchor
        else:
            anchor = policy[0].new_zeros(())
        with torch.no_grad():
            if scorer is None:
                select(slice(0, len(positives)), policy[0].new_empty(0))
                return negatives, anchor
            if scorer == "start of epoch":
                scored = self._frozen(self.start_of_epoch, batch)
            else:
                scored = reference if scorer == "reference" else policy
            for block, scores in score_blocks(*scored, self.rows):
                select(block, scores)
        return negatives, anchor

    def _selector_of_epoch(self) -> tuple[Callable, str | None]:
        """What draws, and whose scores it looks at; a pool that is refreshed per epoch starts with a uniform one."""
        if self.start_of_epoch is None:
            return self.selector.draw, self.selector.scorer
        return (self.selector.draw, "start of epoch") if self.epoch > 1 else (SELECTORS["uniform"].draw, None)

    def _block_selection(self, draw: Callable, batch: PackedBatch, positives: Tensor, negatives: Tensor) -> Observer:
        """A function that draws for a block of positions from its scores (none: empty) and fills in `negatives`."""
        config = self.config.negatives
        excluded = exclusions(config.exclude, batch.user_of_position, batch.rows, positives, self.owned)
        in_batch = torch.bincount(positives, minlength=len(self.popularity))

        def select(block: slice, scores: Tensor) -> None:
            at_positive = scores.gather(1, positives[block, None])[:, 0] if len(scores) else scores
            masked = mask_excluded(scores, excluded[block]) if len(scores) else scores
            selection = Selection(
                masked, at_positive, excluded[block], self.popularity, in_batch, batch.rows[block], config, self.epoch,
                self.state,
            )  # fmt: skip
            negatives[block] = draw(selection, self.generator)

        return select

    @staticmethod
    @torch.no_grad()
    def _frozen(model: Recommender, batch: PackedBatch):
        encoding = model(batch)
        return encoding.hidden, encoding.vectors
