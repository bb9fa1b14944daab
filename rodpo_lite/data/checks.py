"""The rules of the canonical format, file by file: each raises InputError with one sentence at the first breach."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import scipy

from rodpo_lite.errors import InputError

LARGEST_ATTRIBUTE = 2**24
MINIMUM_LENGTH = 3  # one item to train on, one for validation, one for test


def read_parquet(folder: Path, name: str, columns: Mapping[str, str | None] = {}) -> pd.DataFrame:
    """A parquet file of the folder; columns: those that it must have, each once, with their types, or None for any.

    pyarrow opens it by its path: a Python file object, as pandas would hand it over, may outlive the interpreter in one
    of pyarrow's threads, and the process then aborts at its end.
    """
    try:
        with pq.ParquetFile(folder / name) as file:
            table = file.read().to_pandas()
    except Exception as error:  # pyarrow raises many kinds for a file that is not parquet
        raise InputError(f"{folder / name} is not a readable parquet file: {str(error).splitlines()[0]}.") from None
    for column, dtype in columns.items():
        dtypes = table.dtypes[table.columns == column]
        if len(dtypes) != 1:
            raise InputError(f"{folder / name} has {'several columns' if len(dtypes) else 'no column'} {column!r}.")
        if dtype is not None and dtypes.iloc[0] != dtype:
            raise InputError(f"{folder / name}: the column {column!r} is {dtypes.iloc[0]}, but must be {dtype}.")
    return table


def read_items(folder: Path, modalities: Iterable[str]) -> pd.DataFrame:
    """One row per item, in order, with a mask per modality."""
    masks = {f"has_{modality}": "bool" for modality in modalities}
    items = read_parquet(folder, "items.parquet", {"item": "int32", **masks})
    if not np.array_equal(items["item"].to_numpy(), np.arange(len(items))):
        raise InputError(f"{folder / 'items.parquet'}: the column item must be 0, 1, 2, … in order, one row per item.")
    return items


def read_attributes(folder: Path, items: pd.DataFrame) -> "scipy.sparse.csr_array | None":
    """Which of A attributes each item has, [N, A]; None without the column `attributes`, lists of whole numbers."""
    if "attributes" not in items or items["attributes"].isna().all():
        return None
    ids = items["attributes"].explode().dropna()
    if not all(isinstance(value, int | np.integer) and 0 <= value <= LARGEST_ATTRIBUTE for value in ids):
        raise InputError(
            f"{folder / 'items.parquet'}: the column attributes must hold lists of whole numbers, from 0 to "
            f"{LARGEST_ATTRIBUTE}."
        )
    has = scipy.sparse.csr_array(
        (np.ones(len(ids), bool), (ids.index.to_numpy(), ids.to_numpy(np.int64))), shape=(len(items), 1 + ids.max())
    )
    has.sum_duplicates()
    return has


def read_users(folder: Path, n_users: int) -> Iterable[object]:
    """The ids of users in users.parquet, in order of their numbers; None for each where there is no such file."""
    path = folder / "users.parquet"
    if not path.exists() and not path.is_symlink():
        return [None] * n_users
    if not path.is_file():
        raise InputError(f"{path} is not a file.")
    users = read_parquet(folder, path.name, {"user": None, "id": None})
    numbers = users["user"]
    if numbers.dtype.kind not in "iu" or not np.array_equal(numbers.to_numpy(), np.arange(n_users)):
        raise InputError(f"{path}: the column user must be 0, 1, 2, … in order, one row for each of {n_users} users.")
    if not users["id"].map(type).eq(str).all():
        raise InputError(f"{path}: the column id must hold texts.")
    return users["id"]


def read_interactions(folder: Path, n_items: int) -> pd.DataFrame:
    """Valid ids, unique positions, users without a gap and long enough; sorted by user and position."""
    path = folder / "interactions.parquet"
    numbers = ("user", "item", "position")
    interactions = read_parquet(folder, path.name, dict.fromkeys(numbers, "int32"))
    for name in numbers:
        if (interactions[name] < 0).any():
            raise InputError(f"{path}: the column {name!r} has a value out of range: {interactions[name].min()}.")
    times = interactions.get("timestamp")
    if times is None or times.isna().all():
        times = pd.Series(pd.NA, interactions.index, "Int64")
    elif not pd.api.types.is_signed_integer_dtype(times):
        raise InputError(f"{path}: the column 'timestamp' is {times.dtype}, but must be Int64.")
    interactions = interactions.assign(timestamp=times.astype("Int64"))
    if len(interactions) == 0:
        raise InputError(f"{path} has no interactions.")
    beyond = np.flatnonzero(interactions["item"] >= n_items)
    if beyond.size:
        item = interactions["item"].iloc[beyond[0]]
        raise InputError(f"{path}: item {item} in row {beyond[0]} is out of range: items.parquet has {n_items} items.")
    place = interactions["user"].to_numpy(np.int64) << 32 | interactions["position"].to_numpy()
    if (place[1:] <= place[:-1]).any():
        order = place.argsort(kind="stable")
        interactions, place = interactions.iloc[order].reset_index(drop=True), place[order]
        if (repeated := np.flatnonzero(place[1:] == place[:-1])).size:
            user, position = divmod(int(place[repeated[0]]), 2**32)
            raise InputError(f"{path}: user {user} has two interactions at position {position}.")
    users, lengths = np.unique(interactions["user"], return_counts=True)
    if (missing := np.setdiff1d(np.arange(len(users)), users)).size:
        raise InputError(f"{path}: users must be numbered 0, 1, 2, … without a gap, but user {missing[0]} is missing.")
    if lengths.min() < MINIMUM_LENGTH:
        raise InputError(
            f"{path}: user {users[lengths.argmin()]} has {lengths.min()} interactions, but leave-one-out needs at "
            f"least {MINIMUM_LENGTH}; drop such users."
        )
    return interactions


def read_features(folder: Path, modality: str, entry: dict[str, Any], n_items: int) -> np.ndarray:
    """One finite float16 row per item."""
    path = folder / entry["file"]
    try:
        # Mapped, so that a header cannot ask for more memory than there are bytes.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        rows = np.array(mapped) if isinstance(mapped, np.ndarray) else mapped["not one array"]
    except Exception:  # numpy raises many kinds for a file that is not .npy, those of Python's own parser among them
        raise InputError(f"{path} is not a readable .npy array.") from None
    if rows.dtype != np.float16 or entry.get("dtype", "float16") != "float16":
        listed = entry.get("dtype", "float16")
        raise InputError(f"{path} holds {rows.dtype}, listed as {listed}, but features are stored as float16.")
    if rows.ndim != 2 or len(rows) != n_items or rows.shape[1] == 0:
        raise InputError(f"{path} has shape {rows.shape}, but there are {n_items} items: it needs one row per item.")
    if "dim" in entry and entry["dim"] != rows.shape[1]:
        raise InputError(f"{path} has {rows.shape[1]} columns, but dataset.json says dim {entry['dim']}.")
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        raise InputError(f"{path}: the {modality} features of item {int(finite.argmin())} are not finite.")
    return rows
