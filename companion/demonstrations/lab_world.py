"""The small world of the lab's race: trained vectors, few enough to be sent to a reader, and the truth."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import Dataset, read_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle, WorldSizes, synthesise
from rodpo_lite.engine import stream_seed
from rodpo_lite.evaluation.ranking import encode_histories
from rodpo_lite.model.recommender import Recommender, eval_mode
from rodpo_lite.settings import build
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.trainer import Trainer

SIZES = WorldSizes(users=300, items=400, latent=6, phases=1, slate=60, mean_length=12.0, relevant_share=0.2)
EPOCHS = (6, 16, 48)  # of one training: the references, from one that has just learnt to one that memorises
LENGTH = 50  # most recent items that the encoder sees


@dataclass(frozen=True)
class Reference:
    """Item vectors [N, D], states of positions [P, D] and of the users' whole histories [U, D], rounded to 8 bits."""

    epochs: int
    vectors: Tensor
    states: Tensor
    last: Tensor

    def payload(self) -> dict[str, Any]:
        return {"epochs": self.epochs, **{name: _packed(getattr(self, name)) for name in ("vectors", "states", "last")}}


@dataclass(frozen=True)
class World:
    """User and positive of each position [P]; what users would like, and what is in the log [U, N]; the references."""

    user: np.ndarray
    positive: np.ndarray
    liked: np.ndarray
    owned: np.ndarray
    references: list[Reference]

    @classmethod
    def train(cls, folder: Path, seed: int, sizes: WorldSizes = SIZES, epochs: tuple[int, ...] = EPOCHS) -> "World":
        """Make a world in `folder`, train one model on its log, and keep it at these epochs."""
        dataset = read_dataset(synthesise(folder / "world", seed, sizes))
        liked = Oracle.of(dataset, folder / "world").relevance[:, 0]
        split, owned = leave_one_out(dataset), np.zeros_like(liked)
        for user, (start, end) in enumerate(zip(split.start, split.train_end)):
            owned[user, dataset.items[start:end]] = True
        batch = next(PackedSequences.for_training(dataset, LENGTH).epoch(len(dataset.items)))
        user, positive = batch.user_of_position.numpy(), dataset.items[batch.rows.numpy() + 1]
        references = []
        for epoch, model in _checkpoints(dataset, folder / "reference", seed, epochs):
            with eval_mode(model), torch.no_grad():
                encoding = model(batch)
            last = torch.empty(dataset.n_users, encoding.hidden.shape[1])
            for users, hidden, _ in encode_histories(model, dataset, split.start, split.train_end, LENGTH):
                last[users] = hidden
            tables = (encoding.vectors, encoding.hidden, last)
            references.append(Reference(epoch, *(_rounded(table) for table in tables)))
        return cls(user, positive, liked, owned, references)

    def payload(self) -> dict[str, Any]:
        """All of it as JSON: tables of bytes in base64, truth values eight to a byte."""
        (users, items), width = self.liked.shape, self.references[0].vectors.shape[1]
        numbers = {name: _text(getattr(self, name).astype("<u2")) for name in ("user", "positive")}
        truths = {name: _text(np.packbits(getattr(self, name))) for name in ("liked", "owned")}
        references = [reference.payload() for reference in self.references]
        return {"users": users, "items": items, "width": width, **numbers, **truths, "references": references}


def _checkpoints(dataset: Dataset, folder: Path, seed: int, epochs: Iterable[int]) -> Iterator[tuple[int, Recommender]]:
    """One training at a constant rate; yields the model as it is after each of these epochs."""
    encoder = {"width": 16, "dropout": 0.1, "max_length": LENGTH}
    training = {"epochs": max(epochs), "patience": max(epochs), "schedule": "constant", "batches_per_epoch": 16}
    training |= {"precision": "fp32", "device": "cpu"}
    config = build(ReferenceConfig, {"seed": seed, "encoder": encoder, "training": training})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "weights"))
        model = Recommender.for_dataset(config.encoder, dataset)
    objective = ReferenceObjective(model, dataset, config)
    trainer = Trainer(objective, dataset, config, folder, torch.Generator().manual_seed(seed))
    with trainer.random:
        trainer.start(resume=False)
        while not trainer.finished:
            for batch in trainer.batches():
                trainer.step(batch)
            trainer.end_epoch()
            if trainer.epoch - 1 in epochs:
                yield trainer.epoch - 1, model


def _unit(table: Tensor) -> float:
    return float(table.abs().max()) / 127


def _rounded(table: Tensor) -> Tensor:
    """A table as whole multiples of a 127th of its largest value, in double precision."""
    table = table.detach().double()
    return (table / _unit(table)).round() * _unit(table)


def _packed(table: Tensor) -> dict[str, Any]:
    unit = _unit(table)
    return {"unit": unit, "values": _text((table / unit).round().numpy().astype(np.int8))}


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
