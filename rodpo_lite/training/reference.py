"""Stage 1: next-item prediction, over the whole catalogue or a sample of it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from rodpo_lite.config import ReferenceConfig, TrainingConfig
from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import training_counts
from rodpo_lite.engine import Engine
from rodpo_lite.losses.auxiliary import (
    category_prediction,
    id_contrast,
    label_smoothing,
    masked_positions,
    placeholder_contrast,
)
from rodpo_lite.losses.cross_entropy import full_cross_entropy
from rodpo_lite.losses.sampled_softmax import (
    Proposal,
    Step,
    binary_cross_entropy,
    others,
    sampled_cross_entropy,
    shortlist,
)
from rodpo_lite.model.experts import Routing
from rodpo_lite.model.recommender import Encoding, Recommender
from rodpo_lite.training.trainer import Objective


class ReferenceObjective(Objective):
    """Next-item prediction at every position, by the loss that `training.loss` names.

    Sparse mixtures add their router losses, and towers the contrasts that have a weight. With a sampled loss a step
    encodes only the items that it touches, and the gradient of the ID embedding is sparse.
    """

    def __init__(self, model: Recommender, dataset: Dataset, config: ReferenceConfig, engine: Engine | None = None):
        super().__init__(model, engine or Engine(next(model.parameters()).device))
        self.config, self.n_items = config, dataset.n_items
        self.items = torch.as_tensor(dataset.items, device=self.engine.device)
        self.rows = self.engine.rows(dataset.n_items)
        model.items.id.sparse = config.training.loss != "full"
        self.proposal = proposal(dataset, config.training, self.engine)
        if config.category_prediction.weight > 0:
            self.labels = torch.as_tensor(dataset.categories, device=self.engine.device)

    def prepare(self, batch: PackedBatch) -> Step:
        targets, short = self.items[batch.rows + 1], None
        if self.proposal is not None:
            short = self.proposal.shortlist(batch.items, targets)
        elif self.config.training.loss == "bce":
            negatives = others(targets, self.n_items)
            short = shortlist(batch.items, targets, negatives, targets.new_empty(0))
        return Step(batch, targets, short)

    def losses(self, step: Step, encoding: Encoding) -> dict[str, Tensor]:
        main = self._loss(encoding, step)
        losses = {"loss": main}
        for weight, name, term in self._auxiliary(step, encoding):
            losses |= {"loss": losses["loss"] + weight * term, "loss_ce": main, f"loss_{name}": term}
        return with_router_losses(losses, encoding.routing, self.config.training)

    def _loss(self, encoding: Encoding, step: Step) -> Tensor:
        states, short = (encoding.hidden, encoding.vectors, step.targets), step.shortlist
        if self.config.training.loss == "full":
            return full_cross_entropy(*states, self.rows, dtype=self.engine.dtype)
        if self.config.training.loss == "bce":
            return binary_cross_entropy(*states, short.candidates)
        return sampled_cross_entropy(*states, short.candidates, short.log_expected)

    def _auxiliary(self, step: Step, encoding: Encoding) -> Iterator[tuple[float, str, Tensor]]:
        """Weight, name and value of each auxiliary term that is switched on."""
        of_ids, of_masked, of_categories = (
            self.config.id_contrast, self.config.placeholder_contrast, self.config.category_prediction,
        )  # fmt: skip
        targets, batch, width = step.targets, step.inputs, self.config.encoder.width
        if self.config.label_smoothing > 0:
            term = label_smoothing(encoding.hidden, encoding.vectors, targets)
            yield self.config.label_smoothing, "label_smoothing", term
        if of_ids.weight > 0:  # the ID tower comes first
            ids = encoding.hidden[:, :width], encoding.vectors[:, :width]
            yield of_ids.weight, "id_contrast", id_contrast(*ids, targets, of_ids.temperature, self.rows)
        if of_masked.weight > 0:
            mask = masked_positions(batch, of_masked.share)
            with self.engine.autocast():
                masked = self.model.sequence.masked(encoding.inputs[batch.items], batch, mask)
            at = slice(None) if of_masked.every else batch.last
            states = encoding.hidden[at, width:], masked[at]
            towers = states[0].shape[1] // width
            term = placeholder_contrast(*states, targets[at], towers, of_masked.temperature)
            yield of_masked.weight, "placeholder_contrast", term
        if of_categories.weight > 0 and self.model.categories is not None:
            term = category_prediction(self.model.categories(encoding.hidden), self.labels[step.positives])
            yield of_categories.weight, "category_prediction", term


def proposal(dataset: Dataset, training: TrainingConfig, engine: Engine) -> Proposal | None:
    """What a sampled softmax draws from; None for a loss that draws nothing."""
    if training.loss != "sampled":
        return None
    popularity = torch.as_tensor(training_counts(dataset), device=engine.device)
    return Proposal(popularity, training.sampled, training.sampled_exponent)


def with_router_losses(
    losses: dict[str, Tensor], routing: dict[str, Routing], training: TrainingConfig
) -> dict[str, Tensor]:
    """Add α Σ balance + z Σ z of all sparse mixtures to `loss`, and report both sums; without mixtures, nothing."""
    if not routing:
        return losses
    balance, z = (torch.stack(terms).sum() for terms in zip(*((r.balance, r.z) for r in routing.values())))
    loss = losses["loss"] + training.balance_weight * balance + training.z_weight * z
    return losses | {"loss": loss, "loss_balance": balance, "loss_z": z}
