"""Dataset folders with broken files, tables, arrays, names and links."""

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.planted import PLANTED, Planted, plant
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.settings import build
from rodpo_lite.training import runs
from trust import mutations

TABLES = ("interactions.parquet", "items.parquet", "users.parquet", PLANTED)


def _head(text: str) -> bytes:
    """The beginning of a .npy file, without its numbers."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, rows=np.zeros((2, 2), np.float16))
    return stream.getvalue()


HEADS = [
    _head("{'descr': '<f2', 'fortran_order': False, 'shape': (100, 10000000000000), }\n"),
    _head("{'descr': '<f2', 'fortran_order': False, 'shape': (100000000000, 48), }\n"),
    _head("{'descr': '<f2', 'shape': ((((((\n"),
    _head("{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 5), }\n"),
    _archive(),
]
TINY = build(
    ReferenceConfig,
    {"encoder": {"width": 8, "heads": 1, "blocks": 1}, "training": {"epochs": 1, "batches_per_epoch": 2}},
)


def family(place: Path) -> Callable[[Path, random.Random], Callable]:
    world = synthesise(place / "world", 1, WorldSizes(users=30, items=100, slate=20))
    ids = pd.DataFrame({"user": range(30), "id": [f"u{n}" for n in range(30)]})
    ids.to_parquet(world / "users.parquet", index=False)
    plant(world, place / "planted", 0.1)

    def make(folder: Path, chance: random.Random) -> Callable:
        data = shutil.copytree(place / "planted", folder / "data")
        for _ in range(chance.choice([1, 1, 1, 2])):
            chance.choice([damage, damage, manifest, table, table, array, link])(data, chance)

        def case() -> None:
            dataset = read_dataset(data)
            Planted.of(dataset, data)
            if chance.random() < 0.2:
                runs.train(dataset, TINY, folder / "out")

        return case

    return make


def unlist(data: Path) -> None:
    """Without checksums and counts, so that what comes after them is reached."""
    path = data / "dataset.json"
    try:
        content = json.loads(path.read_text())
        for key in ("files", "n_users", "n_items", "n_interactions"):
            content.pop(key, None)
        path.write_text(json.dumps(content))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return


def damage(data: Path, chance: random.Random) -> None:
    """Any file, byte by byte; its checksum then is wrong, or not listed."""
    path = chance.choice(sorted(path for path in data.rglob("*") if path.is_file()))
    mutations.bytes_of(path, chance)
    if path.name != "dataset.json" and chance.random() < 0.7:
        unlist(data)


def manifest(data: Path, chance: random.Random) -> None:
    try:
        mutations.json_of(data / "dataset.json", chance)
    except ValueError:
        return


def table(data: Path, chance: random.Random) -> None:
    column_of(data / chance.choice(TABLES), chance)
    unlist(data)


def column_of(path: Path, chance: random.Random) -> None:
    """A column that is missing, of another kind, or holds what it must not."""
    try:
        frame = pd.read_parquet(path)
        column, row = chance.choice(list(frame)), chance.randrange(len(frame))
        kinds = [float, str, "Int64", "int64", "uint8", bool, "category", "datetime64[ns]"]
        what = chance.choice(["drop", "kind", "value", "value", "rows", "repeat", "missing", "lists"])
        if what == "drop":
            frame = frame.drop(columns=column)
        elif what == "kind":
            frame[column] = frame[column].astype(chance.choice(kinds))
        elif what == "value":
            frame.loc[row, column] = chance.choice([-1, -(2**31), 2**31 - 1, 10**6])
        elif what == "rows":
            frame = frame.iloc[: chance.randrange(len(frame))]
        elif what == "repeat":
            frame = pd.concat([frame, frame.iloc[[row]]])
        elif what == "lists":
            frame[column] = [[value] for value in frame[column]]
        else:
            frame.loc[row, column] = None
        frame.to_parquet(path, index=False)
    except Exception:  # what cannot be made broken in this way stays as it is
        return


def array(data: Path, chance: random.Random) -> None:
    """Features that are not finite, too large, or of another shape or kind."""
    path = chance.choice(sorted((data / "features").glob("*.npy")))
    try:
        rows = np.load(path)
        assert rows.dtype == np.float16 and rows.ndim == 2 and rows.size
    except Exception:  # broken already
        return
    bad = [np.nan, np.inf, -np.inf, 65504]
    rows.flat[chance.randrange(rows.size)] = chance.choice(bad)
    forms = [
        rows, rows * np.float16(3e4), rows[:-1], rows[:, :0], rows.T, rows.astype(float), rows.ravel(), rows[0, 0],
        rows.astype("U4"), np.array([{"a": 1}], object),
    ]  # fmt: skip
    if chance.random() < 0.3:
        path.write_bytes(chance.choice(HEADS))
        return unlist(data)
    with np.errstate(all="ignore"):
        np.save(path, chance.choice(forms), allow_pickle=True)
    unlist(data)


def link(data: Path, chance: random.Random) -> None:
    """A file that is a link to elsewhere, to itself or to nothing, a folder, or named from outside."""
    path = data / chance.choice([*TABLES, "features/text.npy"])
    path.unlink(missing_ok=True) if not path.is_dir() else shutil.rmtree(path)
    target = chance.choice([path, data, Path("/dev/null"), Path("/etc/hostname"), data.parent / "nowhere"])
    if chance.random() < 0.2:
        path.mkdir()
    else:
        path.symlink_to(target)
    unlist(data)
