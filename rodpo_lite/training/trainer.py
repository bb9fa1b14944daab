"""One loop for both stages: the reference (cross-entropy) and the alignment (preference loss plus anchor)."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rodpo_lite.config import AlignmentConfig, ReferenceConfig, TrainingConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.engine import Engine, keep_freed_memory
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.ranking import rank_dataset
from rodpo_lite.losses.sampled_softmax import Step
from rodpo_lite.model.dropout import RandomNumbers
from rodpo_lite.model.recommender import Encoding, Recommender
from rodpo_lite.training import checkpoint
from rodpo_lite.training.distributed import ALONE, Group

Report = Callable[[dict[str, Any]], None]
PRIMARY = "ndcg@5"


class Objective:
    """Maps a packed batch to named scalar losses, of which `loss` is minimised; `engine` says where and how.

    `state` is what it remembers between steps; it is saved with every checkpoint. Before the model encodes a step,
    `prepare` says which items it touches; `losses` are those of an encoding, which may come from a stack of models.
    """

    def __init__(self, model: Recommender, engine: Engine):
        self.model, self.engine = model, engine
        self.state: dict[str, Tensor] = {}

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of each epoch, also of the one that a resumed run starts with."""

    def end_epoch(self) -> dict[str, float]:
        """Called after the last step; what it returns joins the epoch's line of the history."""
        return {}

    def prepare(self, batch: PackedBatch) -> Step:
        raise NotImplementedError

    def losses(self, step: Step, encoding: Encoding) -> dict[str, Tensor]:
        raise NotImplementedError

    def __call__(self, batch: PackedBatch) -> dict[str, Tensor]:
        step = self.prepare(batch)
        with self.engine.autocast():
            encoding = self.model(step.inputs, step.items)
        return self.losses(step, encoding)


class TrainingDiverged(RuntimeError):
    """The loss stopped being finite; says at which epoch and step, of which run, and what is kept of it."""


@dataclass
class Trainer:
    """Trains `model` on `objective` with Adam and a cosine schedule, and keeps the epoch that validates best.

    `folder` receives `history.jsonl` and a checkpoint after every epoch; a run killed at any point continues from there
    to the same weights. `seed` fixes the batch order, dropout and every draw from `generator`. In a `group`, each
    process takes its share of every batch, and gradients are summed: the same training up to rounding, random numbers
    and losses that compare the positions of a batch, such as contrasts, which stay within a share.
    """

    model: Recommender
    objective: Objective
    dataset: Dataset
    config: ReferenceConfig | AlignmentConfig
    max_length: int
    folder: Path
    generator: torch.Generator
    report: Report = lambda epoch: None
    progress: Callable[..., Any] = lambda batches, **_: batches
    group: Group = ALONE
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        training = self.config.training
        self.engine, self.device = self.objective.engine, self.objective.engine.device
        self.sequences = PackedSequences.for_training(self.dataset, self.max_length, self.device)
        self.order = torch.Generator().manual_seed(self.config.seed)
        self.optimizers = optimizers(self.model, training)
        self.batch_positions = self.sequences.n_positions / training.batches_per_epoch
        self.steps_per_epoch = self.sequences.n_batches(self.batch_positions)
        if len(self.sequences.users) // self.steps_per_epoch < self.group.size:
            raise InputError(
                f"A batch of {self.dataset.name} has fewer users than there are processes ({self.group.size}): "
                "lower training.batches_per_epoch."
            )
        self.best: dict[str, Tensor] = {}
        self.random = RandomNumbers(self.config.seed, self.device)

    def fit(self, resume: bool) -> dict[str, Any]:
        """Train to the end or until patience runs out; returns the best epoch's line of the history.

        The model ends with the best epoch's weights. Raises TrainingDiverged if a loss is not finite.
        """
        with self.random:
            self.start(resume)
            while not self.finished:
                for batch in self.batches():
                    self.step(batch)
                self.end_epoch()
        return self.end()

    def start(self, resume: bool) -> None:
        """Before the first epoch: where to go on."""
        keep_freed_memory()
        if resume:
            self._restore()

    @property
    def epoch(self) -> int:
        """The number, from 1, of the epoch that is on or comes next."""
        return len(self.history) + 1

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        training, best = self.config.training, self._best_line().get("epoch", self.epoch)
        return self.epoch > training.epochs or self.epoch - best > training.patience

    def batches(self) -> Iterator[PackedBatch]:
        """The batches of an epoch; the optimizers' learning rates are set for each."""
        self._started, self._sums = time.perf_counter(), {}
        self.model.train()
        self.objective.start_epoch(self.epoch)
        training, done = self.config.training, (self.epoch - 1) * self.steps_per_epoch
        rate = cosine(self.steps_per_epoch * training.epochs, training.warmup)
        if self.group.size > 1:  # random numbers of its own for each process, and the same after a resumption
            torch.manual_seed((self.config.seed * 10_007 + self.epoch) * 1009 + self.group.rank)
        batches = self.sequences.epoch(self.batch_positions, self.order, self.group.rank, self.group.size)
        told = self.progress(batches, total=self.steps_per_epoch, desc=f"epoch {self.epoch} of {training.epochs}")
        for self._step, batch in enumerate(told, start=1):
            for optimizer in self.optimizers:
                for parameters in optimizer.param_groups:
                    parameters["lr"] = parameters["initial_lr"] * rate(done + self._step - 1)
            yield batch

    def step(self, batch: PackedBatch) -> None:
        """Losses, gradients, and new weights."""
        losses = self.objective(batch)
        self.model.zero_grad(set_to_none=True)
        self.share_of(batch, losses).backward()
        self.group.add_gradients(self.model)
        self.update(batch, losses)

    def share_of(self, batch: PackedBatch, losses: dict[str, Tensor]) -> Tensor:
        """What this process adds to the loss of the step; raises TrainingDiverged if that is not finite."""
        if not bool(torch.isfinite(self.group.total(losses["loss"].detach().clone()))):
            raise self._diverged(f"The loss is not finite at epoch {self.epoch}, step {self._step}")
        positions = self.group.total(torch.tensor(float(len(batch.items)), device=self.device))
        return len(batch.items) / positions * losses["loss"]

    def _diverged(self, what: str) -> TrainingDiverged:
        """What happened where, with which configuration, and what is left of the run."""
        kept = f"epoch {self.epoch - 1} is kept in {self.folder / checkpoint.CHECKPOINT}"
        return TrainingDiverged(
            f"{what}, of the configuration in {self.folder / checkpoint.RUN}; lower training.learning_rate, which is "
            f"{self.config.training.learning_rate:g} ({kept if self.history else 'no epoch was finished'})."
        )

    def update(self, batch: PackedBatch, losses: dict[str, Tensor]) -> None:
        """Change the weights by the gradients that they hold."""
        for optimizer in self.optimizers:
            optimizer.step()
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach() * len(batch.items)

    def end_epoch(self) -> None:
        """Validate, keep the best weights, write a checkpoint."""
        losses = {
            name: float(self.group.total(total)) / self.sequences.n_positions for name, total in self._sums.items()
        }
        losses |= self.objective.end_epoch()
        seconds = time.perf_counter() - self._started
        try:
            ranks = rank_dataset(self.model, self.dataset, "valid", self.max_length)
        except ValueError as error:
            raise self._diverged(f"After epoch {self.epoch}, {error}") from None
        line = {
            "epoch": self.epoch,
            "epoch_seconds": round(seconds, 3),
            **losses,
            "valid": metrics.from_ranks(ranks.unmasked),
            "valid_masked": metrics.from_ranks(ranks.masked),
        }
        if not self.best or line["valid"][PRIMARY] > self._best_line()["valid"][PRIMARY]:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.history.append(line)
        if self.group.is_main:
            self._save()
            self.report(line | {"epochs": self.config.training.epochs})

    def end(self) -> dict[str, Any]:
        """Leave the model with the best epoch's weights; returns that epoch's line of the history."""
        self.model.load_state_dict(self.best)
        return self._best_line()

    def _best_line(self) -> dict[str, Any]:
        return max(self.history, key=lambda line: line["valid"][PRIMARY], default={})

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, optimizer in enumerate(self.optimizers):
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors |= {f"state.{name}": value for name, value in self.objective.state.items()}
        tensors |= {f"generator.{name}": generator.get_state() for name, generator in self._generators().items()}
        state = {"history": self.history}
        state |= {"checksum": checkpoint.checksum(tensors, state)}
        checkpoint.write_tensors(self.folder / checkpoint.CHECKPOINT, tensors, state)
        checkpoint.write_history(self.folder, self.history)

    def _restore(self) -> None:
        path = self.folder / checkpoint.CHECKPOINT
        if not path.exists():
            return
        tensors, state = checkpoint.read_tensors(path)
        if state.pop("checksum", None) != checkpoint.checksum(tensors, state):
            raise checkpoint.unreadable(path)
        checkpoint.load_weights(self.model, _under("model.", tensors), path)
        self.best = {name: value.to(self.device) for name, value in _under("best.", tensors).items()}
        for name, generator in self._generators().items():
            generator.set_state(tensors[f"generator.{name}"])
        for number, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, Tensor | int]] = {}
            for key, value in _under(f"optimizer.{number}.", tensors).items():
                index, name = key.split(".", 1)
                # SparseAdam counts its steps in an int, and would compute with a tensor in another precision.
                moments.setdefault(int(index), {})[name] = value if value.is_floating_point() else int(value)
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.objective.state |= {name: value.to(self.device) for name, value in _under("state.", tensors).items()}
        self.history = state["history"]
        checkpoint.write_history(self.folder, self.history)

    def _generators(self) -> dict[str, torch.Generator]:
        return {"order": self.order, "selection": self.generator, **self.random.generators}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimizers(model: Recommender, training: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW, with a learning rate of its own for the ID embedding; that has SparseAdam, without weight decay, where
    its gradient is sparse."""
    ids = model.items.id
    others = [parameter for parameter in model.parameters() if parameter is not ids.weight]
    of_others = {"params": others, "initial_lr": training.learning_rate}
    of_ids = {"params": [ids.weight], "initial_lr": training.learning_rate * training.id_learning_rate}
    dense = [of_others] if ids.sparse else [of_ids, of_others]
    adam = torch.optim.AdamW(dense, weight_decay=training.weight_decay, fused=True)
    return [adam, torch.optim.SparseAdam([of_ids])] if ids.sparse else [adam]


def cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Linear warm-up over the first share of the steps, then half a cosine down to zero."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return factor
