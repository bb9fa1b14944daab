"""From what was read to sequences: duplicates, repeats and users who are too short go, and what is left is in order."""

import itertools
import warnings

import numpy as np
import pandas as pd

from rodpo_lite.data.checks import MINIMUM_LENGTH
from rodpo_lite.data.importers.files import storable
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.data.importers.times import LIKELY
from rodpo_lite.errors import InputError, Notice

REPEATS, TIES = ("keep", "first"), ("hash", "file")
SORTED, ENOUGH = 0.95, 20  # share, of so many tied neighbours, whose items ascend in a file that is sorted by item
LARGE, LONG = 0.05, 20  # share of the log, and times the median, from which a history is hardly that of one user


def clean(
    log: InteractionLog, repeats: str = "keep", core: int = 0, ties: str = "hash"
) -> tuple[pd.DataFrame, list[str], list[str], list[str]]:
    """Interactions of a dataset (user, item, position, timestamp), ids of users and of items, and an account in lines.

    repeats: one of REPEATS, "first" to drop a user's later interactions with an item. core: users and items with fewer
    interactions go, until none is left (users always need MINIMUM_LENGTH). Within a user the order is by time; ties:
    one of TIES, see `_ordered`. Users and items are numbered in order of first appearance. What goes is counted in
    `log.dropped`. Raises InputError if nothing is left.
    """
    if log.rows == 0:
        raise InputError(f"{log.path} has no rows.")
    rows, account = _ordered(log, ties)
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
    lengths = np.bincount(rows["user"])
    longest, who = int(lengths.max()), repr(left["user"][int(lengths.argmax())])
    account.append(f"longest history: {longest:,} of user {who}, {100 * longest / len(rows):.1f} % of the log")
    if longest >= max(LARGE * len(rows), LONG * np.median(lengths)):
        message = (
            f"The user {who} has {100 * longest / len(rows):.0f} % of the log; if it is a bot, or many, drop its rows."
        )
        warnings.warn(message, Notice, stacklevel=2)
    return rows, left["user"], left["item"], account


def _ordered(log: InteractionLog, ties: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows without exact duplicates, by user and time, and what there is to say of columns, times and ties.

    The order of the file may give away what is to be predicted: a table that is sorted by item does. So "hash" orders
    what is tied by a hash of both ids, the same for a pair in any file, and also a table without times that is sorted.
    """
    account = ["columns: " + ", ".join(f"{role} {name!r}" for role, name in log.roles.items())]
    user, item = np.frombuffer(log.user, np.int32), np.frombuffer(log.item, np.int32)
    columns, time = {"user": user, "item": item}, np.zeros(len(user), np.int8)
    if timed := log.times is not None and len(user):
        time, seconds, unit = log.times.resolve(log.line)
        columns["timestamp"] = seconds
        account.append(f"times: {_reach(log, seconds, unit)}")
    order = np.lexsort((time, user))
    tied = _repeated(user[order], time[order])
    if timed:
        tie = np.cumsum(~tied)
        among = np.flatnonzero(tied | np.append(tied[1:], False))
        twice = pd.DataFrame({"tie": tie[among], "item": item[order[among]]}).duplicated()
        log.dropped["exact duplicates"] += int(twice.sum())
        order = np.delete(order, among[twice])
        tied = _repeated(user[order], time[order])
    direction = _direction(log.items, item[order], tied)
    hashed = ties == "hash" and bool(timed or direction)
    share = 100 * tied.sum() / max(1, _repeated(user[order]).sum())
    said = [f"ties: {share:.1f} % of neighbours have the same time" if timed else "ties: the file has no times"]
    said += [f"in the file their items {direction}"] if direction else []
    said += [f"their order is {'a hash of user and item' if hashed else 'that of the file'}"] if tied.any() else []
    account.append("; ".join(said))
    if hashed and tied.any():
        users, items = (
            pd.util.hash_array(np.array(list(map(storable, ids)), object)) for ids in (log.users, log.items)
        )
        among = np.flatnonzero(tied | np.append(tied[1:], False))
        pairs = pd.DataFrame({"user": users[user[order[among]]], "item": items[item[order[among]]]})
        key = pd.util.hash_pandas_object(pairs, index=False)
        order[among] = order[among[np.lexsort((key, np.cumsum(~tied)[among]))]]
    return pd.DataFrame({name: column[order] for name, column in columns.items()}), account


def _reach(log: InteractionLog, seconds: np.ndarray, unit: str) -> str:
    """What times are and from when to when they are, with a Notice if that is not when logs are of."""
    first, last = (np.datetime64(int(end), "s") for end in (seconds.min(), seconds.max()))
    if not LIKELY[0] <= seconds.min() <= seconds.max() < LIKELY[1]:
        what = f"The times of {log.path}, in the column {log.roles['time']!r} as {unit}, reach from {first} to {last}"
        advice = "if they are of another kind, name the column with --time or what they are with --time-format"
        warnings.warn(f"{what}; {advice}.", Notice, stacklevel=2)
    return f"{unit}, {first} to {last}"


def _repeated(*columns: np.ndarray) -> np.ndarray:
    """Which rows have in every column what the row before has."""
    same = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return np.append(False, same)[: len(columns[0])]


def _direction(ids: dict[str, int], items: np.ndarray, tied: np.ndarray) -> str:
    """Whether neighbours that are tied ascend or descend by the ids of their items, as text or number; else nothing."""
    later = np.flatnonzero(tied)
    later = later[items[later] != items[later - 1]]
    for key in (None, lambda name: (len(name), name)) if len(later) >= ENOUGH else ():
        rank = np.empty(len(ids), np.int64)
        rank[[ids[name] for name in sorted(ids, key=key)]] = np.arange(len(rank))
        ascending = (rank[items[later]] > rank[items[later - 1]]).mean()
        if max(ascending, 1 - ascending) >= SORTED:
            return "ascend" if ascending > 0.5 else "descend"
    return ""


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
