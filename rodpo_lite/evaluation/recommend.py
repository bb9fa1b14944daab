"""The best items for a user."""

import pandas as pd
import torch

from rodpo_lite.data.schema import Dataset
from rodpo_lite.errors import InputError, printable
from rodpo_lite.evaluation.ranking import encode_histories
from rodpo_lite.model.recommender import Recommender


@torch.no_grad()
def recommend(model: Recommender, dataset: Dataset, user: int, top: int = 10) -> pd.DataFrame:
    """The `top` items for a user, or all that are left, after their history: columns item (its id), title, score."""
    if not 0 <= user < dataset.n_users:
        raise InputError(f"There is no user {user}: {dataset.name} has users 0 to {dataset.n_users - 1}.")
    if top < 1:
        raise InputError(f"--top {top} is not valid: it must be at least 1.")
    start, end = dataset.offsets[[user]], dataset.offsets[[user + 1]]
    taken = torch.as_tensor(dataset.items[start[0] : end[0]]).unique()
    if (left := dataset.n_items - len(taken)) == 0:
        raise InputError(f"Nothing is left for {dataset.user_ids[user]}, who has every item of {dataset.name}.")
    ((_, hidden, vectors),) = encode_histories(model, dataset, start, end, model.max_length)
    scores = (hidden @ vectors.T).squeeze(0)
    scores[taken] = -torch.inf
    best = scores.topk(min(top, left))
    items = best.indices.tolist()
    ids, titles = ([printable(names[item])[:80] for item in items] for names in (dataset.item_ids, dataset.titles))
    return pd.DataFrame({"item": ids, "title": titles, "score": best.values.numpy()})
