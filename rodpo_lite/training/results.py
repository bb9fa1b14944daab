"""Evaluate finished runs and baselines: ranks and metrics of the held-out items, drift of false negatives."""

import time
from pathlib import Path
from typing import Any

import pandas as pd

from rodpo_lite import files
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset, sha256
from rodpo_lite.data.split import Part
from rodpo_lite.engine import best_device
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import baselines, metrics
from rodpo_lite.evaluation.ranking import rank_dataset
from rodpo_lite.mechanism.drift import drift_report
from rodpo_lite.provenance import commit, versions
from rodpo_lite.settings import build, identity
from rodpo_lite.training import checkpoint
from rodpo_lite.training.runs import load


def evaluate(dataset: Dataset, folder: Path, part: Part = "test") -> dict[str, Any]:
    """Rank every user's `part` target and write metrics.json and ranks.parquet (`_valid` for validation).

    Return {"unmasked": metrics, "masked": metrics, ...}, `weights` being the checksum of those that were evaluated.
    """
    run = load(folder, dataset, best_device())
    started = time.perf_counter()
    try:
        ranks = rank_dataset(run.model, dataset, part, run.encoder.max_length)
    except ValueError as error:
        raise InputError(f"The run {folder} cannot be evaluated: {error}.") from None
    result = {
        "split": part,
        "config_hash": run.id,
        "weights": sha256(run.folder / checkpoint.MODEL),
        "dataset": dataset.name,
        "n_users": dataset.n_users,
        "unmasked": metrics.from_ranks(ranks.unmasked),
        "masked": metrics.from_ranks(ranks.masked),
        "seconds": round(time.perf_counter() - started, 3),
    }
    suffix = "" if part == "test" else "_valid"
    table = ranks.table().to_parquet(index=False, compression="zstd")
    files.write_bytes(run.folder / f"ranks{suffix}.parquet", table)
    files.write_json(run.folder / f"metrics{suffix}.json", result)
    return result


def evaluate_baseline(dataset: Dataset, name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Rank every user by a baseline whose decay is chosen on validation; returns its record and its test ranks."""
    started = time.perf_counter()
    config, tried = baselines.choose(dataset, name)
    parts = {part: baselines.rank(dataset, config, part) for part in ("valid", "test")}
    record = {
        "config_hash": identity(config, checksums=dataset.description["checksums"]),
        "stage": config.stage,
        "seed": 0,
        "config": config.model_dump(mode="json"),
        "dataset": dataset.description,
        "tried": [{"decay": decay, "valid": value} for decay, value in tried.items()],
        "seconds": round(time.perf_counter() - started, 1),
        "commit": commit(),
        "versions": versions(),
    }
    for part, ranks in parts.items():
        record |= {part: metrics.from_ranks(ranks.unmasked), f"{part}_masked": metrics.from_ranks(ranks.masked)}
    return record, parts["test"].table()


def drift(dataset: Dataset, folder: Path, against: Path, planted: Planted | None = None) -> dict[str, Any]:
    """Write drift.json: how far false negatives moved from the run `against` to the alignment `folder`.

    Return what it holds, with the checksum of the alignment's weights. Raises InputError if `folder` is a reference.
    """
    device = best_device()
    run, before = load(folder, dataset, device), load(against, dataset, device)
    if run.record.get("stage") != "align":
        raise InputError(f"The run {folder} is a reference; drift is measured on an alignment.")
    exclude = build(AlignmentConfig, run.record.get("config")).negatives.exclude
    planted = planted.to(device) if planted else None
    result = {
        "against": before.id,
        "weights": sha256(run.folder / checkpoint.MODEL),
        "exclude": exclude,
        "commit": commit(),
        **drift_report(run.model, before.model, dataset, run.encoder.max_length, exclude, planted),
    }
    files.write_json(run.folder / "drift.json", result)
    return result
