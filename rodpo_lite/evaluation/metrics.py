"""Ranking metrics, as functions of the target's rank (0 is best)."""

import numpy as np

CUTOFFS = (5, 10, 20)


def ndcg(ranks: np.ndarray, cutoff: int = 5) -> np.ndarray:
    """NDCG of a single relevant item, in the shape of `ranks`: 1/log2(rank + 2) within the cutoff (the ideal is 1)."""
    return (ranks < cutoff) / np.log2(ranks + 2.0)


def from_ranks(ranks: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS) -> dict[str, float]:
    """HR, `ndcg` and MRR at each cutoff k, averaged over users; MRR is 1/(rank + 1) for rank < k.

    ranks: integers [U], counted from 0. Raises ValueError for no users or a negative rank.

    >>> from_ranks(np.array([0, 1, 7]), cutoffs=(5,))
    {'hr@5': 0.6666666666666666, 'ndcg@5': 0.5436432511904858, 'mrr@5': 0.5}
    """
    ranks = np.asarray(ranks)
    if len(ranks) == 0:
        raise ValueError("metrics of no users are undefined")
    if ranks.min() < 0:
        raise ValueError("ranks count from 0")
    found = {}
    for cutoff in cutoffs:
        hit = ranks < cutoff
        found[f"hr@{cutoff}"] = float(hit.mean())
        found[f"ndcg@{cutoff}"] = float(ndcg(ranks, cutoff).mean())
        found[f"mrr@{cutoff}"] = float((hit / (ranks + 1.0)).mean())
    return found


NAMES = frozenset(from_ranks(np.array([0])))
