"""The public originals of datasets: the list of them, data/originals.yml, and what their files were when first fetched.

A file without a known checksum gets one at its first fetch, in originals.lock.json; every later fetch must match it.
"""

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from rodpo_lite.errors import InputError
from rodpo_lite.files import write_json
from rodpo_lite.settings import Settings, read_as

ORIGINALS = Path(__file__).resolve().parents[2] / "data" / "originals.yml"

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=200)]
_Url = Annotated[str, Field(pattern=r"^https?://[^/?#]")]


class File(Settings):
    """A file: its name in the folder, and its addresses in the order in which they are tried."""

    name: _Name
    urls: Annotated[tuple[_Url, ...], Field(min_length=1)]
    sha256: _Digest | None = None


class Original(Settings):
    """A dataset as it is published: its files, and the format and core that `rodpo data import` takes for them."""

    format: Literal["amazon2014", "amazon2018", "amazon2023"]
    homepage: str
    note: str
    files: dict[Literal["interactions", "items", "images"], File]
    core: int = 0

    @field_validator("files")
    @classmethod
    def _distinct_names(cls, files: dict) -> dict:
        if len({file.name.lower() for file in files.values()}) < len(files):
            raise ValueError("two files have the same name")
        return files

    def import_command(self, name: str, folder: Path) -> str | None:
        """The command that imports what the folder holds; None if the interactions are not there."""
        options = {role: folder / file.name for role, file in self.files.items() if (folder / file.name).is_file()}
        if "interactions" not in options:
            return None
        words = ["rodpo", "data", "import", self.format, options.pop("interactions")]
        options |= {"core": self.core} if self.core else {}
        for option, value in (options | {"out": folder / name}).items():
            words += [f"--{option}", value]
        return shlex.join(map(str, words))


class Pin(Settings):
    """What a file was when it was first fetched; size in bytes."""

    sha256: _Digest
    size: int
    url: str


_PINS = TypeAdapter(dict[str, Pin])


class Checksums:
    """Checksums of files by key, NAME/FILE: beside the list, or in the folder of downloads where that is read-only."""

    def __init__(self, originals: Path, folder: Path) -> None:
        beside = originals.with_suffix(".lock.json")
        self.originals, self.records = originals, (beside, folder / beside.name)

    def known(self, key: str, file: File) -> tuple[str, Path] | None:
        """The SHA-256 of a file and where it is written, None if never fetched; InputError for a damaged record."""
        if file.sha256:
            return file.sha256, self.originals
        pins = ((record, _read_pins(record).get(key)) for record in self.records)
        return next(((pin.sha256, record) for record, pin in pins if pin), None)

    def keep(self, key: str, pin: Pin) -> None:
        """Record a file that was fetched for the first time, in one process at a time; an older pin stays."""
        beside, local = self.records
        record = beside if os.access(beside.parent, os.W_OK) else local
        with FileLock(record.with_suffix("")):
            pins = {key: pin} | _read_pins(record)
            write_json(record, _PINS.dump_python(dict(sorted(pins.items()))))


def read_originals(path: Path) -> dict[str, Original]:
    """The list by name; raises InputError that names the entry and the key that is wrong."""
    return read_as(dict[_Name, Original], path, "The list of originals")


def _read_pins(record: Path) -> dict[str, Pin]:
    try:
        return _PINS.validate_json(record.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise InputError(f"{record} is damaged: restore it, or remove it to forget what was fetched.") from None
