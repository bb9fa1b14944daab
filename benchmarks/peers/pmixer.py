"""pmixer/SASRec.pytorch, from a source folder (python/ of its repository) that PMIXER_SOURCE names.

It is no package: this is the loop of its main.py, over its sampler and its model, without the printing.
"""
# ruff: noqa: E402

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/: this folder's files are named like what they import
from adapter import Run

run = Run(__doc__)
SOURCE = os.environ.get("PMIXER_SOURCE")
if not SOURCE:
    run.refuse("PMIXER_SOURCE does not name a checkout of pmixer/SASRec.pytorch (its folder python/)")
sys.path.insert(0, SOURCE)
import time
from argparse import Namespace

import torch
from model import SASRec
from utils import WarpSampler

run.imported("torch", "numpy")
import numpy as np
from protocol import left_padded

MAX_LENGTH = 50


class Model:
    def __init__(self, options, interactions) -> None:
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        np.random.seed(options.seed)  # noqa: NPY002 (its sampler draws from it)
        # 128 users a batch, 1e-3, dropout 0.2 and three sampling processes are its defaults; one head is, too.
        batch, rate = options.batch_size or 128, options.learning_rate or 1e-3
        self.settings = {"batch_size": batch, "learning_rate": rate, "dropout": 0.2, "heads": 2}
        self.targets = interactions.training_targets(MAX_LENGTH)
        users, items = len(interactions.sequences), interactions.n_items
        train = {user + 1: list(map(int, sequence + 1)) for user, sequence in enumerate(interactions.training)}
        self._sampler = WarpSampler(train, users, items, batch_size=batch, maxlen=MAX_LENGTH, n_workers=3)
        self._batches = (users - 1) // batch + 1
        shape = Namespace(hidden_units=64, num_blocks=2, num_heads=2, dropout_rate=0.2, maxlen=MAX_LENGTH)
        shape.device, shape.norm_first = "cpu", False
        self._model = SASRec(users, items, shape)
        for parameter in self._model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.xavier_normal_(parameter.data)
        self._model.pos_emb.weight.data[0] = self._model.item_emb.weight.data[0] = 0
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=rate, betas=(0.9, 0.98))

    def fit(self, after_epoch, steps) -> None:
        criterion, stop = torch.nn.BCEWithLogitsLoss(), False
        while not stop:
            began = time.perf_counter()
            self._model.train()
            for _ in range(steps or self._batches):
                users, inputs, positives, negatives = map(np.array, self._sampler.next_batch())
                positive, negative = self._model(users, inputs, positives, negatives)
                real = np.where(positives != 0)
                self._optimizer.zero_grad()
                loss = criterion(positive[real], torch.ones_like(positive[real]))
                loss = loss + criterion(negative[real], torch.zeros_like(negative[real]))
                loss.backward()
                self._optimizer.step()
            stop = after_epoch(time.perf_counter() - began)
        self._sampler.close()

    def scores(self, histories) -> np.ndarray:
        rows = left_padded(histories, MAX_LENGTH, padding=0, shift=1)
        self._model.eval()
        with torch.no_grad():
            return self._model.predict(None, rows, np.arange(1, self._model.item_num + 1)).numpy()


if __name__ == "__main__":
    run.measure(
        Model,
        lacks={
            "full": "pmixer's SASRec has binary cross-entropy alone",
            "sampled": "pmixer's SASRec has binary cross-entropy alone",
            "bf16": "pmixer's SASRec has no mixed precision",
            "evaluate": "its own evaluation ranks against 100 sampled items, not the catalogue",
        },
    )
