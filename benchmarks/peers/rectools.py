"""RecTools' SASRecModel: its data preparator and Lightning module, its `recommend` and its NDCG."""
# ruff: noqa: E402

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/: this folder's files are named like what they import
from adapter import Run

run = Run(__doc__)
import warnings

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, calc_metrics
from rectools.models import SASRecModel

run.imported("rectools", "pytorch-lightning", "torch", "numpy")
import numpy as np
from clock import EpochClock, quiet
from protocol import left_padded

MAX_LENGTH = 50
LOSSES = {"full": ("softmax", 1), "sampled": ("sampled_softmax", 512), "bce": ("BCE", 1)}


class Model:
    def __init__(self, options, interactions) -> None:
        warnings.filterwarnings("ignore")
        torch.set_num_threads(options.threads)
        seed_everything(options.seed)
        loss, negatives = LOSSES[options.loss]
        # 128 users a batch, 1e-3 and dropout 0.2 are RecTools' defaults.
        batch, rate = options.batch_size or 128, options.learning_rate or 1e-3
        self.settings = {"batch_size": batch, "learning_rate": rate, "dropout": 0.2, "heads": 2, "loss": loss}
        self.targets = interactions.training_targets(MAX_LENGTH)
        self._interactions, self._quiet = interactions, quiet(options.precision)
        self._model = SASRecModel(
            n_blocks=2,
            n_heads=2,
            n_factors=64,
            session_max_len=MAX_LENGTH,
            loss=loss,
            n_negatives=negatives,
            batch_size=batch,
            lr=rate,
            get_trainer_func=lambda: Trainer(**self._quiet),  # a placeholder: `fit` brings its own
        )

    def fit(self, after_epoch, steps) -> None:
        limit = {"limit_train_batches": steps} if steps else {}
        # RecTools copies the trainer deeply; a closure is copied as itself, so that it still sees this object.
        self._model._trainer = Trainer(
            max_epochs=-1, callbacks=[Clock(lambda s: after_epoch(s))], **limit, **self._quiet
        )
        self._model.fit(frame(self._interactions.training))

    def scores(self, histories) -> np.ndarray:
        lightning = self._model.lightning_model
        torch_model, ids = lightning.torch_model, self._model.data_preparator.item_id_map
        known = np.array(ids.external_ids[1:], dtype=np.int64)  # items that never occur in training have no vector
        column = np.zeros(self._interactions.n_items, dtype=np.int64)
        column[known] = np.arange(1, len(known) + 1)
        seen = [column[history] for history in histories]
        was_training = torch_model.training
        torch_model.eval()
        with torch.no_grad():
            vectors = torch_model.item_model.get_all_embeddings()
            rows = left_padded([row[row > 0] for row in seen], MAX_LENGTH, padding=0)
            hidden = torch_model.encode_sessions({"x": torch.from_numpy(rows)}, vectors)[:, -1]
            scores = (hidden @ vectors.T).numpy()
        torch_model.train(was_training)
        return np.where(column > 0, scores[:, column], -np.inf)

    def evaluate(self) -> float:
        users = np.arange(len(self._interactions.sequences))
        history = frame(self._interactions.histories("test"))
        top = self._model.recommend(users, history, k=10, filter_viewed=True)
        test = pd.DataFrame({Columns.User: users, Columns.Item: self._interactions.targets("test")})
        return float(calc_metrics({"ndcg": NDCG(k=10, divide_by_achievable=True)}, top, test)["ndcg"])


class Clock(EpochClock, Callback):
    pass


def frame(sequences) -> Dataset:
    """RecTools' dataset; the position stands for the time, because days tie."""
    lengths = [len(sequence) for sequence in sequences]
    table = {
        Columns.User: np.repeat(np.arange(len(sequences)), lengths),
        Columns.Item: np.concatenate(sequences),
        Columns.Weight: 1,
        Columns.Datetime: np.concatenate([np.arange(length) for length in lengths]).astype("datetime64[s]"),
    }
    return Dataset.construct(pd.DataFrame(table))


if __name__ == "__main__":
    run.measure(Model)
