"""RePlay's SasRec: its Parquet loader, its Lightning module, its metrics callback.

Two ways of the full cross-entropy: by default `LogInCE` with length bucketing, RePlay's fastest, which scores real
positions alone; `--variant ce` is `CE`, the loss of `SasRec.from_params`, which scores padding as well. With one
positive a position the two have the same value.
"""
# ruff: noqa: E402

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/: this folder's files are named like what they import
from adapter import Run

run = Run(__doc__)
import warnings

warnings.filterwarnings("ignore")
import lightning
import torch
from replay.data import FeatureHint, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorSchema
from replay.nn import loss, transform
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import ComputeMetricsCallback
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential import LengthBucketedQueryEncoder, SasRec

run.imported("replay-rec", "lightning", "torch", "numpy")
import tempfile

import numpy as np
import pyarrow
import pyarrow.parquet
from clock import EpochClock, quiet
from protocol import left_padded

MAX_LENGTH = 50
NEGATIVES = 512
# RePlay has no default batch size. Seconds of an epoch on two cores: `full` 31 at 32 or 64 users a batch, 47 at 128 or
# 256; `sampled` 9.0 at 128, 8.0 at 256, 6.6 at 512 in a quarter of the steps, which `replay-512` measures.
BATCH = {"full": 64, "sampled": 128, "bce": 128}


class Model:
    def __init__(self, options, interactions) -> None:
        torch.set_num_threads(options.threads)
        lightning.seed_everything(options.seed)
        self._folder, self._interactions, n_items = tempfile.TemporaryDirectory(), interactions, interactions.n_items
        self._batch, rate = options.batch_size or BATCH[options.loss], options.learning_rate or 1e-3
        # Bucketing fails in bf16, on mismatched types.
        bucket = 0 if options.variant == "ce" or options.precision == "bf16" else min(self._batch // 4, 64)
        self._quiet = quiet(options.precision)
        self.settings = {"batch_size": self._batch, "learning_rate": rate, "dropout": 0.3, "heads": 2, "bucket": bucket}
        self.targets = interactions.training_targets(MAX_LENGTH)
        item = TensorFeatureInfo(
            "item_id",
            FeatureType.CATEGORICAL,
            is_seq=True,
            feature_hint=FeatureHint.ITEM_ID,
            cardinality=n_items,
            padding_value=n_items,
            embedding_dim=64,
        )
        # Learning rate 1e-3 and dropout 0.3 are RePlay's defaults.
        self._model = SasRec.from_params(TensorSchema([item]), 64, num_heads=2, max_sequence_length=MAX_LENGTH)
        if options.loss != "full":
            self._model.loss = {"sampled": loss.CESampled, "bce": loss.BCESampled}[options.loss]()
        elif options.variant != "ce":
            self._model.loss = loss.LogInCE(n_items)
        self._model.loss.logits_callback = self._model.get_logits
        self.settings["loss"] = type(self._model.loss).__name__
        if bucket:
            self._model.body.encoder = LengthBucketedQueryEncoder(self._model.body.encoder, bucket)
        self._module = LightningModule(self._model)
        self._train = self._data("train", training_transforms(options.loss, n_items), interactions.training)

    def fit(self, after_epoch, steps) -> None:
        limit = {"limit_train_batches": steps} if steps else {}
        limit |= {"max_epochs": -1, "limit_val_batches": 0}
        trainer = lightning.Trainer(callbacks=[Clock(after_epoch)], **limit, **self._quiet)
        trainer.fit(self._module, self._train)

    def scores(self, histories) -> np.ndarray:
        n_items, was_training = self._interactions.n_items, self._model.training
        rows = torch.from_numpy(left_padded(histories, MAX_LENGTH, padding=n_items))
        self._model.eval()
        with torch.no_grad():
            scores = self._model({"item_id": rows}, rows != n_items)["logits"].numpy()
        self._model.train(was_training)
        return scores

    def evaluate(self) -> float:
        n_items, histories = self._interactions.n_items, self._interactions.histories("test")
        transforms = [
            transform.RenameTransform({"item_id_mask": "padding_mask"}),
            transform.AdaptiveTrimTransform("item_id"),
            transform.GroupTransform({"feature_tensors": ["item_id"]}),
        ]
        targets = self._interactions.targets("test")[:, None]
        data = self._data("test", transforms, histories, seen_ids=histories, ground_truth=list(targets))
        metrics = ComputeMetricsCallback(["ndcg"], [10], [SeenItemsFilter(n_items)], n_items, verbose=False)
        trainer = lightning.Trainer(callbacks=[metrics], **self._quiet)
        return trainer.test(self._module, data, verbose=False)[0]["ndcg@10"]

    def _data(self, stage, transforms, item_id, **more) -> ParquetModule:
        """RePlay's loader over one file with a row for each user."""
        columns = {"item_id": item_id} | more
        path = f"{self._folder.name}/{stage}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({name: [*map(list, rows)] for name, rows in columns.items()}), path)
        longest = max(map(len, item_id))
        # One input more than the model sees: the next-token transform splits it into inputs and targets.
        shapes = {"item_id": MAX_LENGTH + (stage == "train"), "seen_ids": longest, "ground_truth": 1}
        padding = {"item_id": self._interactions.n_items, "seen_ids": -1, "ground_truth": -1}
        metadata = {name: {"shape": shapes[name], "padding": padding[name]} for name in columns}
        return ParquetModule(self._batch, {stage: metadata}, {stage: transforms}, **{f"{stage}_path": path})


class NegativePerPosition(torch.nn.Module):
    """One uniform negative for each position [B, T, 1]; RePlay's own transform draws one for the whole batch."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self._n_items = n_items

    def forward(self, batch):
        return batch | {"negative_labels": torch.randint(self._n_items, batch["positive_labels"].shape)}


def training_transforms(loss_name: str, n_items: int) -> list[torch.nn.Module]:
    """RePlay's template for SasRec, with its trimming of the padding that a whole batch shares, and negatives."""
    negatives = {
        "full": [],
        "sampled": [transform.UniformNegativeSamplingTransform(n_items, NEGATIVES)],
        "bce": [NegativePerPosition(n_items)],
    }
    return [
        transform.NextTokenTransform("item_id"),
        transform.RenameTransform({"item_id_mask": "padding_mask", "positive_labels_mask": "target_padding_mask"}),
        transform.TargetAwareAdaptiveTrimTransform(["item_id", "positive_labels"]),
        transform.UnsqueezeTransform("target_padding_mask", -1),
        transform.UnsqueezeTransform("positive_labels", -1),
        *negatives[loss_name],
        transform.GroupTransform({"feature_tensors": ["item_id"]}),
    ]


class Clock(EpochClock, lightning.Callback):
    pass


if __name__ == "__main__":
    run.measure(Model)
