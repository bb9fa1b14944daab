"""Whether one could see a change: recorded runs, user by user, in so few bytes that a browser can draw from them."""

import base64
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from companion.evidence.comparison import arms, paired_seeds
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import crossed_change

DATASET, PAIR = "toys", ("topk", "fused")
LEVELS = np.append(metrics.ndcg(np.arange(5)), 0.0)[::-1]  # what NDCG@5 of one user can be, from 0 up


def recorded(grid: Grid, ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@5 of PAIR on DATASET, all items ranked, before and after, [S, U] each."""
    after, before = (Experiment(grid, DATASET, row) for row in PAIR)
    return arms(paired_seeds(after, before, ledger), ledger)


def reach(
    before: np.ndarray, after: np.ndarray, users: Iterable[int], seeds: Iterable[int], repeats: int = 20
) -> pd.DataFrame:  # fmt: skip
    """How far a 95 % interval reaches on average, in percent, with so many users and seeds, drawn with replacement from
    NDCG@5 before and after, [S, U] each."""
    rng, rows = np.random.default_rng(0), []
    for n_users, n_seeds in product(users, seeds):
        halves = []
        for _ in range(repeats):
            drawn = np.ix_(rng.integers(len(before), size=n_seeds), rng.integers(before.shape[1], size=n_users))
            one = crossed_change(before[drawn], after[drawn])
            halves.append((one.high - one.low) / 2)
        rows.append((n_users, n_seeds, np.mean(halves)))
    return pd.DataFrame(rows, columns=["users", "seeds", "± %"])


def packed(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """NDCG@5 before and after, [S, U] each, for the browser: the levels that it can have, the number of seeds, `zeros`,
    how many users have none in any run, and of the others, a byte for each seed and user in base64, the places of both
    among the levels, before · 6 + after."""
    some = (before + after).any(0)
    places = [np.abs(arm[:, some, None] - LEVELS).argmin(2) for arm in (before, after)]
    codes = (places[0] * len(LEVELS) + places[1]).astype(np.uint8)
    return {
        "levels": LEVELS.tolist(),
        "seeds": len(before),
        "zeros": int((~some).sum()),
        "pairs": base64.b64encode(codes.tobytes()).decode(),
    }
