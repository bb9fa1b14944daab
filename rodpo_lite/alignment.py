"""Stage 2: a preference loss against selected negatives, from and against a frozen reference, with an anchor."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.diagnostics import SelectionDiagnostics
from rodpo_lite.eligibility import OwnedItems
from rodpo_lite.engine import Engine
from rodpo_lite.losses import LOSSES, Pairs
from rodpo_lite.model.cross_entropy import Observer, full_cross_entropy
from rodpo_lite.model.scoring import Encoding, Recommender, pair_scores
from rodpo_lite.reference import with_router_losses
from rodpo_lite.sampling import Proposal, Shortlist, sampled_cross_entropy
from rodpo_lite.selection import NegativeSelection, Scored
from rodpo_lite.training import Objective


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
    current scores reads the blocks that the cross-entropy is computed from; any other scorer costs a product of its
    own. With `training.loss = sampled` a step encodes only the items that it touches.
    """

    def __init__(
        self, policy: Recommender, reference: Recommender, dataset: Dataset, config: AlignmentConfig,
        generator: torch.Generator, planted: Planted | None = None, engine: Engine | None = None,
    ):  # fmt: skip
        super().__init__(engine or Engine(generator.device))
        self.policy, self.config, self.generator = policy, config, generator
        device = self.engine.device
        self.items = torch.as_tensor(dataset.items, device=device)
        self.rows = self.engine.rows(dataset.n_items)
        self.loss, self.selection = LOSSES[config.loss.name], None
        self.start_of_epoch: FrozenStates | None = None
        policy.items.id.sparse = config.training.loss == "sampled"
        self.proposal = Proposal.of(dataset, config.training, device) if config.training.loss == "sampled" else None
        if config.negatives.name != "none":
            self.selection = NegativeSelection(dataset, config.negatives, self.engine, generator)
            sequences = PackedSequences.for_training(dataset, policy.max_length, device)
            self.freeze = partial(FrozenStates, dataset=dataset, sequences=sequences, engine=self.engine)
            self.reference = self.freeze(reference)
            self.state = self.selection.state
            self.state["last_negative"] = torch.full((len(dataset.items),), -1, device=device)
            split = leave_one_out(dataset)
            # The validation item too: counted, never trained on.
            known = OwnedItems.within(dataset.items, split.start, split.train_end + 1, dataset.n_items, device)
            self.diagnostics = SelectionDiagnostics(dataset.n_items, self.state["last_negative"], known, planted)

    def start_epoch(self, epoch: int) -> None:
        if self.selection:
            self.selection.epoch = epoch
            self.diagnostics.last = self.state["last_negative"]  # of the checkpoint, in a resumed run
            self.diagnostics.reset()
            if self.selection.scorer == "start of epoch":
                self.start_of_epoch = self.freeze(self.policy)

    def end_epoch(self) -> dict[str, float]:
        return self.diagnostics.summary() if self.selection else {}

    def __call__(self, batch: PackedBatch) -> dict[str, Tensor]:
        positives, training = self.items[batch.rows + 1], self.config.training
        step = Step.of(self.policy, batch, positives, self._shortlist(batch, positives), self.engine)
        if self.selection is None:
            anchor = self._anchor(step)
            losses = {"loss": training.lambda_ce * anchor, "loss_ce": anchor}
            return with_router_losses(losses, step.encoding.routing, training)
        negatives, anchor = self._select(batch, positives, step)
        hidden, vectors = self.reference.at(batch)
        pairs = Pairs(
            step.positive,
            step.scores_of(negatives),
            pair_scores(hidden, vectors, positives),
            pair_scores(hidden, vectors, negatives),
        )
        if pairs.policy_negative.requires_grad:
            pairs.policy_negative.register_hook(partial(self.diagnostics.observe, batch, negatives))
        preference = self.loss.function(pairs, self.config.loss, self.state).mean()
        losses = {
            "loss": preference + training.lambda_ce * anchor,
            "loss_preference": preference,
            "loss_ce": anchor,
            "margin": pairs.margin.detach().mean(),
        }
        return with_router_losses(losses, step.encoding.routing, training)

    def _shortlist(self, batch: PackedBatch, positives: Tensor) -> Shortlist | None:
        if self.proposal is None:
            return None
        return self.proposal.shortlist(batch.items, positives, self.generator)

    def _anchor(self, step: "Step", observe: Observer | None = None) -> Tensor:
        states, short = (step.encoding.hidden, step.encoding.vectors, step.targets), step.shortlist
        if short is None:
            return full_cross_entropy(*states, self.rows, observe, self.engine.dtype)
        return sampled_cross_entropy(*states, short.candidates, short.log_expected)

    def _select(self, batch: PackedBatch, positives: Tensor, step: "Step") -> tuple[Tensor, Tensor]:
        """Negatives [P, n] and the anchor: the policy's score blocks, where both want them, are computed once."""
        scorer, pool = self.selection.scorer, None
        if self.config.negatives.pool == "sample":
            pool = step.shortlist.items[step.shortlist.candidates].unique()
        with torch.no_grad():
            scored = self._scored(scorer, batch, positives, step, pool)
        if self.config.training.lambda_ce == 0:
            return self.selection.draw(batch, positives, scored, pool), step.encoding.hidden.new_zeros(())
        if scorer == "policy" and step.shortlist is None:
            negatives, select = self.selection.prepare(batch, positives, scored, pool)
            return negatives, self._anchor(step, select)
        return self.selection.draw(batch, positives, scored, pool), self._anchor(step)

    def _scored(
        self, scorer: str | None, batch: PackedBatch, positives: Tensor, step: "Step", pool: Tensor | None
    ) -> Scored | None:
        if scorer is None:
            return None
        if scorer == "policy":
            return Scored(step.encoding.hidden.detach(), step.vectors_of(pool), step.positive.detach())
        hidden, vectors = (self.reference if scorer == "reference" else self.start_of_epoch).at(batch)
        of_positive = pair_scores(hidden, vectors, positives)
        return Scored(hidden, vectors if pool is None else vectors[pool], of_positive)


@dataclass(frozen=True)
class Step:
    """A batch as the policy sees it: encoded with the whole catalogue, or with the items of a shortlist.

    targets [P] number the positives within the encoded items, positive [P] holds their scores.
    """

    policy: Recommender
    engine: Engine
    shortlist: Shortlist | None
    encoding: Encoding
    targets: Tensor
    positive: Tensor

    @classmethod
    def of(
        cls, policy: Recommender, batch: PackedBatch, positives: Tensor, shortlist: Shortlist | None, engine: Engine
    ) -> "Step":
        targets, items = positives, None
        if shortlist is not None:
            batch, targets, items = shortlist.renumbered(batch), shortlist.targets, shortlist.items
        with engine.autocast():
            encoding = policy.encode(batch, policy.items(items))
        positive = pair_scores(encoding.hidden, encoding.vectors, targets)
        return cls(policy, engine, shortlist, encoding, targets, positive)

    def scores_of(self, items: Tensor) -> Tensor:
        """Scores of chosen items [P, n] of the catalogue, with gradient; those not on the shortlist are encoded."""
        if self.shortlist is None:
            return pair_scores(self.encoding.hidden, self.encoding.vectors, items)
        with self.engine.autocast():
            vectors = self.policy.items(items.flatten()).vectors.view(*items.shape, -1)
        return (self.encoding.hidden[:, None] * vectors).sum(-1)

    def vectors_of(self, pool: Tensor | None) -> Tensor:
        """Vectors of the items in the pool, or of the catalogue, without gradient."""
        if self.shortlist is None:
            return self.encoding.vectors.detach()
        if pool is None:
            with torch.no_grad(), self.engine.autocast():
                return self.policy.items().vectors
        return self.encoding.vectors.detach()[torch.searchsorted(self.shortlist.items, pool)]
