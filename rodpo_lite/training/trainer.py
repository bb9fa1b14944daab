"""One loop for both stages: the reference (cross-entropy) and the alignment (preference loss plus anchor)."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rodpo_lite.config import LAST, AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.engine import Engine, keep_freed_memory, stream_seed
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.ranking import rank_dataset
from rodpo_lite.losses.sampled_softmax import Step
from rodpo_lite.model.dropout import RandomNumbers
from rodpo_lite.model.recommender import Encoding, Recommender
from rodpo_lite.training import checkpoint
from rodpo_lite.training.distributed import ALONE, Group
from rodpo_lite.training.optimizers import SCHEDULES, optimizers

Report = Callable[[dict[str, Any]], None]


class Objective:
    """Computes named scalar losses of a packed batch, of which `loss` is minimised; `engine` says where and how.

    `state` is what it remembers between steps; it is saved with every checkpoint. `prepare` makes a step of a batch,
    with the items that the model has to encode for it. `losses` takes what the model makes of the step; several models
    that are trained side by side compute that together.
    """

    def __init__(self, model: Recommender, engine: Engine):
        self.model, self.engine = model, engine
        self.state: dict[str, Tensor] = {}

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of each epoch; a resumed run begins with a whole epoch, too."""

    def end_epoch(self) -> dict[str, float]:
        """Called after the last step; returns what joins the epoch's line of the history."""
        return {}

    def prepare(self, batch: PackedBatch) -> Step:
        """Return the batch, what follows each of its positions, and the items to encode."""
        raise NotImplementedError

    def losses(self, step: Step, encoding: Encoding) -> dict[str, Tensor]:
        """Return scalars by name from the model's encoding of the step; `loss` has a gradient."""
        raise NotImplementedError

    def __call__(self, batch: PackedBatch) -> dict[str, Tensor]:
        step = self.prepare(batch)
        with self.engine.autocast():
            encoding = self.model(step.inputs, step.items)
        return self.losses(step, encoding)


class TrainingDiverged(RuntimeError):
    """The loss is no longer finite; says at which epoch and step, of which run, and what is kept of it."""


@dataclass
class Trainer:
    """Trains the model of an objective with Adam and a cosine schedule, and keeps the epoch that validates best.

    `folder` receives `history.jsonl` and a checkpoint after every epoch; a run killed at any point continues from there
    to the same weights. The seed of `config` fixes the batch order and dropout, `generator` what the objective draws.
    In a `group`, each process takes its share of every batch, and gradients are summed: the same training up to
    rounding, random numbers and losses that compare the positions of a batch, such as contrasts, which stay within a
    share. `computation` says what computes here (see `provenance`): `stretches` says that of the whole run, an entry
    for each time that it was resumed and reached the end of an epoch, with that epoch's number as `from_epoch`.
    """

    objective: Objective
    dataset: Dataset
    config: ReferenceConfig | AlignmentConfig
    folder: Path
    generator: torch.Generator
    report: Report = lambda epoch: None
    progress: Callable[..., Any] = lambda batches, **_: batches
    group: Group = ALONE
    computation: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    stretches: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        training = self.config.training
        self.model, self.engine = self.objective.model, self.objective.engine
        self.device = self.engine.device
        self.sequences = PackedSequences.for_training(self.dataset, self.model.max_length, self.device)
        self.order = torch.Generator().manual_seed(stream_seed(self.config.seed, "order"))
        self.optimizers = optimizers(self.model, training)
        self.batch_positions = training.batch_positions or self.sequences.n_positions / training.batches_per_epoch
        self.steps_per_epoch = self.sequences.n_batches(self.batch_positions)
        if len(self.sequences.users) // self.steps_per_epoch < self.group.size:
            raise InputError(
                f"A batch of {self.dataset.name} has fewer users than there are processes ({self.group.size}): "
                "lower training.batches_per_epoch."
            )
        self.best: dict[str, Tensor] = {}  # weights
        self.random = RandomNumbers(stream_seed(self.config.seed, "dropout"), self.device)

    def fit(self, resume: bool) -> dict[str, Any]:
        """Train to the end or until patience runs out; return the best epoch's line of the history.

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
        """Get ready for the first epoch, or for the one after that of the checkpoint."""
        keep_freed_memory()
        if resume:
            self._restore()
        self._stretch = {"from_epoch": self.epoch, **self.computation}

    @property
    def epoch(self) -> int:
        """The number, from 1, of the epoch that is trained now or next."""
        return len(self.history) + 1

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        training, best = self.config.training, self._best_line().get("epoch", self.epoch)
        return self.epoch > training.epochs or self.epoch - best > training.patience

    def batches(self) -> Iterator[PackedBatch]:
        """Yield the batches of an epoch, and set the optimizers' learning rates for each."""
        self._started, self._sums = time.perf_counter(), {}
        self.model.train()
        self.objective.start_epoch(self.epoch)
        training, done = self.config.training, (self.epoch - 1) * self.steps_per_epoch
        rate = SCHEDULES[training.schedule](self.steps_per_epoch * training.epochs, training.warmup)
        if self.group.size > 1:  # random numbers of its own for each process, and the same after a resumption
            torch.manual_seed(stream_seed(self.config.seed, "dropout", self.epoch, self.group.rank))
        batches = self.sequences.epoch(self.batch_positions, self.order, self.group.rank, self.group.size)
        batches = self.progress(batches, total=self.steps_per_epoch, desc=f"epoch {self.epoch} of {training.epochs}")
        for self._step, batch in enumerate(batches, start=1):
            for optimizer in self.optimizers:
                for parameters in optimizer.param_groups:
                    parameters["lr"] = parameters["initial_lr"] * rate(done + self._step - 1)
            yield batch

    def step(self, batch: PackedBatch) -> None:
        """Compute losses and gradients, and change the weights."""
        losses = self.objective(batch)
        self.model.zero_grad(set_to_none=True)
        self.share_of(batch, losses).backward()
        self.group.add_gradients(self.model)
        self.update(batch, losses)

    def share_of(self, batch: PackedBatch, losses: dict[str, Tensor]) -> Tensor:
        """Return what this process adds to the loss of the step; raise TrainingDiverged if that is not finite."""
        if not bool(torch.isfinite(self.group.total(losses["loss"].detach().clone()))):
            raise self._diverged(f"The loss is not finite at epoch {self.epoch}, step {self._step}")
        positions = self.group.total(torch.tensor(float(len(batch.items)), device=self.device))
        return len(batch.items) / positions * losses["loss"]

    def _diverged(self, what: str) -> TrainingDiverged:
        """Say what happened where, with which configuration, and what is left of the run."""
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
        positions = self.sequences.n_positions
        losses = {name: float(self.group.total(total)) / positions for name, total in self._sums.items()}
        losses |= self.objective.end_epoch()
        seconds = time.perf_counter() - self._started
        try:
            ranks = rank_dataset(self.model, self.dataset, "valid", self.model.max_length)
        except ValueError as error:
            raise self._diverged(f"After epoch {self.epoch}, {error}") from None
        line = {
            "epoch": self.epoch,
            "epoch_seconds": round(seconds, 3),
            **losses,
            "valid_loss": float(ranks.losses.mean()),
            "valid": metrics.from_ranks(ranks.unmasked),
            "valid_masked": metrics.from_ranks(ranks.masked),
        }
        if not self.best or self._measure(line) > self._measure(self._best_line()):
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.history.append(line)
        if self._stretch not in self.stretches:
            self.stretches.append(self._stretch)
        if self.group.is_main:
            self._save()
            self.report(line | {"epochs": self.config.training.epochs})

    def end(self) -> dict[str, Any]:
        """Leave the model with the best epoch's weights; return that epoch's line of the history."""
        self.model.load_state_dict(self.best)
        return self._best_line()

    def _best_line(self) -> dict[str, Any]:
        return max(self.history, key=self._measure, default={})

    def _measure(self, line: dict[str, Any]) -> float:
        """The validation metric by which epochs are compared."""
        if self.config.training.select_by == LAST:
            return line["epoch"]
        masked, _, name = self.config.training.select_by.rpartition(".")
        return line["valid_masked" if masked else "valid"][name]

    def _save(self) -> None:
        moments = {
            f"{number}.{index}.{name}": torch.as_tensor(value)
            for number, optimizer in enumerate(self.optimizers)
            for index, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        tensors = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": moments,
            "state": self.objective.state,
            "generator": {name: generator.get_state() for name, generator in self._generators().items()},
        }
        checkpoint.write_checkpoint(self.folder, tensors, {"history": self.history, "stretches": self.stretches})
        checkpoint.write_history(self.folder, self.history)

    def _restore(self) -> None:
        path = self.folder / checkpoint.CHECKPOINT
        if not path.exists():
            return
        tensors, state = checkpoint.read_checkpoint(self.folder)
        self.history, self.stretches = state["history"], state.get("stretches", [{"from_epoch": 1}])
        checkpoint.write_history(self.folder, self.history)
        checkpoint.load_weights(self.model, tensors["model"], path)
        self.best = {name: value.to(self.device) for name, value in tensors["best"].items()}
        self.objective.state |= {name: value.to(self.device) for name, value in tensors["state"].items()}
        self._restore_generators(tensors["generator"])
        moments: list[dict[int, dict[str, Tensor | int]]] = [{} for _ in self.optimizers]
        for key, value in tensors["optimizer"].items():
            number, index, name = key.split(".")
            # SparseAdam counts its steps in an int, and would compute with a tensor in another precision.
            value = value if value.is_floating_point() else int(value)
            moments[int(number)].setdefault(int(index), {})[name] = value
        for optimizer, state in zip(self.optimizers, moments, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def _restore_generators(self, states: dict[str, Tensor]) -> None:
        """Go on with the random numbers of the checkpoint; if those are of another kind of device, with new ones that
        follow from the seed of the run and the number of the epoch."""
        anew = []
        for name, generator in self._generators().items():
            if name in states and states[name].shape == generator.get_state().shape:
                generator.set_state(states[name])
            else:
                generator.manual_seed(stream_seed(self.config.seed, name, self.epoch))
                anew.append(name)
        if anew:
            what = f"from epoch {self.epoch} on, it draws other random numbers ({', '.join(anew)}) than there"
            warnings.warn(f"{self.folder} continues on another kind of device: {what}.", Notice, stacklevel=2)

    def _generators(self) -> dict[str, torch.Generator]:
        return {"order": self.order, "selection": self.generator, **self.random.generators}
