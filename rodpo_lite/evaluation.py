"""What is asked of finished runs: ranks and metrics, drift of false negatives, recommendations."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rodpo_lite import checkpoint, metrics
from rodpo_lite.config import AlignmentConfig, build
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import Part
from rodpo_lite.drift import drift_report
from rodpo_lite.engine import best_device
from rodpo_lite.errors import InputError, printable
from rodpo_lite.provenance import commit
from rodpo_lite.ranking import encode_histories, rank_dataset
from rodpo_lite.runs import load


def evaluate(dataset: Dataset, folder: Path, part: Part = "test") -> dict[str, Any]:
    """Rank every user's `part` target and write metrics.json and ranks.parquet (`_valid` for validation).

    Returns {"unmasked": metrics, "masked": metrics, ...}; ranks.parquet has columns user, rank, rank_masked (from 0).
    """
    run = load(folder, dataset, best_device())
    started = time.perf_counter()
    try:
        ranks = rank_dataset(run.model, dataset, part, run.encoder.max_length)
    except ValueError as error:
        raise InputError(f"The run {folder} cannot be evaluated: {error}.") from None
    found = {
        "split": part,
        "config_hash": run.id,
        "dataset": dataset.name,
        "n_users": dataset.n_users,
        "unmasked": metrics.from_ranks(ranks.unmasked),
        "masked": metrics.from_ranks(ranks.masked),
        "seconds": round(time.perf_counter() - started, 3),
    }
    suffix = "" if part == "test" else "_valid"
    frame = pd.DataFrame({"user": np.arange(dataset.n_users), "rank": ranks.unmasked, "rank_masked": ranks.masked})
    stream = io.BytesIO()
    frame.astype(np.int32).to_parquet(stream, index=False, compression="zstd")
    checkpoint.write_bytes(run.folder / f"ranks{suffix}.parquet", stream.getvalue())
    checkpoint.write_json(run.folder / f"metrics{suffix}.json", found)
    return found


def drift(dataset: Dataset, folder: Path, against: Path, planted: Planted | None = None) -> dict[str, Any]:
    """Write drift.json: how far false negatives moved from the run `against` to the alignment `folder`.

    Raises InputError if `folder` is a reference: nothing was rejected there.
    """
    device = best_device()
    run, before = load(folder, dataset, device), load(against, dataset, device)
    if run.record.get("stage") != "align":
        raise InputError(f"The run {folder} is a reference; drift is asked of an alignment.")
    exclude = build(AlignmentConfig, run.record.get("config")).negatives.exclude
    hidden = planted.to(device) if planted else None
    found = {"against": before.id, "exclude": exclude, "commit": commit()}
    found |= drift_report(run.model, before.model, dataset, run.encoder.max_length, exclude, hidden)
    checkpoint.write_json(run.folder / "drift.json", found)
    return found


@torch.no_grad()
def recommend(dataset: Dataset, folder: Path, user: int, top: int = 10) -> pd.DataFrame:
    """The `top` items for a user after their whole history, which is left out; columns item (its id), title, score."""
    if not 0 <= user < dataset.n_users:
        raise InputError(f"There is no user {user}: {dataset.name} has users 0 to {dataset.n_users - 1}.")
    if not 1 <= top <= dataset.n_items:
        raise InputError(f"--top {top} is out of range: {dataset.name} has {dataset.n_items} items.")
    run = load(folder, dataset)
    start, end = dataset.offsets[:-1].copy(), dataset.offsets[1:].copy()
    end[np.arange(dataset.n_users) != user] = start[np.arange(dataset.n_users) != user]
    (_, hidden, vectors), *_ = encode_histories(run.model, dataset, start, end, run.encoder.max_length)
    scores = (hidden @ vectors.T).squeeze(0)
    scores[torch.as_tensor(dataset.items[start[user] : end[user]])] = -torch.inf
    best = scores.topk(min(top, int(torch.isfinite(scores).sum())))
    items = best.indices.tolist()
    ids, titles = ([printable(names[item])[:80] for item in items] for names in (dataset.item_ids, dataset.titles))
    return pd.DataFrame({"item": ids, "title": titles, "score": best.values.numpy()})
