"""What alignment did to false negatives: how far their scores and vectors moved from the reference."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.eligibility import OwnedItems, exclusion_mask, exclusions
from rodpo_lite.model.scoring import Recommender, score_matrix
from rodpo_lite.relevance import Relevance, future_relevance, planted_relevance

BLOCK = 500  # positions that are scored at a time


@torch.no_grad()
def embedding_drift(policy: Recommender, reference: Recommender) -> np.ndarray:
    """1 - cosine between an item's vector in the policy and in the reference, [N]."""
    now, before = policy.items().vectors, reference.items().vectors
    return (1 - torch.cosine_similarity(now, before, dim=1)).cpu().numpy()


@torch.no_grad()
def matched_drift(
    policy: Recommender, reference: Recommender, dataset: Dataset, relevance: Relevance, max_length: int,
    positions: int = 4000, reach: int = 5, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """How far the scores of false negatives moved, against candidates that the reference ranked beside them.

    The move of an item is s_θ - s_ref at a training position. From that of each false negative, the mean move of the
    `reach` candidates above and below it in the reference's ranking is taken, other false negatives left out; below 0,
    alignment pushed it below its equals. Candidates are all items but the positive and what the user has already.
    Takes whole users in random order, about `positions` next-item predictions, and both models in eval mode.
    Returns `difference`, the mean over users, its `standard_error` over users, and the numbers of `pairs` and `users`;
    nothing where fewer than two users have a false negative.
    """
    split, device = leave_one_out(dataset), next(policy.parameters()).device
    window = (split.start, split.train_end - 1)
    sequences = PackedSequences(dataset.items, *window, max_length, device, dataset.timestamps)
    items = torch.as_tensor(dataset.items, device=device)
    owned = OwnedItems.within(dataset.items, split.start, split.train_end, dataset.n_items, device)
    users, gaps, seen = [], [], 0
    for batch in sequences.epoch(BLOCK, torch.Generator().manual_seed(seed)):
        positives, people = items[batch.rows + 1], batch.user_of_position
        excluded = exclusion_mask(exclusions("past", people, batch.rows, positives, owned), dataset.n_items)
        before, now = (score_matrix(model, batch) for model in (reference, policy))
        row, gap = _gaps(now - before, before.masked_fill(excluded, -torch.inf), relevance(batch), reach)
        users.append(people[row].cpu())
        gaps.append(gap.cpu())
        if (seen := seen + len(batch.rows)) >= positions:
            break
    of_user = pd.Series(torch.cat(gaps).numpy()).groupby(torch.cat(users).numpy()).mean()
    if len(of_user) < 2:
        return {}
    error = of_user.std() / len(of_user) ** 0.5
    counts = {"pairs": sum(map(len, gaps)), "users": len(of_user)}
    return {"difference": float(of_user.mean()), "standard_error": float(error), **counts}


def drift_report(
    policy: Recommender, reference: Recommender, dataset: Dataset, max_length: int, planted: Planted | None = None
) -> dict[str, Any]:
    """`items`: mean embedding drift; `future` and, where any are hidden, `planted`: matched score drift of each."""
    notions = {"future": future_relevance(dataset)}
    if planted is not None:
        notions["planted"] = planted_relevance(planted)
    report: dict[str, Any] = {"items": float(embedding_drift(policy, reference).mean())}
    return report | {
        name: matched_drift(policy, reference, dataset, relevance, max_length) for name, relevance in notions.items()
    }


def _gaps(move: Tensor, reference: Tensor, relevant: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The row of each false negative, and its move less that of its neighbours; neighbourless ones are left out.

    move, reference (-inf: no candidate), relevant: [R, N].
    """
    order = reference.argsort(1, descending=True)
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    candidates = torch.isfinite(reference)
    row, item = (relevant & candidates).nonzero(as_tuple=True)
    step = torch.cat([torch.arange(-reach, 0), torch.arange(1, reach + 1)]).to(order.device)
    near = place[row, item][:, None] + step
    inside = (near >= 0) & (near < candidates.sum(1)[row, None])
    neighbour = order[row[:, None], near.clamp(0, order.shape[1] - 1)]
    inside &= ~relevant[row[:, None], neighbour]
    count = inside.sum(1)
    around = (move[row[:, None], neighbour] * inside).sum(1) / count.clamp(min=1)
    return row[count > 0], (move[row, item] - around)[count > 0].double()
