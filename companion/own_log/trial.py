"""A trial of alignment on one's own log: references, alignments and baselines in one folder, each stage resumable.

In the folder, `<model>-<seed>` is a run folder, and `<baseline>.parquet` holds the ranks of a baseline.
Test ranks are written for the models that are asked for and for no others.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rodpo_lite import files
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import Part
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import baselines, metrics
from rodpo_lite.sampling.candidates import OwnedItems
from rodpo_lite.settings import build, read_preset
from rodpo_lite.training import checkpoint, results, runs

REFERENCE, SMOOTHED, ROWS = "reference", "smoothed", ("none", "uniform", "hard", "topk")
SMOOTHING = 0.1  # what a search on Toys chose, on the page *The base*; Szegedy et al. 2016 took the same
SHARE = 20  # of a small catalogue the pool holds one item in so many
SEEDS = (1, 2, 3, 4, 5)
SMALL = 100_000  # interactions; on fewer, a reference trains to the end of the decay of its rate in
SHORT = (
    12  # epochs. Those of the default stop before: on a world of 1,000 users they validate at .073, and these at .077
)
QUICK = {"reference": 8, "alignment": 2}  # epochs
SAMPLE = 20_000  # interactions of the users by which the time of an epoch is measured
ALIGNED = 1.5  # what an epoch of alignment takes, in epochs of a reference: two models score


def recommended(dataset: Dataset) -> dict[str, Any]:
    """The preset of that name, with a pool that suits the catalogue.

    Where a user has every item, own items may be rejected, as nothing else is left.
    """
    preset, taken = read_preset("recommended"), int(OwnedItems.in_training(dataset).offsets.diff().max())
    preset["negatives"] = {
        "k": max(1, min(preset["negatives"]["k"], dataset.n_items // SHARE)),
        "exclude": "train" if taken < dataset.n_items else "none",
    }
    return preset


@dataclass(frozen=True)
class Trial:
    """What is trained where: seeds, the settings of references and of alignments, which differ in what they reject.

    `smoothed` is a reference with label smoothing that trains for as many epochs as reference and alignment together.
    data: the folder of the dataset. folder: of what is trained.
    """

    dataset: Dataset
    data: Path
    folder: Path
    seeds: tuple[int, ...]
    reference: dict[str, Any]
    alignment: dict[str, Any]

    @classmethod
    def plan(cls, dataset: Dataset, data: Path, folder: Path, quick: bool = False) -> "Trial":
        """Five seeds in full; `quick` is one seed for a few epochs, which decides nothing.

        Raises InputError if there is nothing to compare: a single user or a single item.
        """
        for count, what in ((dataset.n_users, "user"), (dataset.n_items, "item")):
            if count == 1:
                raise InputError(f"{dataset.name} has a single {what}, so that there is nothing to compare.")
        reference, alignment = {"training": {"select_by": "masked.ndcg@5"}}, recommended(dataset)
        if len(dataset.items) < SMALL:
            reference["training"] |= {"epochs": SHORT, "patience": SHORT}
        if quick:
            reference["training"]["epochs"], alignment["training"]["epochs"] = QUICK["reference"], QUICK["alignment"]
        return cls(dataset, data, folder, (1,) if quick else SEEDS, reference, alignment)

    @property
    def baselines(self) -> tuple[str, ...]:
        """Those that the dataset has the features for."""
        return tuple(name for name in baselines.NAMES if name != "content_knn" or self.dataset.features)

    def run_folders(self, model: str) -> list[Path]:
        """The run folder of each seed of a model."""
        return [self.folder / f"{model}-{seed}" for seed in self.seeds]

    def left(self) -> float:
        """How many epochs of one seed are left, at most, an alignment's counting as so many of a reference."""
        reference = self._reference(self.seeds[0]).training.epochs
        alignment = ALIGNED * self._alignment("topk", self.seeds[0]).training.epochs
        smoothed = self._smoothed(self.seeds[0]).training.epochs
        epochs = {REFERENCE: reference, SMOOTHED: smoothed, **dict.fromkeys(ROWS, alignment)}
        folders = ((name, folder) for name in epochs for folder in self.run_folders(name))
        return sum(epochs[name] for name, folder in folders if not (folder / checkpoint.MODEL).exists())

    def epoch_seconds(self) -> float:
        """About how long an epoch of a reference takes, by one on a sample of the users."""
        dataset = self.dataset
        users = min(dataset.n_users, max(10, int(np.searchsorted(dataset.offsets, SAMPLE))))
        end = dataset.offsets[users]
        some = replace(
            dataset, offsets=dataset.offsets[: users + 1], items=dataset.items[:end],
            timestamps=dataset.timestamps[:end],
        )  # fmt: skip
        share = end / len(dataset.items)
        batches = max(1, round(share * self._reference(self.seeds[0]).training.batches_per_epoch))
        training = self.reference.get("training", {}) | {"epochs": 1, "batches_per_epoch": batches}
        config = build(ReferenceConfig, self.reference | {"training": training})
        with tempfile.TemporaryDirectory(prefix="rodpo-") as place:
            runs.train(some, config, Path(place) / "run", report=_silent, progress=_no_bar)
            return checkpoint.read_history(Path(place) / "run")[0]["epoch_seconds"] / share

    def run(self) -> Iterator[str]:
        """Do what is not done yet, and yield what each stage did when it is done."""
        for name in self.baselines:
            self._baseline(name)
            yield name
        references = self.run_folders(REFERENCE)
        for name, settings in ((REFERENCE, self._reference), (SMOOTHED, self._smoothed)):
            configs = [settings(seed) for seed in self.seeds]
            runs.train_seeds(self.dataset, configs, self.run_folders(name), resume=True, report=_silent)
            yield name
        for name in ROWS:
            configs = [self._alignment(name, seed) for seed in self.seeds]
            runs.align_seeds(self.dataset, references, configs, self.run_folders(name), resume=True, report=_silent)
            yield name

    def ndcg(self, model: str, part: Part, history: bool = False) -> np.ndarray:
        """NDCG@5 of each seed and user, [S, U], or [1, U] of a baseline; history: with the history ranked, too."""
        column = "rank" if history else "rank_masked"
        if model in self.baselines:
            return metrics.ndcg(self._baseline(model)[f"{part}_{column}"].to_numpy())[None]
        return np.stack(
            [metrics.ndcg(self._ranks(folder, part)[column].to_numpy()) for folder in self.run_folders(model)]
        )

    def seconds(self, model: str) -> float:
        """What training took, a seed; 0 of a baseline. Several train side by side, so an epoch's seconds are of all."""
        if model in self.baselines:
            return 0.0
        return float(np.mean([files.read_json(folder / "run.json")["seconds"] for folder in self.run_folders(model)]))

    def best_run(self, model: str) -> Path:
        """Of a model's seeds the one that validates best."""
        return self.run_folders(model)[int(self.ndcg(model, "valid").mean(1).argmax())]

    def _reference(self, seed: int) -> ReferenceConfig:
        return build(ReferenceConfig, self.reference | {"seed": seed})

    def _smoothed(self, seed: int) -> ReferenceConfig:
        plain, longer = self._reference(seed), self._alignment("topk", seed).training.epochs
        training = self.reference.get("training", {}) | {"epochs": plain.training.epochs + longer}
        return build(
            ReferenceConfig, self.reference | {"seed": seed, "label_smoothing": SMOOTHING, "training": training}
        )

    def _alignment(self, name: str, seed: int) -> AlignmentConfig:
        negatives = self.alignment.get("negatives", {}) | {"name": name}
        return build(AlignmentConfig, self.alignment | {"seed": seed, "negatives": negatives})

    def _ranks(self, folder: Path, part: Part) -> pd.DataFrame:
        path = folder / ("ranks.parquet" if part == "test" else "ranks_valid.parquet")
        if not path.exists():
            results.evaluate(self.dataset, folder, part)
        return pd.read_parquet(path)

    def _baseline(self, name: str) -> pd.DataFrame:
        """Ranks on both parts, with the decay that validates best with the history dropped."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            best, _ = baselines.choose(self.dataset, name, history=False)
            parts = {part: baselines.rank(self.dataset, best, part) for part in ("valid", "test")}
            table = pd.concat([ranks.table().add_prefix(f"{part}_") for part, ranks in parts.items()], axis=1)
            files.write_bytes(path, table.to_parquet(index=False, compression="zstd"))
        return pd.read_parquet(path)


def _silent(line: dict[str, Any]) -> None:
    """Report no epoch: five seeds have a line each."""


def _no_bar(steps: Any, **options: Any) -> Any:
    return steps
