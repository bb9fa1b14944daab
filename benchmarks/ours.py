"""The adapter of this project: its trainer, its ranking, IDs only, as the libraries beside it."""
# ruff: noqa: E402

from adapter import Run

run = Run(__doc__)
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.trainer import Trainer

run.imported("rodpo-lite", "torch", "numpy")
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import read_dataset, write_dataset
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.ranking import rank_dataset
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.settings import build

# Chosen by validation NDCG@10 after so many seconds; the epochs are the length of the cosine.
QUALITY = {"batches_per_epoch": 96, "learning_rate": 2.5e-3, "id_learning_rate": 6, "epochs": 6, "patience": 6}
QUALITY_SAMPLED = {"sampled": 2048, "sampled_exponent": 0.5}
DROPOUT = {"quality": 0.1, "epoch": 0.2, "evaluate": 0.2}


class Reached(Exception):
    """Enough epochs."""


class Model:
    def __init__(self, options, interactions) -> None:
        torch.set_num_threads(options.threads)
        self._folder = tempfile.TemporaryDirectory()
        self._dataset = read_dataset(_written(Path(self._folder.name) / "data", interactions))
        epochs = options.epochs or max(2, options.repeats)
        hurried = options.task == "quality" and not options.epochs
        training = dict(QUALITY) if hurried else {"epochs": epochs, "patience": 999}
        if (options.task, options.loss) == ("quality", "sampled"):
            training |= QUALITY_SAMPLED
        training |= {"loss": options.loss, "device": "cpu", "precision": options.precision}
        if options.batch_size:
            training["batches_per_epoch"] = max(1, len(interactions.sequences) // options.batch_size)
        if options.learning_rate:
            training["learning_rate"] = options.learning_rate
        dropout = EncoderConfig().dropout if options.epochs else DROPOUT[options.task]
        self._config = build(
            ReferenceConfig, {"seed": options.seed, "encoder": {"dropout": dropout}, "training": training}
        )
        torch.manual_seed(options.seed)
        self._model = Recommender.for_dataset(self._config.encoder, self._dataset)
        self.settings = {"dropout": dropout, "heads": self._config.encoder.heads, **training}
        self.targets = interactions.training_targets(self._model.max_length)

    def fit(self, after_epoch, steps) -> None:
        objective = ReferenceObjective(self._model, self._dataset, self._config, self._config.training.engine())

        def report(line) -> None:
            if after_epoch(line["epoch_seconds"]):
                raise Reached

        trainer = Trainer(
            objective, self._dataset, self._config, Path(self._folder.name),
            torch.Generator().manual_seed(self._config.seed), report=report,
            progress=lambda batches, **_: itertools.islice(batches, steps),
        )  # fmt: skip
        try:
            trainer.fit(resume=False)
        except Reached:
            pass

    @torch.no_grad()
    def scores(self, histories) -> np.ndarray:
        lengths = np.array([len(history) for history in histories])
        end = lengths.cumsum()
        sequences = PackedSequences(np.concatenate(histories), end - lengths, end, self._model.max_length)
        batch = next(sequences.epoch(float(end[-1])))
        self._model.eval()
        hidden, vectors, *_ = self._model(batch)
        scores = torch.empty(len(histories), len(vectors))
        scores[batch.users] = hidden[batch.last] @ vectors.T
        return scores.numpy()

    def evaluate(self) -> float:
        ranks = rank_dataset(self._model, self._dataset, "test", self._model.max_length)
        return metrics.from_ranks(ranks.masked)["ndcg@10"]


def _written(folder: Path, interactions) -> Path:
    rows = [
        (user, item, place) for user, items in enumerate(interactions.sequences) for place, item in enumerate(items)
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "position"])
    return write_dataset(folder, "benchmark", frame, pd.DataFrame({"item": range(interactions.n_items)}))


if __name__ == "__main__":
    run.measure(Model)
