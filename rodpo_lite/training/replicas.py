"""Several seeds of one configuration trained side by side in one process: their encoders are computed as one.

A step of a small model on a small batch costs more in its many small operations than in arithmetic. Stacked, R models
need as many operations as one. Each keeps its own loss, optimizer and validation.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.engine import rounded_up
from rodpo_lite.model.attention import Bins, Layout
from rodpo_lite.model.dropout import RandomNumbers, random_numbers_of_each
from rodpo_lite.model.experts import SparseExperts
from rodpo_lite.model.recommender import Encoding, Recommender
from rodpo_lite.model.sequence import Block
from rodpo_lite.model.towers import TemporalMixture
from rodpo_lite.training.trainer import Trainer


def can_stack(trainer: Trainer) -> bool:
    """Whether models can be computed as one.

    Not with sparse mixtures, which sort by expert, nor with sampled losses, nor where random numbers that are not those
    of dropout on rows would be drawn for all models at once.
    """
    modules = list(trainer.model.modules())
    has_experts = any(isinstance(module, SparseExperts) for module in modules)
    draws = any(isinstance(m, Block) and m.attention_dropout.p > 0 for m in modules)
    draws |= any(isinstance(m, TemporalMixture) and m.unknown > 0 for m in modules)
    return not has_experts and not draws and trainer.config.training.loss == "full"


def fit_together(trainers: list[Trainer], resume: bool) -> list[dict[str, Any]]:
    """What `Trainer.fit` does, for trainings that differ in their seeds alone.

    Each has the batches, the dropout and the draws of a separate run, and only rounds elsewhere. In fp32 nothing comes
    of that: losses agree to 1e-5. In bf16 it adds up: losses agree within 1 %, but weights do not, and NDCG@5 differed
    by 0 to 20 % on worlds of 200 and 300 users. What is compared should be trained in one way. One that has finished
    leaves; the first of the others shows its progress. Raises TrainingDiverged if a loss of any is not finite.
    """
    progress, no_progress = trainers[0].progress, Trainer.progress
    for trainer in trainers:
        with trainer.random:
            trainer.start(resume)
    while active := [trainer for trainer in trainers if not trainer.finished]:
        stack = Stack([trainer.model for trainer in active])
        for trainer in active:
            trainer.progress = progress if trainer is active[0] else no_progress
        epochs = [trainer.batches() for trainer in active]
        while batches := [batch for trainer, epoch in zip(active, epochs) if (batch := _next(trainer, epoch))]:
            _step(active, stack, batches)
        for trainer in active:
            with trainer.random:
                trainer.end_epoch()
    return [trainer.end() for trainer in trainers]


def _next(trainer: Trainer, epoch: Iterator[PackedBatch]) -> PackedBatch | None:
    with trainer.random:
        return next(epoch, None)


def _step(trainers: list[Trainer], stack: "Stack", batches: list[PackedBatch]) -> None:
    streams = [trainer.random for trainer in trainers]
    with trainers[0].engine.autocast():
        encodings = stack.encode(batches, streams)
    losses = []
    for trainer, batch, encoding in zip(trainers, batches, encodings, strict=True):
        with trainer.random:
            losses.append(trainer.objective.losses(trainer.objective.prepare(batch), encoding))
    for trainer in trainers:
        trainer.model.zero_grad(set_to_none=True)
    shares = [trainer.share_of(batch, named) for trainer, batch, named in zip(trainers, batches, losses, strict=True)]
    torch.stack(shares).sum().backward()
    stack.hand_out_gradients()
    for trainer, batch, named in zip(trainers, batches, losses, strict=True):
        trainer.update(batch, named)


class Stack:
    """R models of the same shapes whose parameters become views of stacked ones, [R, ...]."""

    def __init__(self, models: list[Recommender]):
        self.models = models
        self.parameters: dict[str, Tensor] = {}
        for name, _ in models[0].named_parameters():
            parameters = [model.get_parameter(name) for model in models]
            stacked = torch.stack([parameter.detach() for parameter in parameters])
            for parameter, view in zip(parameters, stacked, strict=True):
                parameter.data = view
            self.parameters[name] = stacked.requires_grad_(parameters[0].requires_grad)

    def encode(self, batches: list[PackedBatch], streams: list[RandomNumbers]) -> list[Encoding]:
        """Encode the catalogue and a batch with each model, dropout drawing from the random numbers of that model."""
        positions = [len(batch.items) for batch in batches]
        layout = Layout.stacked([batch.lengths for batch in batches])

        def padded(name: str, value: float = 0) -> Tensor:
            columns = [getattr(batch, name) for batch in batches]
            return torch.stack([F.pad(column, (0, layout.rows - len(column)), value=value) for column in columns])

        times = None if batches[0].times is None else padded("times", torch.nan)
        arguments = (self.parameters, padded("items"), padded("steps"), times, *layout.bins[0])
        axes = tuple(None if argument is None else 0 for argument in arguments)
        with random_numbers_of_each(streams, [rounded_up(count) for count in positions]):
            hidden, vectors, inputs = torch.vmap(self._encode_one, axes)(*arguments)  # [R, ...]
        of_models = zip(positions, hidden.unbind(), vectors.unbind(), inputs.unbind(), strict=True)
        return [Encoding(hidden[:count], vectors, inputs, {}) for count, hidden, vectors, inputs in of_models]

    def _encode_one(
        self, parameters: dict[str, Tensor], items: Tensor, steps: Tensor, times: Tensor | None, *bins: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, layout = PackedBatch(items, items, steps, items, items, times), Layout([Bins(*bins)], len(items))
        encoding = torch.func.functional_call(self.models[0], parameters, (batch, None, layout))
        return encoding.hidden, encoding.vectors, encoding.inputs

    def hand_out_gradients(self) -> None:
        """Give every model its share of the stacked gradients, added to what it has already."""
        for name, stacked in self.parameters.items():
            if stacked.grad is not None:
                for model, gradient in zip(self.models, stacked.grad, strict=True):
                    parameter = model.get_parameter(name)
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
                stacked.grad = None
