"""RecBole's SASRec: its dataset, its trainer's epoch, its full-sort evaluation."""
# ruff: noqa: E402

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/: this folder's files are named like what they import
from adapter import Run

run = Run(__doc__)
import itertools
import os
import tempfile
import time

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

run.imported("recbole", "torch", "numpy")
import numpy as np

MAX_LENGTH = 50
# Everything that is not here is RecBole's default: 2 blocks, width 64, 2 heads, feed-forward 256, dropout 0.5, Adam.
SETTINGS = {
    "dataset": "interactions",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": MAX_LENGTH,
    "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
    "train_neg_sample_args": None,  # the cross-entropy needs none
    "metrics": ["NDCG"],
    "topk": [10],
    "metric_decimal_place": 6,
    "valid_metric": "NDCG@10",
    "use_gpu": False,
    "show_progress": False,
}


class Model:
    def __init__(self, options, interactions) -> None:
        torch.set_num_threads(options.threads)
        self._folder = tempfile.TemporaryDirectory()
        os.chdir(self._folder.name)  # RecBole writes logs and checkpoints where it stands
        # 2,048 targets a batch and 1e-3 are RecBole's defaults.
        batch, rate = options.batch_size or 2048, options.learning_rate or 1e-3
        self.settings = {"batch_size": batch, "learning_rate": rate, "dropout": 0.5, "heads": 2}
        chosen = {"train_batch_size": batch, "learning_rate": rate, "seed": options.seed}
        chosen["enable_amp"] = options.precision == "bf16"
        config = Config("SASRec", config_dict=SETTINGS | chosen | {"data_path": write(interactions)})
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        self._train, _, self._test = data_preparation(config, dataset)
        self.targets = len(self._train.dataset)  # one sequence for each target: prefixes are separate rows
        self._model = SASRec(config, self._train.dataset)
        self._trainer = Trainer(config, self._model)
        tokens = dataset.field2id_token["item_id"][1:].astype(int)  # their id 1, 2, … → ours
        self._column = np.empty(len(tokens), dtype=np.int64)
        self._column[tokens] = np.arange(1, len(tokens) + 1)  # ours → theirs

    def fit(self, after_epoch, steps) -> None:
        # Trainer.fit is a loop around _train_epoch that also evaluates and saves; the epoch alone is what we time.
        for epoch in itertools.count():
            began = time.perf_counter()
            self._trainer._train_epoch(itertools.islice(self._train, steps) if steps else self._train, epoch)
            if after_epoch(time.perf_counter() - began):
                return

    def scores(self, histories) -> np.ndarray:
        rows = np.zeros((len(histories), MAX_LENGTH), dtype=np.int64)
        lengths = np.array([min(len(history), MAX_LENGTH) for history in histories])
        for row, history, length in zip(rows, histories, lengths):
            row[:length] = self._column[history[-length:]]  # RecBole pads on the right
        batch = Interaction({"item_id_list": torch.from_numpy(rows), "item_length": torch.from_numpy(lengths)})
        self._model.eval()
        with torch.no_grad():
            return self._model.full_sort_predict(batch).numpy()[:, self._column]

    def evaluate(self) -> float:
        return float(self._trainer.evaluate(self._test, load_best_model=False)["ndcg@10"])


def write(interactions) -> str:
    """RecBole's atomic file; the position stands for the time, because days tie."""
    folder = Path("data/interactions")
    folder.mkdir(parents=True)
    with (folder / "interactions.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, sequence in enumerate(interactions.sequences):
            file.writelines(f"{user}\t{item}\t{position}\n" for position, item in enumerate(sequence))
    return "data"


if __name__ == "__main__":
    run.measure(
        Model,
        lacks={
            "sampled": "RecBole's SASRec has no sampled softmax",
            "bce": "RecBole's SASRec has cross-entropy and BPR, no binary cross-entropy",
        },
    )
