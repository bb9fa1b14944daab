"""Stage 2: a preference loss against selected negatives, from and against a frozen reference, with an anchor."""

from functools import partial

import torch
from torch import Tensor

from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.engine import Engine
from rodpo_lite.losses.cross_entropy import Observer, full_cross_entropy
from rodpo_lite.losses.preference import LOSSES, Pairs
from rodpo_lite.losses.sampled_softmax import Step, sampled_cross_entropy
from rodpo_lite.mechanism.diagnostics import SelectionDiagnostics
from rodpo_lite.model.recommender import Encoding, Recommender, eval_mode, pair_scores
from rodpo_lite.sampling.candidates import OwnedItems
from rodpo_lite.sampling.sampler import NegativeSampler, Scored
from rodpo_lite.training.reference import proposal, with_router_losses
from rodpo_lite.training.trainer import Objective

ENCODED_AT_ONCE = 16_384  # positions


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
        super().__init__(policy, engine or Engine(generator.device))
        self.config, self.generator = config, generator
        device = self.engine.device
        self.dataset, self.items = dataset, torch.as_tensor(dataset.items, device=device)
        self.rows = self.engine.rows(dataset.n_items)
        self.loss, self.sampler = LOSSES[config.loss.name], None
        policy.items.id.sparse = config.training.loss == "sampled"
        self.proposal = proposal(dataset, config.training, self.engine)
        if config.negatives.name != "none":
            self.sampler = NegativeSampler(dataset, config.negatives, self.engine, generator, planted)
            self.sequences = PackedSequences.for_training(dataset, policy.max_length, device)
            self.reference = FrozenStates(reference, dataset, self.sequences, self.engine)
            self.state = self.sampler.state
            self.state["last_negative"] = torch.full((len(dataset.items),), -1, device=device)
            split = leave_one_out(dataset)
            # The validation item too: counted, never trained on.
            known = OwnedItems.within(dataset.items, split.start, split.train_end + 1, dataset.n_items, device)
            self.diagnostics = SelectionDiagnostics(dataset.n_items, self.state["last_negative"], known, planted)

    def start_epoch(self, epoch: int) -> None:
        if self.sampler is None:
            return
        self.sampler.epoch = epoch
        self.diagnostics.last = self.state["last_negative"]  # of the checkpoint, in a resumed run
        self.diagnostics.reset()
        if self.sampler.scorer == "start of epoch":
            self.start_of_epoch = FrozenStates(self.model, self.dataset, self.sequences, self.engine)

    def end_epoch(self) -> dict[str, float]:
        if self.sampler is None:
            return {}
        return self.diagnostics.summary() | {name: float(self.state[name]) for name in self.loss.tells}

    def prepare(self, batch: PackedBatch) -> Step:
        positives = self.items[batch.rows + 1]
        if self.proposal is None:
            return Step(batch, positives)
        return Step(batch, positives, self.proposal.shortlist(batch.items, positives, self.generator))

    def losses(self, step: Step, encoding: Encoding) -> dict[str, Tensor]:
        training = self.config.training
        if self.sampler is None:
            anchor = self._anchor(step, encoding)
            losses = {"loss": training.lambda_ce * anchor, "loss_ce": anchor}
            return with_router_losses(losses, encoding.routing, training)
        positive = pair_scores(encoding.hidden, encoding.vectors, step.targets)  # [P]
        negatives, anchor = self._select(step, encoding, positive.detach())  # [P, n]
        hidden, vectors = self.reference.at(step.batch)
        pairs = Pairs(
            policy_positive=positive,
            policy_negative=self._scores(step, encoding, negatives),
            reference_positive=pair_scores(hidden, vectors, step.positives),
            reference_negative=pair_scores(hidden, vectors, negatives),
        )
        if pairs.policy_negative.requires_grad:  # the gradient on it is the suppression
            pairs.policy_negative.register_hook(partial(self.diagnostics.observe, step.batch, negatives))
        preference = self.loss.function(pairs, self.config.loss, self.state).mean()
        losses = {
            "loss": preference + training.lambda_ce * anchor,
            "loss_preference": preference,
            "loss_ce": anchor,
            "margin": pairs.margin.detach().mean(),
        }
        return with_router_losses(losses, encoding.routing, training)

    def _anchor(self, step: Step, encoding: Encoding, observe: Observer | None = None) -> Tensor:
        """L_ce; `observe` sees the policy's scores of the catalogue, block by block."""
        states, short = (encoding.hidden, encoding.vectors, step.targets), step.shortlist
        if short is None:
            return full_cross_entropy(*states, self.rows, observe, self.engine.dtype)
        return sampled_cross_entropy(*states, short.candidates, short.log_expected)

    def _select(self, step: Step, encoding: Encoding, positive: Tensor) -> tuple[Tensor, Tensor]:
        """Negatives [P, n] and L_ce; the policy's score blocks, where both want them, are computed once."""
        pool = None
        if self.config.negatives.pool == "sample":
            pool = step.shortlist.items[step.shortlist.candidates].unique()
        with torch.no_grad():
            scored = self._scored(step, encoding, positive, pool)
        anchored = self.config.training.lambda_ce > 0
        if anchored and self.sampler.scorer == "policy" and step.shortlist is None:
            negatives, observe = self.sampler.prepare(step, scored, pool)
            return negatives, self._anchor(step, encoding, observe)
        negatives = self.sampler.draw(step, scored, pool)
        return negatives, self._anchor(step, encoding) if anchored else encoding.hidden.new_zeros(())

    def _scored(self, step: Step, encoding: Encoding, positive: Tensor, pool: Tensor | None) -> Scored | None:
        """The states and vectors whose scores the selector looks at: of the policy, of a frozen model, or of nobody."""
        if self.sampler.scorer is None:
            return None
        if self.sampler.scorer == "policy":
            return Scored(encoding.hidden.detach(), self._vectors(step, encoding, pool).detach(), positive)
        model = self.reference if self.sampler.scorer == "reference" else self.start_of_epoch
        hidden, vectors = model.at(step.batch)
        positive = pair_scores(hidden, vectors, step.positives)
        return Scored(hidden, vectors if pool is None else vectors[pool], positive)

    def _scores(self, step: Step, encoding: Encoding, items: Tensor) -> Tensor:
        """The policy's scores of items [P, n] of the catalogue; with a shortlist they are encoded for it."""
        if step.shortlist is None:
            return pair_scores(encoding.hidden, encoding.vectors, items)
        with self.engine.autocast():
            vectors = self.model.items(items.flatten()).vectors.view(*items.shape, -1)
        return (encoding.hidden[:, None] * vectors).sum(-1)

    def _vectors(self, step: Step, encoding: Encoding, pool: Tensor | None) -> Tensor:
        """The policy's vectors of the items in the pool, or of the catalogue."""
        if step.shortlist is None:
            return encoding.vectors
        if pool is None:
            with self.engine.autocast():
                return self.model.items().vectors
        return encoding.vectors[torch.searchsorted(step.items, pool)]


class FrozenStates:
    """Hidden states [I, C] of a model as it is now, in eval mode, at every training position, and its item vectors.

    Without dropout a state depends on the history alone, so it is computed once and then looked up in every epoch.
    """

    def __init__(self, model: Recommender, dataset: Dataset, sequences: PackedSequences, engine: Engine):
        self.hidden = None
        with eval_mode(model), torch.no_grad(), engine.autocast():
            catalogue = model.items()
            for batch in sequences.epoch(ENCODED_AT_ONCE):
                hidden = model.encode(batch, catalogue).hidden
                if self.hidden is None:
                    self.hidden = hidden.new_zeros(len(dataset.items), hidden.shape[1])
                self.hidden[batch.rows] = hidden
        self.vectors = catalogue.vectors

    def at(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Hidden states [P, C] of a batch, and item vectors [N, C]."""
        return self.hidden[batch.rows], self.vectors
