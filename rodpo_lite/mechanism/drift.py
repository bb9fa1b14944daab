"""Drift of false negatives: how far alignment moved their scores and vectors from another model's."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.mechanism.relevance import Relevance, future_relevance, planted_relevance
from rodpo_lite.model.recommender import Recommender, eval_mode, score_matrix
from rodpo_lite.sampling.candidates import OwnedItems, exclusions, item_mask

BLOCK = 500  # positions that are scored at a time


@torch.no_grad()
def embedding_drift(policy: Recommender, before: Recommender) -> np.ndarray:
    """1 - cosine between an item's vector in one model and in the other, both in eval mode, [N]."""
    vectors = []
    for model in (policy, before):
        with eval_mode(model):
            vectors.append(model.items().vectors)
    return (1 - torch.cosine_similarity(*vectors, dim=1)).cpu().numpy()


@torch.no_grad()
def matched_drift(
    policy: Recommender, before: Recommender, dataset: Dataset, notions: dict[str, Relevance], max_length: int,
    exclude: str = "train", positions: int = 20_000, reach: int = 5, seed: int = 0,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """How far the scores of false negatives moved, against candidates that stood beside them, by notion.

    The move of an item is s_policy - s_before at a training position. From that of each false negative, the mean move
    of the `reach` candidates above and below it in the ranking of `before` is taken, false negatives of any notion left
    out; below 0, it sank among its equals. Candidates are the items that `exclude` allows to be rejected. Takes whole
    users in random order, about `positions` next-item predictions, and both models in eval mode. Returns for each
    notion `difference`, the mean over users, its `standard_error` over users, and the numbers of `pairs` and `users`;
    a notion of which fewer than two users have one is left out.
    """
    device = next(policy.parameters()).device
    sequences = PackedSequences.for_training(dataset, max_length, device)
    items = torch.as_tensor(dataset.items, device=device)
    owned = OwnedItems.in_training(dataset, device)
    parts, done = [], 0
    for batch in sequences.epoch(BLOCK, torch.Generator().manual_seed(seed)):
        users = batch.user_of_position
        excluded = exclusions(exclude, users, batch.rows, items[batch.rows + 1], owned)
        candidates = ~item_mask(excluded, dataset.n_items)
        scores, new_scores = (score_matrix(model, batch) for model in (before, policy))
        wrong = {name: relevance(batch) & candidates for name, relevance in notions.items()}
        others = candidates & ~torch.stack(list(wrong.values())).any(0)
        near = _neighbours(scores.masked_fill(~candidates, -torch.inf), reach)
        for name, mask in wrong.items():
            row, gap = _gaps(new_scores - scores, mask, others, *near)
            parts.append(pd.DataFrame({"notion": name, "user": users[row].cpu(), "gap": gap.cpu()}))
        if (done := done + len(batch.rows)) >= positions:
            break
    by_notion = pd.concat(parts).groupby("notion")
    return {str(name): _summary(table) for name, table in by_notion if table["user"].nunique() > 1}


def drift_report(
    policy: Recommender, before: Recommender, dataset: Dataset, max_length: int, exclude: str,
    planted: Planted | None = None, positions: int = 20_000,
) -> dict[str, Any]:  # fmt: skip
    """Measure `items`, the mean embedding drift, and the matched score drift of `future` and any `planted` items.

    Future items are taken later by the user and may be rejected by `exclude`: under `train`, the validation item.
    """
    notions = {"future": future_relevance(dataset)} | ({"planted": planted_relevance(planted)} if planted else {})
    moved = matched_drift(policy, before, dataset, notions, max_length, exclude, positions)
    return {"items": float(embedding_drift(policy, before).mean()), **moved}


def _neighbours(scores: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ranking of the items [R, N], place of each item in it [R, N], and steps to the neighbours [2 reach]."""
    order = scores.argsort(1, descending=True)
    rank = torch.arange(order.shape[1], device=order.device)
    place = torch.empty_like(order).scatter_(1, order, rank.expand_as(order))
    return order, place, torch.cat([rank[1 : reach + 1].flip(0).neg(), rank[1 : reach + 1]])


def _gaps(move: Tensor, wrong: Tensor, others: Tensor, order: Tensor, place: Tensor, step: Tensor):
    """The row of each false negative, and its move less that of its neighbours; neighbourless ones are left out.

    move, wrong (which items are false negatives), others (which may be neighbours): [R, N].
    """
    row, item = wrong.nonzero(as_tuple=True)
    near = place[row, item][:, None] + step
    neighbour = order[row[:, None], near.clamp(0, order.shape[1] - 1)]
    inside = (near >= 0) & (near < order.shape[1]) & others[row[:, None], neighbour]
    count = inside.sum(1)
    around = (move[row[:, None], neighbour] * inside).sum(1) / count.clamp(min=1)
    return row[count > 0], (move[row, item] - around)[count > 0].double()


def _summary(table: pd.DataFrame) -> dict[str, float]:
    by_user = table.groupby("user")["gap"].mean()
    counts = {"pairs": len(table), "users": len(by_user)}
    return {"difference": float(by_user.mean()), "standard_error": float(by_user.sem()), **counts}
