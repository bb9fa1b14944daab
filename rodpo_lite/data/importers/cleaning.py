"""From what was read to sequences: duplicates, repeats and users who are too short go, and what is left is in order."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rodpo_lite.data.checks import MINIMUM_LENGTH
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.errors import InputError

REPEATS = ("keep", "first")


@dataclass
class Rows:
    """Interactions in the order of the file; times [I] for order and seconds [I] since 1970 are None if unknown."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None
    seconds: np.ndarray | None

    def take(self, rows: np.ndarray) -> None:
        """Keep only these rows, by mask or by number, in this order."""
        for name, column in vars(self).items():
            if column is not None:
                setattr(self, name, column[rows])


def clean(log: InteractionLog, repeats: str = "keep", core: int = 0) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The interactions of a dataset (user, item, position, timestamp) and the ids of its users and of its items.

    repeats: one of REPEATS, "first" to drop a user's later interactions with an item. core: users and items with fewer
    interactions go, until none is left (users always need MINIMUM_LENGTH). Within a user the order is by time, and ties
    keep the order of the file. Users and items are numbered in order of first appearance. What goes is counted in
    `log.dropped`. Raises InputError if nothing is left.
    """
    rows = _rows(log)
    if rows.time is not None:
        columns = {"user": rows.user, "item": rows.item, "time": rows.time}
        repeated = pd.DataFrame(columns, copy=False).duplicated().to_numpy()
        log.dropped["exact duplicates"] += int(repeated.sum())
        rows.take(~repeated)
    rows.take(np.argsort(rows.user, kind="stable") if rows.time is None else np.lexsort((rows.time, rows.user)))
    rows.time = None
    if repeats == "first":
        first = np.unique(rows.user.astype(np.int64) * len(log.items) + rows.item, return_index=True)[1]
        log.dropped["repeats of an item"] += len(rows.user) - len(first)
        rows.take(np.sort(first))
    _drop_short(log, rows, core)
    if len(rows.user) == 0:
        raise _nothing_left(log)
    user, users = _renumber(rows.user, log.users)
    item, items = _renumber(rows.item, log.items)
    start = np.flatnonzero(np.diff(user, prepend=-1))
    position = np.arange(len(user), dtype=np.int32) - start.astype(np.int32)[user]
    interactions = {"user": user, "item": item, "position": position}
    if rows.seconds is not None:
        interactions["timestamp"] = rows.seconds
    return pd.DataFrame(interactions, copy=False), users, items


def _rows(log: InteractionLog) -> Rows:
    """The columns of a log as arrays that share its memory."""
    if log.rows == 0:
        raise InputError(f"{log.path} has no rows.")
    if not log.user:
        raise _nothing_left(log)
    time, seconds = log.times.resolve(log.line) if log.times else (None, None)
    return Rows(np.frombuffer(log.user, np.int32), np.frombuffer(log.item, np.int32), time, seconds)


def _nothing_left(log: InteractionLog) -> InputError:
    return InputError(f"Nothing is left of {log.path}, which has {log.rows:,} rows: {log.losses} were dropped.")


def _drop_short(log: InteractionLog, rows: Rows, core: int) -> None:
    """Drop users, and with a core items too, that have too few interactions, again until nothing changes."""
    minimum, users, items = max(core, MINIMUM_LENGTH), 0, 0
    while True:
        user_counts, item_counts = np.bincount(rows.user), np.bincount(rows.item)
        short, rare = (user_counts > 0) & (user_counts < minimum), (item_counts > 0) & (item_counts < core)
        if not short.any() and not rare.any():
            break
        users, items = users + int(short.sum()), items + int(rare.sum())
        rows.take(~(short[rows.user] | rare[rows.item]))
    log.dropped[f"users with fewer than {minimum} interactions"] += users
    log.dropped[f"items with fewer than {core} interactions"] += items


def _renumber(numbers: np.ndarray, ids: Iterable[str]) -> tuple[np.ndarray, list[str]]:
    """The same numbers without gaps, int32, and the ids that are left; ids: in order of the numbers."""
    ids = list(ids)
    present = np.zeros(len(ids), bool)
    present[numbers] = True
    return (np.cumsum(present, dtype=np.int32) - 1)[numbers], list(itertools.compress(ids, present))
