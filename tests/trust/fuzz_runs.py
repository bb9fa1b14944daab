"""Run folders and ledgers whose files are broken, of another kind, or do not belong together."""

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from companion.evidence.ledger import Ledger
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.settings import build
from rodpo_lite.training import results, runs
from trust import fuzz_data, mutations
from trust.fuzz_data import TINY

ALIGN = build(
    AlignmentConfig, {"training": {"epochs": 2, "batches_per_epoch": 2}, "negatives": {"name": "srns", "candidates": 5}}
)
SENTINEL = "unpickled"


class Stop(BaseException):
    """A run is left unfinished."""


class Pickled:
    """What leaves a trace where it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def family(place: Path) -> Callable[[Path, random.Random], Callable]:
    whole = {"reference": place / "reference", "align": place / "align", "unfinished": place / "unfinished"}
    dataset = read_dataset(synthesise(place / "data", 1, WorldSizes(users=30, items=100, slate=20)))
    runs.train(dataset, TINY, whole["reference"])
    runs.align(dataset, whole["reference"], ALIGN, whole["align"])
    for name in ("reference", "align"):
        results.evaluate(dataset, whole[name])

    def stop(line: dict[str, Any]) -> None:
        raise Stop

    try:
        runs.align(dataset, whole["reference"], ALIGN, whole["unfinished"], report=stop)
    except Stop:
        assert (whole["unfinished"] / "checkpoint.safetensors").exists()

    def make(folder: Path, chance: random.Random) -> Callable:
        kind = chance.choice([*whole, "unfinished"])
        run, trace = shutil.copytree(whole[kind], folder / "run"), folder / SENTINEL
        for _ in range(chance.choice([1, 1, 2])):
            damage(run, chance, trace)

        def case() -> None:
            try:
                if kind == "unfinished":
                    runs.align(dataset, whole["reference"], ALIGN, run, resume=True)
                    return
                if chance.random() < 0.5:
                    results.evaluate(dataset, run)
                runs.load(run, dataset).history.mean()
                if kind == "align" and chance.random() < 0.3:
                    results.drift(dataset, run, whole["reference"])
                Ledger(folder / "ledger").enter_run(run)
                assert len(Ledger(folder / "ledger").records)
            finally:
                assert not trace.exists(), "a pickle was loaded"

        return case

    return make


def damage(run: Path, chance: random.Random, trace: Path) -> None:
    path = chance.choice(sorted(run.iterdir()))
    if path.suffix == ".safetensors" and chance.random() < 0.75:
        tensors(path, chance, trace)
    elif path.suffix == ".json" and chance.random() < 0.75:
        try:
            mutations.json_of(path, chance)
        except ValueError:
            return
    elif path.is_file():
        mutations.bytes_of(path, chance)


def tensors(path: Path, chance: random.Random, trace: Path) -> None:
    """A file of tensors that lacks one, has one of another shape or kind, says something else, or is a pickle."""
    if chance.random() < 0.15:
        path.write_bytes(pickle.dumps({"model": Pickled(trace)}))
        return
    try:
        found = load_file(path)
    except Exception:  # broken already
        return
    name, said = chance.choice(sorted(found)), {"state": json.dumps({"config_hash": "0", "history": []})}
    one = found.pop(name)
    with path.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    said = chance.choice(
        [head["__metadata__"], head["__metadata__"], head["__metadata__"], said, None, {"state": "[]"}]
    )
    if said and chance.random() < 0.3:
        said = {"state": json.dumps(mutations.value(json.loads(said["state"]), chance))}
    changed = [
        {}, {f"{name}x": one}, {name: one.to(torch.float64)}, {name: one.to(torch.int32)}, {name: one.flatten()},
        {name: one[..., :1].contiguous() if one.dim() else one[None]}, {name: one.float() * torch.nan},
        {name: torch.zeros(0)}, {name: one},
    ]  # fmt: skip
    save_file(found | chance.choice(changed), path, metadata=said)


def ledgers(place: Path) -> Callable[[Path, random.Random], Callable]:
    dataset = read_dataset(synthesise(place / "data", 1, WorldSizes(users=30, items=100, slate=20)))
    runs.train(dataset, TINY, place / "run")
    results.evaluate(dataset, place / "run")
    Ledger(place / "ledger").enter_run(place / "run")
    Ledger(place / "ledger").enter_users(dataset)

    def make(folder: Path, chance: random.Random) -> Callable:
        kept = shutil.copytree(place / "ledger", folder / "ledger")
        path = chance.choice(sorted(path for path in kept.rglob("*") if path.is_file()))
        if path.suffix == ".json" and chance.random() < 0.7:
            mutations.json_of(path, chance)
        elif path.suffix == ".parquet" and chance.random() < 0.7:
            fuzz_data.column_of(path, chance)
        else:
            mutations.bytes_of(path, chance)

        steps = [
            lambda: Ledger(kept).records,
            lambda: Ledger(kept).differing(),
            lambda: Ledger(kept).users(dataset.name),
            lambda: Ledger(kept).enter_run(place / "run"),
        ]
        chance.shuffle(steps)  # what the first refuses does not reach the next

        def case() -> None:
            for step in steps:
                step()

        return case

    return make
