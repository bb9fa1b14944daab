"""The best items for a user or for all of them, and the vectors whose products rank them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rodpo_lite import files
from rodpo_lite.data.schema import Dataset
from rodpo_lite.engine import Engine
from rodpo_lite.errors import InputError, printable
from rodpo_lite.evaluation.ranking import encode_histories, padded_slices
from rodpo_lite.model.recommender import Recommender

if TYPE_CHECKING:
    import pandas as pd

    from rodpo_lite.evaluation.baselines import BaselineConfig

    Model = Recommender | BaselineConfig

COLUMNS = pa.schema([("user", pa.string()), ("rank", pa.int32()), ("item", pa.string()), ("score", pa.float32())])


def recommend(model: "Model", dataset: Dataset, user: int, top: int = 10) -> "pd.DataFrame":
    """The `top` items for a user, or all that are left, after their history: columns item (its id), title, score.

    model: a recommender, or a baseline.
    """
    import pandas as pd

    return pd.DataFrame(best_items(model, dataset, user, top), columns=["item", "title", "score"])


def best_items(model: "Model", dataset: Dataset, user: int, top: int) -> list[tuple[str, str, float]]:
    """The same as a list, as a terminal shows it: ids and titles in one line, and not too long a one."""
    if not 0 <= user < dataset.n_users:
        raise InputError(f"There is no user {user}: {dataset.name} has users 0 to {dataset.n_users - 1}.")
    ((_, items, scores),) = _best(model, dataset, np.array([user]), top)
    if not len(items):
        raise InputError(f"Nothing is left for {dataset.user_ids[user]}, who has every item of {dataset.name}.")
    ids, titles = ([printable(names[item])[:80] for item in items] for names in (dataset.item_ids, dataset.titles))
    return list(zip(ids, titles, scores.tolist(), strict=True))


def recommend_all(model: "Model", dataset: Dataset, top: int = 10) -> "Iterator[pd.DataFrame]":
    """The same for every user, in tables of many users: columns user and item (ids as in the log), rank from 1, score.

    A user who has every item is in none of them.
    """
    import pandas as pd

    user_ids, item_ids = (np.array(ids, object) for ids in (dataset.user_ids, dataset.item_ids))
    for users, items, scores in _best(model, dataset, np.arange(dataset.n_users), top):
        first = np.flatnonzero(np.diff(users, prepend=-1))
        rank = np.arange(len(users)) - np.repeat(first, np.diff(np.append(first, len(users)))) + 1
        yield pd.DataFrame({"user": user_ids[users], "rank": rank, "item": item_ids[items], "score": scores})


def write_recommendations(model: "Model", dataset: Dataset, out: str | Path, top: int = 10) -> int:
    """Write what `recommend_all` yields to a Parquet file, table by table; returns the number of users in it."""
    users = 0
    with files.replacing(Path(out)) as staged, pq.ParquetWriter(staged, COLUMNS, compression="zstd") as writer:
        for table in recommend_all(model, dataset, top):
            writer.write_table(pa.Table.from_pandas(table, COLUMNS, preserve_index=False))
            users += int((table["rank"] == 1).sum())
    return users


def vectors(model: Recommender, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """A vector for each user after their history [U, D], and for each item [N, D], float32: their product is the score.

    This is what an index of nearest neighbours takes, with the inner product for its metric.
    """
    batches = list(encode_histories(model, dataset, dataset.offsets[:-1], dataset.offsets[1:], model.max_length))
    users, hidden = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
    return hidden[users.argsort()].cpu().numpy(), batches[0][2].detach().cpu().numpy()


@torch.no_grad()
def _best(model: "Model", dataset: Dataset, users: np.ndarray, top: int):
    """Yield users, their best items that they have not taken, and scores, all [rows], block by block in their order."""
    if top < 1:
        raise InputError(f"--top {top} is not valid: it must be at least 1.")
    for block, scores in _scores(model, dataset, users):
        items, first, last = (
            torch.as_tensor(array, device=scores.device)
            for array in (dataset.items, dataset.offsets[block], dataset.offsets[block + 1])
        )
        _drop(scores, padded_slices(items, first, last, dataset.n_items))
        best = scores.topk(min(top, dataset.n_items))  # [B, top]
        left = torch.isfinite(best.values)
        whose = left.nonzero()[:, 0].cpu().numpy()
        yield block[whose], best.indices[left].cpu().numpy(), best.values[left].cpu().numpy()


def _scores(model: "Model", dataset: Dataset, users: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield users [B] and their scores of all items [B, N], block by block in their order."""
    if not isinstance(model, Recommender):
        from rodpo_lite.evaluation import baselines

        yield from baselines.score(dataset, model, users, dataset.offsets[:-1], dataset.offsets[1:])
        return
    start, end = dataset.offsets[users], dataset.offsets[users + 1]
    rows = Engine(next(model.parameters()).device).rows(dataset.n_items)
    for chosen, hidden, of_items in encode_histories(model, dataset, start, end, model.max_length):
        order = chosen.argsort()
        for block, states in zip(chosen[order].split(rows), hidden[order].split(rows), strict=True):
            yield users[block.cpu().numpy()], states @ of_items.T


def _drop(scores: Tensor, history: Tensor) -> None:
    """Give the items of each row's history [B, M], padded with N, a score below all others."""
    history = torch.where(history < scores.shape[1], history, history[:, :1])
    scores.scatter_(1, history, -torch.inf)
