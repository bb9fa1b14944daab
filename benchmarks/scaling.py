"""Our own cost: against plain products, by strategy and encoder, and over items, users, length, pool and seeds.

    python benchmarks/scaling.py cost --interactions beauty.csv

One line of JSON for each measurement: its curve, `of`, what was measured, at `x`, and the seconds of a step or of an
epoch. What is to be compared takes turns within one process, after a round that does not count.
"""
# ruff: noqa: E402

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CURVES = ("cost", "encoders", "inference", "items", "users", "length", "pool", "seeds")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("curves", choices=CURVES, nargs="+")
parser.add_argument("--interactions", type=Path, required=True, help="CSV file: user, item, position")
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--largest", type=float, default=1e6, help="items or seeds, for a check")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import numpy as np
import pandas as pd
import torch
from protocol import read_interactions

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.schema import Dataset, read_dataset, write_dataset
from rodpo_lite.data.synthetic import open_world
from rodpo_lite.engine import keep_freed_memory
from rodpo_lite.evaluation.ranking import rank_dataset
from rodpo_lite.losses.cross_entropy import full_cross_entropy
from rodpo_lite.model.capacity import dense_twin
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.provenance import versions
from rodpo_lite.settings import build, read_preset
from rodpo_lite.training.alignment import AlignmentObjective
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.replicas import fit_together
from rodpo_lite.training.trainer import Trainer

DEVICE = torch.device(options.device)
POSITIONS = 2_667  # of a step, as in Beauty at 48 batches an epoch
POOL = read_preset("recommended")["negatives"]["k"]  # what a user aligns with
STEPS = 12  # of a measurement that takes no whole epoch
FOLDER = tempfile.TemporaryDirectory()
Timed = Callable[[], float]


def dataset_of(sequences: list[np.ndarray], n_items: int, features: int = 0) -> Dataset:
    """Sequences as a dataset; `features` random numbers for each item in two modalities, for what they cost."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name)) / "data"
    lengths = [len(sequence) for sequence in sequences]
    user = np.arange(len(sequences)).repeat(lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    log = pd.DataFrame({"user": user, "item": np.concatenate(sequences), "position": position})
    found = read_dataset(write_dataset(folder, "benchmark", log, pd.DataFrame({"item": range(n_items)})))
    if features:
        random = np.random.default_rng(0)
        for name in ("text", "image"):
            found.features[name] = random.standard_normal((n_items, features), dtype=np.float32)
            found.present[name] = np.ones(n_items, dtype=bool)
    return found


def random_sequences(users: int, length: int, n_items: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return list(random.integers(n_items, size=(users, length)))


def reference(dataset: Dataset, encoder: dict | None = None, seed: int = 0, **training) -> Trainer:
    training["device"] = options.device
    config = build(ReferenceConfig, {"seed": seed, "encoder": encoder or {}, "training": training})
    torch.manual_seed(seed)
    model = Recommender.for_dataset(config.encoder, dataset).to(DEVICE)
    objective = ReferenceObjective(model, dataset, config, config.training.engine())
    return trainer(objective, dataset, config, torch.Generator(DEVICE).manual_seed(seed))


def alignment(dataset: Dataset, name: str, k: int = POOL, batches_per_epoch: int = 48) -> Trainer:
    training = {"batches_per_epoch": batches_per_epoch, "device": options.device}
    config = build(AlignmentConfig, {"training": training, "negatives": {"name": name, "k": k}})
    torch.manual_seed(0)
    policy, frozen = (Recommender.for_dataset(EncoderConfig(), dataset).to(DEVICE) for _ in range(2))
    frozen.load_state_dict(policy.state_dict())
    generator = torch.Generator(DEVICE).manual_seed(0)
    objective = AlignmentObjective(policy, frozen, dataset, config, generator, None, config.training.engine())
    return trainer(objective, dataset, config, generator)


def trainer(objective, dataset, config, generator) -> Trainer:
    return Trainer(objective, dataset, config, Path(tempfile.mkdtemp(dir=FOLDER.name)), generator)


def now() -> float:
    """Seconds on the clock when all that was asked of the device is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def epoch_of(of: Trainer, steps: int | None = None) -> Timed:
    """Seconds of an epoch, or of a step: the median of so many."""

    def timed() -> float:
        took, started = [], now()
        for batch in itertools.islice(of.batches(), steps):
            began = now() if steps else 0.0
            of.step(batch)
            took.append(now() - began if steps else 0.0)
        return float(np.median(took)) if steps else now() - started

    return timed


def products(of: Trainer, n_items: int, dtype: torch.dtype) -> Timed:
    """Seconds of the three products of a cross-entropy over an epoch's positions, as plain calls in blocks of 352."""
    hidden, vectors, scores = (
        torch.randn(shape, device=DEVICE).to(dtype) for shape in ((352, 64), (n_items, 64), (352, n_items))
    )
    blocks = -(-of.sequences.n_positions // 352)

    def timed() -> float:
        began = now()
        for _ in range(blocks):
            hidden @ vectors.T, scores @ vectors, scores.T @ hidden
        return now() - began

    return timed


def cross_entropy_alone(of: Trainer) -> Timed:
    """Seconds of the cross-entropy and its gradients over an epoch's positions, of made-up states."""
    count, n_items = round(of.batch_positions), of.dataset.n_items
    hidden = torch.randn(count, 64, device=DEVICE).requires_grad_()
    vectors = torch.randn(n_items, 64, device=DEVICE).mul_(0.1).requires_grad_()
    targets, objective = torch.randint(n_items, (count,), device=DEVICE), of.objective

    def timed() -> float:
        began = now()
        for _ in range(of.steps_per_epoch):
            full_cross_entropy(hidden, vectors, targets, objective.rows, dtype=objective.engine.dtype).backward()
        return now() - began

    return timed


def encoder_alone(of: Trainer) -> Timed:
    """Seconds of an epoch whose loss costs nothing."""
    of.objective.losses = lambda step, encoding: {"loss": encoding.hidden.mean()}
    return epoch_of(of)


def cost(beauty: Dataset) -> Iterator[tuple[str, float, Timed]]:
    plain = reference(beauty)
    yield "bf16 products", 0, products(plain, beauty.n_items, torch.bfloat16)
    yield "fp32 products", 0, products(plain, beauty.n_items, torch.float32)
    yield "reference", 0, epoch_of(plain)
    yield "reference, cross-entropy alone", 0, cross_entropy_alone(plain)
    yield "reference, encoder alone", 0, encoder_alone(reference(beauty))
    yield "reference, fp32", 0, epoch_of(reference(beauty, precision="fp32"))
    for name in ("none", "uniform", "hard", "topk", "topk_softmax", "dns"):
        yield f"alignment, {name}", 0, epoch_of(alignment(beauty, name))


def encoders(beauty: Dataset) -> Iterator[tuple[str, float, Timed]]:
    return ((name, 0, epoch_of(of)) for name, of in each_encoder(beauty))


def inference(beauty: Dataset) -> Iterator[tuple[str, float, Timed]]:
    return ((name, 0, ranking_by(of)) for name, of in each_encoder(beauty))


def each_encoder(beauty: Dataset) -> Iterator[tuple[str, Trainer]]:
    yield "linear", reference(beauty)
    for name in ("fusion", "feedforward"):
        sparse = EncoderConfig(**{name: "moe"})
        yield f"sparse {name}", reference(beauty, sparse.model_dump())
        yield f"dense twin of the {name}", reference(beauty, dense_twin(sparse).model_dump())


def ranking_by(of: Trainer) -> Timed:
    """Seconds until the validation item of every user is ranked among all items."""

    def timed() -> float:
        began = now()
        rank_dataset(of.model, of.dataset, "valid", of.model.max_length)
        return now() - began

    return timed


def items(_: Dataset) -> Iterator[tuple[str, float, Timed]]:
    for count in (10_000, 31_600, 100_000, 316_000, 1_000_000):
        if count <= options.largest:
            dataset = dataset_of(random_sequences(4_000, 12, count), count)
            batches = round(4_000 * 9 / POSITIONS)
            yield (
                "sampled softmax",
                count,
                epoch_of(reference(dataset, loss="sampled", batches_per_epoch=batches), STEPS),
            )
            if count <= 100_000:
                yield "full cross-entropy", count, epoch_of(reference(dataset, batches_per_epoch=batches), STEPS)


def users(beauty: Dataset) -> Iterator[tuple[str, float, Timed]]:
    sequences = np.split(beauty.items, beauty.offsets[1:-1])
    for share in (8, 4, 2, 1):
        some = sequences[: len(sequences) // share]
        yield "epoch", len(some), epoch_of(reference(dataset_of(some, beauty.n_items), batches_per_epoch=48 // share))


def length(_: Dataset) -> Iterator[tuple[str, float, Timed]]:
    for count in (12, 25, 50, 100, 200):
        dataset = dataset_of(random_sequences(40_000 // count, count + 3, 10_000), 10_000)
        of = reference(dataset, {"max_length": count}, batches_per_epoch=round(40_000 / POSITIONS), loss="sampled")
        yield "sampled softmax", count, epoch_of(of, STEPS)


def pool(beauty: Dataset) -> Iterator[tuple[str, float, Timed]]:
    yield "none", 0, epoch_of(alignment(beauty, "none"), STEPS)
    for k in (1, 5, 20, 50, 100, 200, 500, 1000, 2000, beauty.n_items):
        yield "topk", k, epoch_of(alignment(beauty, "topk", k), STEPS)


def seeds(_: Dataset) -> Iterator[tuple[str, float, Timed]]:
    world, _ = open_world("", 0)

    def run(together: bool, count: int) -> Timed:
        def timed() -> float:
            several = [reference(world, seed=seed, epochs=2) for seed in range(count)]
            began = now()
            if together:
                fit_together(several, resume=False)
            else:
                for one in several:
                    one.fit(resume=False)
            return (now() - began) / count

        return timed

    for count in (2, 5, 10):
        if count <= options.largest:
            yield "one after the other", count, run(False, count)
            yield "side by side", count, run(True, count)


def main() -> None:
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    interactions = read_interactions(options.interactions)
    print(json.dumps({"versions": versions()}), flush=True)
    for curve in options.curves:
        beauty = dataset_of(
            interactions.sequences, interactions.n_items, 64 if curve in ("encoders", "inference") else 0
        )
        measured = list(globals()[curve](beauty))
        for number in range(options.repeats + 1):
            for of, x, timed in measured:
                seconds = timed()
                if number:
                    print(json.dumps({"curve": curve, "of": of, "x": x, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
