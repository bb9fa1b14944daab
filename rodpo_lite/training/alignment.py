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
from rodpo_lite.model.recommender import Encoding, Recommender, pair_scores
from rodpo_lite.sampling.candidates import OwnedItems
from rodpo_lite.sampling.sampler import NegativeSampler, Scored
from rodpo_lite.training.reference import proposal, with_router_losses
from rodpo_lite.training.trainer import Objective


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
        super().__init__(policy, engine or Engine(generator.device))
        self.config, self.generator = config, generator
        device = self.engine.device
        self.items = torch.as_tensor(dataset.items, device=device)
        self.rows = self.engine.rows(dataset.n_items)
        self.loss, self.sampler = LOSSES[config.loss.name], None
        self.start_of_epoch: FrozenStates | None = None
        policy.items.id.sparse = config.training.loss == "sampled"
        self.proposal = proposal(dataset, config.training, self.engine)
        if config.negatives.name != "none":
            self.sampler = NegativeSampler(dataset, config.negatives, self.engine, generator)
            sequences = PackedSequences.for_training(dataset, policy.max_length, device)
            self.freeze = partial(FrozenStates, dataset=dataset, sequences=sequences, engine=self.engine)
            self.reference = self.freeze(reference)
            self.state = self.sampler.state
            self.state["last_negative"] = torch.full((len(dataset.items),), -1, device=device)
            split = leave_one_out(dataset)
            # The validation item too: counted, never trained on.
            known = OwnedItems.within(dataset.items, split.start, split.train_end + 1, dataset.n_items, device)
            self.diagnostics = SelectionDiagnostics(dataset.n_items, self.state["last_negative"], known, planted)

    def start_epoch(self, epoch: int) -> None:
        if self.sampler:
            self.sampler.epoch = epoch
            self.diagnostics.last = self.state["last_negative"]  # of the checkpoint, in a resumed run
            self.diagnostics.reset()
            if self.sampler.scorer == "start of epoch":
                self.start_of_epoch = self.freeze(self.model)

    def end_epoch(self) -> dict[str, float]:
        return self.diagnostics.summary() if self.sampler else {}

    def prepare(self, batch: PackedBatch) -> Step:
        positives = self.items[batch.rows + 1]
        if self.proposal is None:
            return Step(batch, positives)
        return Step(batch, positives, self.proposal.shortlist(batch.items, positives, self.generator))

    def losses(self, step: Step, encoding: Encoding) -> dict[str, Tensor]:
        policy, training = _Policy(self.model, self.engine, step, encoding), self.config.training
        if self.sampler is None:
            anchor = self._anchor(policy)
            losses = {"loss": training.lambda_ce * anchor, "loss_ce": anchor}
            return with_router_losses(losses, encoding.routing, training)
        negatives, anchor = self._select(policy)
        hidden, vectors = self.reference.at(step.batch)
        pairs = Pairs(
            policy.positive,
            policy.scores_of(negatives),
            pair_scores(hidden, vectors, step.positives),
            pair_scores(hidden, vectors, negatives),
        )
        if pairs.policy_negative.requires_grad:
            pairs.policy_negative.register_hook(partial(self.diagnostics.observe, step.batch, negatives))
        preference = self.loss.function(pairs, self.config.loss, self.state).mean()
        losses = {
            "loss": preference + training.lambda_ce * anchor,
            "loss_preference": preference,
            "loss_ce": anchor,
            "margin": pairs.margin.detach().mean(),
        }
        return with_router_losses(losses, encoding.routing, training)

    def _anchor(self, policy: "_Policy", observe: Observer | None = None) -> Tensor:
        states, short = (policy.encoding.hidden, policy.encoding.vectors, policy.step.targets), policy.step.shortlist
        if short is None:
            return full_cross_entropy(*states, self.rows, observe, self.engine.dtype)
        return sampled_cross_entropy(*states, short.candidates, short.log_expected)

    def _select(self, policy: "_Policy") -> tuple[Tensor, Tensor]:
        """Negatives [P, n] and the anchor: the policy's score blocks, where both want them, are computed once."""
        short, pool = policy.step.shortlist, None
        if self.config.negatives.pool == "sample":
            pool = short.items[short.candidates].unique()
        with torch.no_grad():
            scored = self._scored(policy, pool)
        if self.config.training.lambda_ce == 0:
            return self.sampler.draw(policy.step, scored, pool), policy.encoding.hidden.new_zeros(())
        if self.sampler.scorer == "policy" and short is None:
            negatives, select = self.sampler.prepare(policy.step, scored, pool)
            return negatives, self._anchor(policy, select)
        return self.sampler.draw(policy.step, scored, pool), self._anchor(policy)

    def _scored(self, policy: "_Policy", pool: Tensor | None) -> Scored | None:
        """Whose scores the selector looks at, as the selector wants them."""
        scorer = self.sampler.scorer
        if scorer is None:
            return None
        if scorer == "policy":
            return Scored(policy.encoding.hidden.detach(), policy.vectors_of(pool), policy.positive.detach())
        hidden, vectors = (self.reference if scorer == "reference" else self.start_of_epoch).at(policy.step.batch)
        of_positive = pair_scores(hidden, vectors, policy.step.positives)
        return Scored(hidden, vectors if pool is None else vectors[pool], of_positive)


class _Policy:
    """A step as the policy sees it; positive [P] holds the scores of the positives."""

    def __init__(self, model: Recommender, engine: Engine, step: Step, encoding: Encoding):
        self.model, self.engine, self.step, self.encoding = model, engine, step, encoding
        self.positive = pair_scores(encoding.hidden, encoding.vectors, step.targets)

    def scores_of(self, items: Tensor) -> Tensor:
        """Scores of chosen items [P, n] of the catalogue, with gradient; with a shortlist they are encoded anew."""
        if self.step.shortlist is None:
            return pair_scores(self.encoding.hidden, self.encoding.vectors, items)
        with self.engine.autocast():
            vectors = self.model.items(items.flatten()).vectors.view(*items.shape, -1)
        return (self.encoding.hidden[:, None] * vectors).sum(-1)

    def vectors_of(self, pool: Tensor | None) -> Tensor:
        """Vectors of the items in the pool, or of the catalogue, without gradient."""
        if self.step.shortlist is None:
            return self.encoding.vectors.detach()
        if pool is None:
            with torch.no_grad(), self.engine.autocast():
                return self.model.items().vectors
        return self.encoding.vectors.detach()[torch.searchsorted(self.step.items, pool)]
