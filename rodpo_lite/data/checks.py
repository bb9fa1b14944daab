"""The rules of the canonical format, file by file: each raises InputError with one sentence at the first breach."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy

from rodpo_lite.errors import InputError

if TYPE_CHECKING:
    import pandas as pd  # takes half a second, which no command needs before it reads a log or shows a table

LARGEST_ATTRIBUTE = 2**24
MINIMUM_LENGTH = 3  # one item to train on, one for validation, one for test


def read_table(folder: Path, name: str, columns: Mapping[str, pa.DataType | None] = {}) -> pa.Table:
    """A parquet file of the folder; columns: those that it must have, with their types, or None for any.

    A column of a type has no missing value. pyarrow opens the file by its path: a Python file object, as pandas would
    hand it over, may outlive the interpreter in one of pyarrow's threads, and the process then aborts at its end.
    """
    try:
        with pq.ParquetFile(folder / name) as file:
            table = file.read().combine_chunks()
    except Exception as error:  # pyarrow raises many kinds for a file that is not parquet
        raise InputError(f"{folder / name} is not a readable parquet file: {str(error).splitlines()[0]}.") from None
    for column, times in Counter(table.column_names).items():
        if times > 1:
            raise InputError(f"{folder / name} has several columns {column!r}.")
    for column, kind in columns.items():
        if column not in table.column_names:
            raise InputError(f"{folder / name} has no column {column!r}.")
        if kind is not None and table[column].type != kind:
            raise InputError(f"{folder / name}: the column {column!r} is {table[column].type}, but must be {kind}.")
        if kind is not None and table[column].null_count:
            raise InputError(f"{folder / name}: the column {column!r} has missing values, but must be {kind}.")
    return table


def numbers(column: pa.ChunkedArray | pa.Array, missing: float = 0) -> np.ndarray:
    """The numbers or truth values of a column, and `missing` where there is none.

    Not by pyarrow's `to_numpy`, nor with its scalars, which import pandas.
    """
    if pa.types.is_boolean(column.type):
        return numbers(column.cast(pa.uint8()), missing).astype(bool)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not array.null_count:
        return np.from_dlpack(array)
    values = np.frombuffer(array.buffers()[1], array.type.to_pandas_dtype())[array.offset :][: len(array)].copy()
    values[numbers(array.is_null())] = missing
    return values


def read_parquet(folder: Path, name: str, columns: Iterable[str] = ()) -> "pd.DataFrame":
    """The same as a data frame; columns: those that it must have."""
    return read_table(folder, name, dict.fromkeys(columns)).to_pandas()


def read_items(folder: Path, modalities: Iterable[str]) -> pa.Table:
    """One row per item, in order, with a mask per modality."""
    masks = {f"has_{modality}": pa.bool_() for modality in modalities}
    items = read_table(folder, "items.parquet", {"item": pa.int32(), **masks})
    if not np.array_equal(numbers(items["item"]), np.arange(len(items))):
        raise InputError(f"{folder / 'items.parquet'}: the column item must be 0, 1, 2, … in order, one row per item.")
    return items


def read_attributes(folder: Path, items: pa.Table) -> "scipy.sparse.csr_array | None":
    """Which of A attributes each item has, [N, A]; None without the column `attributes`, lists of whole numbers."""
    if "attributes" not in items.column_names or items["attributes"].null_count == len(items):
        return None
    wrong = InputError(
        f"{folder / 'items.parquet'}: the column attributes must hold lists of whole numbers, from 0 to "
        f"{LARGEST_ATTRIBUTE}."
    )
    lists = items["attributes"].combine_chunks()
    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        raise wrong
    ids = lists.flatten()  # leaves out the items that have no list
    if not len(ids):
        return None
    if not pa.types.is_integer(ids.type) or ids.null_count:
        raise wrong
    owners = np.repeat(np.arange(len(items)), numbers(lists.value_lengths()))
    values = numbers(ids)
    if values.min() < 0 or values.max() > LARGEST_ATTRIBUTE:
        raise wrong
    values = values.astype(np.int64)
    has = scipy.sparse.csr_array((np.ones(len(ids), bool), (owners, values)), shape=(len(items), 1 + values.max()))
    has.sum_duplicates()
    return has


def read_users(folder: Path, n_users: int) -> Iterable[object]:
    """The ids of users in users.parquet, in order of their numbers; None for each where there is no such file."""
    path = folder / "users.parquet"
    if not path.exists() and not path.is_symlink():
        return [None] * n_users
    if not path.is_file():
        raise InputError(f"{path} is not a file.")
    users = read_table(folder, path.name, {"user": None, "id": None})
    of_users = users["user"]
    whole = pa.types.is_integer(of_users.type) and not of_users.null_count
    if not whole or not np.array_equal(numbers(of_users), np.arange(n_users)):
        raise InputError(f"{path}: the column user must be 0, 1, 2, … in order, one row for each of {n_users} users.")
    ids = users["id"].to_pylist()
    if not all(isinstance(name, str) for name in ids):
        raise InputError(f"{path}: the column id must hold texts.")
    return ids


class Interactions(NamedTuple):
    """Columns of interactions, [I] each, sorted by user and position; timestamps float64, NaN where unknown."""

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray


def read_interactions(folder: Path, n_items: int) -> Interactions:
    """Valid ids, unique positions, users without a gap and long enough."""
    path = folder / "interactions.parquet"
    table = read_table(folder, path.name, dict.fromkeys(("user", "item", "position"), pa.int32()))
    users, items, positions = (numbers(table[name]) for name in ("user", "item", "position"))
    for name, values in (("user", users), ("item", items), ("position", positions)):
        if (values < 0).any():
            raise InputError(f"{path}: the column {name!r} has a value out of range: {values.min()}.")
    timestamps = _timestamps(path, table)
    if len(users) == 0:
        raise InputError(f"{path} has no interactions.")
    if (beyond := np.flatnonzero(items >= n_items)).size:
        item, row = items[beyond[0]], beyond[0]
        raise InputError(f"{path}: item {item} in row {row} is out of range: items.parquet has {n_items} items.")
    place = users.astype(np.int64) << 32 | positions
    if (place[1:] <= place[:-1]).any():
        order = place.argsort(kind="stable")
        users, items, timestamps, place = (column[order] for column in (users, items, timestamps, place))
        if (repeated := np.flatnonzero(place[1:] == place[:-1])).size:
            user, position = divmod(int(place[repeated[0]]), 2**32)
            raise InputError(f"{path}: user {user} has two interactions at position {position}.")
    known, lengths = np.unique(users, return_counts=True)
    if (missing := np.setdiff1d(np.arange(len(known)), known)).size:
        raise InputError(f"{path}: users must be numbered 0, 1, 2, … without a gap, but user {missing[0]} is missing.")
    if lengths.min() < MINIMUM_LENGTH:
        raise InputError(
            f"{path}: user {known[lengths.argmin()]} has {lengths.min()} interactions, but leave-one-out needs at "
            f"least {MINIMUM_LENGTH}; drop such users."
        )
    return Interactions(users, items, timestamps)


def _timestamps(path: Path, table: pa.Table) -> np.ndarray:
    """The times of a table of interactions, [I] float64, NaN where unknown."""
    if "timestamp" not in table.column_names or table["timestamp"].null_count == len(table):
        return np.full(len(table), np.nan)
    if not pa.types.is_signed_integer(table["timestamp"].type):
        raise InputError(f"{path}: the column 'timestamp' is {table['timestamp'].type}, but must be int64.")
    return numbers(table["timestamp"].cast(pa.float64(), safe=False), np.nan).copy()


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
