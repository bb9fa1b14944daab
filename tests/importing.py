"""Small files to import, what must come out of them, and what a refusal must look like."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rodpo_lite.data.importers import FORMATS
from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.errors import InputError, Notice

PLAIN = [
    ("ann", "pear", 3),
    ("ann", "fig", 1),
    ("bob", "fig", 5),
    ("ann", "kiwi", 2),
    ("bob", "pear", 4),
    ("bob", "plum", 6),
]


def table(rows, names=("user_id", "item_id", "timestamp"), delimiter=",", end="\n") -> str:
    return "".join(delimiter.join(map(str, row)) + end for row in [names, *rows])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(path: Path, records) -> Path:
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


def imported(source: Path, format: str = "csv", **options):
    """The dataset, the sequences by item id, and what was left out; the folder, beside the source, is gone again."""
    out = source.parent / "out"
    lines = import_dataset(format, Request(source, **options), out)
    dataset, items = read_dataset(out), pd.read_parquet(out / "items.parquet")
    ids = items[FORMATS[format].id_column].to_numpy()
    shutil.rmtree(out)
    sequences = [ids[part].tolist() for part in np.split(dataset.items, dataset.offsets[1:-1])]
    return dataset, sequences, lines


def refused(source: Path, match: str, format: str = "csv", **options) -> None:
    """One sentence, and nothing beside what was there."""
    before = sorted(source.parent.iterdir())
    with warnings.catch_warnings(), pytest.raises(InputError, match=match) as caught:
        warnings.simplefilter("ignore", Notice)
        import_dataset(format, Request(source, **options), source.parent / "out")
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    assert sorted(source.parent.iterdir()) == before
