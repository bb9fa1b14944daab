"""The canonical dataset format, version 1: reading, writing and checking a folder.

dataset.json           counts, modalities, source, licence, SHA-256 of every file
interactions.parquet   user int32, item int32, position int32 (order within the user), timestamp Int64, may be null
items.parquet          item int32, has_<modality> for each modality; optional id or asin, text, attributes
users.parquet          optional: user int32, id: what a user is called where the interactions come from
features/<m>.npy       float16 [n_items, d], row = item

A file may be a link, as where data lie on another disk: what it holds is checked, not where it lies.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from rodpo_lite.data import checks
from rodpo_lite.errors import InputError, shown

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
COMMON = 20  # items; a rarer attribute is no category


@dataclass(frozen=True)
class Dataset:
    """Interactions in compressed rows: user u owns items[offsets[u]:offsets[u + 1]], oldest first.

    items [I] int64; offsets [U + 1] int64; timestamps [I] float64, NaN where unknown; features[m] float16
    [N, d]; present[m] bool [N], whether the item has modality m; titles [N]: text, else the item's id, else its number.
    item_ids [N] and user_ids [U]: what they are called where the data come from; where that is unknown, their numbers.
    attributes [N, A]: which items have which attributes, none where that is not known; None if no item's are.
    """

    name: str
    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    features: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    titles: list[str]
    item_ids: list[str]
    user_ids: list[str]
    manifest: dict[str, Any] = field(repr=False)
    attributes: "scipy.sparse.csr_array | None" = None

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        return len(self.titles)

    def user_called(self, identity: str) -> int:
        """The number of the user with this id; raises InputError if there is none."""
        if identity not in self.user_ids:
            first, last = self.user_ids[0], self.user_ids[-1]
            raise InputError(f"{self.name} has no user {identity!r}; the first is called {first}, the last {last}.")
        if self.user_ids.count(identity) > 1:
            raise InputError(f"{self.name} has several users that are called {identity!r}.")
        return self.user_ids.index(identity)

    @property
    def lengths(self) -> np.ndarray:
        """Interactions per user, [U]."""
        return np.diff(self.offsets)

    @property
    def first_time(self) -> float | None:
        """When the first interaction happened, Unix seconds; None if no time is known."""
        known = self.timestamps[~np.isnan(self.timestamps)]
        return float(known.min()) if len(known) else None

    @property
    def categories(self) -> np.ndarray:
        """Which items [N, K] have the K attributes that at least COMMON items have, 0 or 1; K may be 0."""
        if self.attributes is None:
            return np.zeros((self.n_items, 0), np.uint8)
        common = self.attributes.sum(0) >= COMMON
        return self.attributes[:, common].toarray().astype(np.uint8)

    @property
    def description(self) -> dict[str, Any]:
        """What a run says of its data: name, counts, SHA-256 of what a model sees (interactions, items, features)."""
        used = {"interactions.parquet", "items.parquet", *(m["file"] for m in self.manifest["modalities"].values())}
        return {
            "name": self.name,
            "n_users": self.n_users,
            "n_items": self.n_items,
            "n_interactions": len(self.items),
            "checksums": {file: self.manifest["files"][file]["sha256"] for file in sorted(used)},
        }


def read_dataset(folder: Path) -> Dataset:
    """Read and check a dataset folder; raises InputError with one sentence at the first thing that is wrong."""
    folder = Path(folder)
    manifest = _read_manifest(folder)
    modalities = manifest["modalities"]
    items = checks.read_items(folder, modalities)
    interactions = checks.read_interactions(folder, len(items))
    lengths = np.bincount(interactions.users)
    features = {name: checks.read_features(folder, name, entry, len(items)) for name, entry in modalities.items()}
    counts = {"n_users": len(lengths), "n_items": len(items), "n_interactions": len(interactions.items)}
    for key, count in counts.items():
        if (stated := manifest.get(key, count)) != count:
            raise InputError(f"{folder / 'dataset.json'} says {key} {shown(stated)}, but the files hold {count}.")
    unknown = [None] * len(items)
    named = {name: items[name].to_pylist() for name in ("text", "id", "asin") if name in items.column_names}
    ids = named.get("id", named.get("asin", unknown))
    return Dataset(
        name=manifest["name"],
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=interactions.items.astype(np.int64),
        timestamps=interactions.timestamps,
        features=features,
        present={name: checks.numbers(items[f"has_{name}"]) for name in modalities},
        titles=_names("item {}", named.get("text", unknown), ids),
        item_ids=_names("{}", ids),
        user_ids=_names("{}", checks.read_users(folder, len(lengths))),
        manifest=manifest,
        attributes=checks.read_attributes(folder, items),
    )


def _names(default: str, *columns: Iterable[object]) -> list[str]:
    """The first text of each row that is not blank; where there is none, the default with the row's number."""
    return [
        next((text for text in row if isinstance(text, str) and text.strip()), default.format(number))
        for number, row in enumerate(zip(*columns))
    ]


def locate(name: str) -> Path:
    """A dataset folder by path, or by name in the folder of real data: RODPO_DATA, by default data/amazon."""
    name = str(name)  # papermill takes the name 2014 for a number
    if Path(name).is_dir():
        return Path(name)
    return Path(os.environ.get("RODPO_DATA") or Path(__file__).parents[2] / "data" / "amazon") / name


def write_dataset(
    folder: Path,
    name: str,
    interactions: "pd.DataFrame",
    items: "pd.DataFrame",
    features: dict[str, np.ndarray] | None = None,
    extra: "dict[str, pd.DataFrame | np.ndarray] | None" = None,
    **notes: Any,
) -> Path:
    """Write a dataset folder in the canonical format, beside its final place, then rename it there.

    interactions: user, item, position, optional timestamp. items: item and optional text, asin, attributes; a missing
    has_<modality> column is taken as all true. features: [n_items, d] per modality, stored as float16. extra: further
    files by name, such as users.parquet or an oracle. notes: source, licence, notes, and `origin`, a text per modality.
    Raises InputError if the folder exists or what would be written is not a valid dataset.
    """
    import pandas as pd

    folder, features = Path(folder), features or {}
    origin = notes.pop("origin", {})
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another folder or remove it first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        dtypes = {"user": "int32", "item": "int32", "position": "int32", "timestamp": "Int64"}
        interactions = interactions.assign(timestamp=interactions.get("timestamp", pd.NA)).astype(dtypes)
        unmasked = [f"has_{modality}" for modality in features if f"has_{modality}" not in items]
        items = items.assign(**dict.fromkeys(unmasked, True)).astype({"item": "int32"})
        tables, modalities = {"interactions.parquet": interactions, "items.parquet": items, **(extra or {})}, {}
        for modality, rows in features.items():
            file, covered = f"features/{modality}.npy", int(items[f"has_{modality}"].sum())
            tables[file] = rows.astype(np.float16, copy=False)
            modalities[modality] = {
                "file": file, "dim": rows.shape[1], "dtype": "float16", "covered": covered,
                "origin": origin.get(modality, "not stated"),
            }  # fmt: skip
        for file, content in tables.items():
            (staged / file).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, np.ndarray):
                np.save(staged / file, content)
            else:
                content.to_parquet(staged / file, index=False, compression="zstd")
        manifest = {
            "name": name,
            "format_version": FORMAT_VERSION,
            "n_users": int(interactions["user"].nunique()),
            "n_items": len(items),
            "n_interactions": len(interactions),
            "modalities": modalities,
            **notes,
            "files": {
                str(path.relative_to(staged)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                for path in sorted(staged.rglob("*"))
                if path.is_file()
            },
        }
        (staged / "dataset.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        del interactions, items, tables, content  # what is read back is as large again
        read_dataset(staged)
        staged.chmod(0o755)
        os.rename(staged, folder)
    except BaseException as error:
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, OSError):  # of a full disk, which names no file, and numpy's not even the cause
            number = error.errno or errno.ENOSPC
            raise OSError(number, error.strerror or os.strerror(number), str(folder)) from None
        raise
    return folder


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"There is no dataset folder {folder}.")
    path = folder / "dataset.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a dataset folder: dataset.json is missing.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON.") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InputError(f"{path} has format_version {shown(version)}, but this version reads {FORMAT_VERSION}.")
    modalities, listed = manifest.setdefault("modalities", {}), manifest.setdefault("files", {})
    if not isinstance(modalities, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in modalities.values()
    ):
        raise InputError(f"{path}: modalities must map each name to its file, dim and dtype.")
    for name in (manifest.setdefault("name", folder.resolve().name), *modalities):
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise InputError(f"{path}: the name {shown(name)} must be made of letters, digits, - and _ only.")
    if not isinstance(listed, dict) or not all(isinstance(entry, dict) for entry in listed.values()):
        raise InputError(f"{path}: files must map each file name to its bytes and sha256.")
    needed = {"interactions.parquet", "items.parquet", *(entry["file"] for entry in modalities.values())}
    for name in sorted({*needed, *listed}):
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise InputError(f"{path} names the file {shown(name)}, which lies outside the dataset folder.")
        if not file.is_file():
            raise InputError(f"{folder} is incomplete: {name[:200]} is missing.")
        digest, stated = sha256(file), listed.setdefault(name, {}).get("sha256")
        if stated is not None and stated != digest:
            raise InputError(f"{file} does not match its checksum in dataset.json: it was changed or cut short.")
        listed[name] = {"bytes": file.stat().st_size, "sha256": digest}
    return manifest


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
