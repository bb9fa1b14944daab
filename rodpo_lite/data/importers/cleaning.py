"""From what was read to sequences: duplicates, repeats and users who are too short go, and what is left is in order."""

import itertools

import numpy as np
import pandas as pd

from rodpo_lite.data.checks import MINIMUM_LENGTH
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.errors import InputError

REPEATS = ("keep", "first")


def clean(log: InteractionLog, repeats: str = "keep", core: int = 0) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The interactions of a dataset (user, item, position, timestamp) and the ids of its users and of its items.

    repeats: one of REPEATS, "first" to drop a user's later interactions with an item. core: users and items with fewer
    interactions go, until none is left (users always need MINIMUM_LENGTH). Within a user the order is by time, and ties
    keep the order of the file. Users and items are numbered in order of first appearance. What goes is counted in
    `log.dropped`. Raises InputError if nothing is left.
    """
    if log.rows == 0:
        raise InputError(f"{log.path} has no rows.")
    rows = pd.DataFrame({"user": np.frombuffer(log.user, np.int32), "item": np.frombuffer(log.item, np.int32)})
    if log.times is None or rows.empty:
        rows = rows.iloc[np.argsort(rows["user"], kind="stable")]
    else:
        time, rows["timestamp"] = log.times.resolve(log.line)
        repeated = rows[["user", "item"]].assign(time=time).duplicated().to_numpy()
        log.dropped["exact duplicates"] += int(repeated.sum())
        rows, time = rows[~repeated], time[~repeated]
        rows = rows.iloc[np.lexsort((time, rows["user"]))]
    if repeats == "first":
        repeated = rows.duplicated(["user", "item"])
        log.dropped["repeats of an item"] += int(repeated.sum())
        rows = rows[~repeated]
    rows = _drop_short(log, rows, core)
    if rows.empty:
        raise InputError(f"Nothing is left of {log.path}, which has {log.rows:,} rows: {log.losses} were dropped.")
    left = {}
    for column, ids in (("user", log.users), ("item", log.items)):
        present = np.bincount(rows[column], minlength=len(ids)) > 0
        rows = rows.assign(**{column: (np.cumsum(present, dtype=np.int32) - 1)[rows[column]]})
        left[column] = list(itertools.compress(ids, present))
    rows = rows.reset_index(drop=True)
    rows.insert(2, "position", rows.groupby("user").cumcount().astype(np.int32))
    return rows, left["user"], left["item"]


def _drop_short(log: InteractionLog, rows: pd.DataFrame, core: int) -> pd.DataFrame:
    """Drop users, and with a core items too, that have too few interactions, again until nothing changes."""
    minimum = max(core, MINIMUM_LENGTH)
    while True:
        user_counts, item_counts = np.bincount(rows["user"]), np.bincount(rows["item"])
        short, rare = (user_counts > 0) & (user_counts < minimum), (item_counts > 0) & (item_counts < core)
        if not short.any() and not rare.any():
            return rows
        log.dropped[f"users with fewer than {minimum} interactions"] += int(short.sum())
        log.dropped[f"items with fewer than {core} interactions"] += int(rare.sum())
        rows = rows[~(short[rows["user"]] | rare[rows["item"]])]
