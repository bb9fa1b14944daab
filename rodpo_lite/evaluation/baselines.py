"""Plain baselines that train nothing: popularity, item-kNN and content-kNN, ranked like every model."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import scipy
import torch
from pydantic import Field
from torch import Tensor

from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import Part, leave_one_out, training_counts
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.ranking import Ranks, padded_slices, rank_targets
from rodpo_lite.settings import Settings


class BaselineConfig(Settings):
    """A baseline that trains nothing."""

    stage: Literal["baseline"] = "baseline"
    name: Literal["popularity", "item_knn", "content_knn"]
    decay: float = Field(ge=0, le=1, description="weight of a history item, to the power of its age")


NAMES = ("popularity", "item_knn", "content_knn")
DECAYS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BLOCK = 1000  # users that are scored at a time, or fewer, and items
SCORES = 2**24  # at a time


def choose(dataset: Dataset, name: str, history: bool = True) -> tuple[BaselineConfig, dict[float, float]]:
    """Choose the decay with the best validation NDCG@5; returns that baseline and NDCG@5 by decay.

    history: whether items of the history are ranked, too. Raises InputError for a name that is not known and for
    content-kNN where items have no features.
    """
    if name not in NAMES:
        raise InputError(f"The baseline {name!r} is not valid: allowed are {', '.join(NAMES)}.")
    if name == "content_knn" and not dataset.features:
        raise InputError(f"{dataset.name} has no item features, so there is no content_knn for it.")
    by_decay = {}
    for decay in DECAYS if name != "popularity" else (1.0,):
        ranks = rank(dataset, BaselineConfig(name=name, decay=decay), "valid")
        by_decay[decay] = float(metrics.ndcg(ranks.unmasked if history else ranks.masked).mean())
    return BaselineConfig(name=name, decay=max(by_decay, key=by_decay.get)), by_decay


def rank(dataset: Dataset, config: BaselineConfig, part: Part) -> Ranks:
    """Ranks of every user's `part` target."""
    start, end = leave_one_out(dataset).history(part)
    items, first, last = (torch.as_tensor(array) for array in (dataset.items, start, end))
    blocks = []
    for users, scores in score(dataset, config, np.arange(dataset.n_users), start, end):
        history = padded_slices(items, first[users], last[users], dataset.n_items)
        blocks.append(rank_targets(scores, items[last[users]], history))
    return Ranks(*(torch.cat(ranks).numpy() for ranks in zip(*blocks, strict=True)))


def score(
    dataset: Dataset, config: BaselineConfig, users: np.ndarray, start: np.ndarray, end: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield users [B], a block of `users`, and their scores of all items [B, N], float32.

    start, end [U]: of each user's history in `dataset.items`. What items have in common is of training alone.
    """
    scores, size = _scorer(dataset, config, start, end), max(1, min(BLOCK, SCORES // dataset.n_items))
    for block in np.split(users, np.arange(size, len(users), size)):
        yield block, torch.as_tensor(scores(block).astype(np.float32))


def _scorer(dataset: Dataset, config: BaselineConfig, start: np.ndarray, end: np.ndarray) -> Callable:
    """A function of users [B] that returns their scores [B, N]."""
    if config.name == "popularity":
        counts = training_counts(dataset).astype(float)
        return lambda users: np.tile(counts, (len(users), 1))
    weights = _history_weights(dataset, start, end, config.decay)
    if config.name == "item_knn":
        similarity = item_similarity(dataset)
        return lambda users: (weights[users] @ similarity).toarray()
    content = content_vectors(dataset)
    with_itself = (content**2).sum(1)
    return lambda users: weights[users] @ content @ content.T - weights[users].multiply(with_itself).toarray()


def _history_weights(dataset: Dataset, start: np.ndarray, end: np.ndarray, decay: float) -> "scipy.sparse.csr_array":
    """decay^age of every history item, [U, N]: the last item has age 0, and with decay 0 it is the only one."""
    length = end - start
    user = np.repeat(np.arange(dataset.n_users, dtype=np.int32), length)
    place = np.arange(len(user)) - np.repeat(np.cumsum(length) - length, length)
    values = np.float64(decay) ** (length[user] - 1 - place)
    item = dataset.items[start[user] + place].astype(np.int32)
    return scipy.sparse.csr_array(
        (values, (user, item)), (dataset.n_users, dataset.n_items)
    )  # repeated items are summed


def item_similarity(dataset: Dataset) -> "scipy.sparse.csr_array":
    """Cosine of two items over their users in training (Deshpande and Karypis 2004), 0 with itself, [N, N]."""
    taken = _history_weights(dataset, *leave_one_out(dataset).history("valid"), 1.0)
    taken.data[:] = 1.0
    norm = np.sqrt(np.maximum(taken.sum(0), 1))
    unit = taken @ scipy.sparse.diags_array(1 / norm)
    # Of a large log it takes most of the memory that there is, so block by block into its place; what of that is not
    # filled is never touched.
    most = int(np.square(np.diff(taken.indptr), dtype=np.int64).sum())
    whole = np.int32 if most < 2**31 else np.int64
    values, columns, starts = np.empty(most), np.empty(most, whole), np.zeros(dataset.n_items + 1, whole)
    by_item = unit.T.tocsr()
    for first in range(0, dataset.n_items, BLOCK):
        block = by_item[first : first + BLOCK] @ unit
        own = block.indices == np.repeat(np.arange(first, first + block.shape[0]), np.diff(block.indptr))
        here = slice(starts[first], starts[first] + block.nnz)
        values[here], columns[here] = np.where(own, 0, block.data), block.indices
        starts[first + 1 : first + 1 + block.shape[0]] = starts[first] + block.indptr[1:]
    ends = starts[-1]
    return scipy.sparse.csr_array((values[:ends], columns[:ends], starts), (dataset.n_items, dataset.n_items))


def content_vectors(dataset: Dataset) -> np.ndarray:
    """Features of the items, [N, C]: each modality centred and of length one, zero where it is missing."""
    parts = []
    for modality, features in sorted(dataset.features.items()):
        has = dataset.present[modality]
        centred = np.where(has[:, None], features.astype(np.float32) - features[has].astype(np.float32).mean(0), 0)
        parts.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6))
    return np.concatenate(parts, 1)
