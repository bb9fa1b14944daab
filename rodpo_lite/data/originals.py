"""The public originals of datasets: the list of them, data/originals.yml, and what their files were when first fetched.

A file of which no checksum is known gets one at its first fetch, in originals.lock.json beside the list; from then on
every fetch must match it.
"""

import fcntl
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from rodpo_lite.errors import InputError, Notice
from rodpo_lite.files import read_yaml

ORIGINALS = Path(__file__).resolve().parents[2] / "data" / "originals.yml"

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=200)]
_Url = Annotated[str, Field(pattern=r"^https?://[^/?#]")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Model):
    """A file: its name in the folder, and its addresses in the order in which they are tried."""

    name: _Name
    urls: Annotated[tuple[_Url, ...], Field(min_length=1)]
    sha256: _Digest | None = None


class Original(_Model):
    """A dataset as it is published: its files, and the format and core that `rodpo data import` takes for them."""

    format: Literal["amazon2014", "amazon2018", "amazon2023"]
    homepage: str
    note: str
    files: dict[Literal["interactions", "items", "images"], File]
    core: int = 0

    @field_validator("files")
    @classmethod
    def _told_apart(cls, files: dict) -> dict:
        if len({file.name.lower() for file in files.values()}) < len(files):
            raise ValueError("two files have the same name")
        return files

    def import_command(self, name: str, folder: Path) -> str | None:
        """The command that imports what the folder holds; None if the interactions are not there."""
        there = {role: folder / file.name for role, file in self.files.items() if (folder / file.name).is_file()}
        if "interactions" not in there:
            return None
        words = ["rodpo", "data", "import", self.format, there.pop("interactions")]
        for role, path in there.items():
            words += [f"--{role}", path]
        words += ["--core", self.core] if self.core else []
        return shlex.join(map(str, [*words, "--out", folder / name]))


class Pin(_Model):
    """What a file was when it was first fetched; size in bytes."""

    sha256: _Digest
    size: int
    url: str


@dataclass(frozen=True)
class Known:
    """What a file must be; size in bytes, None if it is not known; where: what says so."""

    sha256: str
    size: int | None
    where: Path


@dataclass(frozen=True)
class Checksums:
    """Checksums of files by key, NAME/FILE: beside the list, or in the folder of downloads where that is read-only."""

    originals: Path
    folder: Path

    def known(self, key: str, file: File) -> Known | None:
        """What the list says of a file or, failing that, what it was at first; None if neither says anything.

        Raises InputError where the record is damaged.
        """
        for lock in self._locks():
            pin = _read_pins(lock).get(key)
            if pin and file.sha256 in (None, pin.sha256):
                return Known(pin.sha256, pin.size, lock)
        return Known(file.sha256, None, self.originals) if file.sha256 else None

    def keep(self, key: str, pin: Pin) -> Known:
        """Record a file that was fetched for the first time; returns what is on record, even if it is another.

        One process at a time writes. Warns with a Notice where the record cannot lie beside the list.
        """
        beside, own = self._locks()
        with self.originals.open("rb") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            try:
                return _add_pin(beside, key, pin)
            except OSError as error:
                message = f"{beside} cannot be written ({error.strerror}), so the checksum of {key} is kept in {own}."
                warnings.warn(message, Notice, stacklevel=2)
                return _add_pin(own, key, pin)

    def _locks(self) -> tuple[Path, Path]:
        lock = self.originals.with_suffix(".lock.json")
        return lock, self.folder / lock.name


def read_originals(path: Path) -> dict[str, Original]:
    """The list by name; raises InputError that names the entry and the key that is wrong."""
    try:
        return TypeAdapter(dict[_Name, Original]).validate_python(read_yaml(path, "The list of originals"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"The list of originals {path}, {where}: {first['msg']}.") from None


_PINS = TypeAdapter(dict[str, Pin])


def _read_pins(lock: Path) -> dict[str, Pin]:
    try:
        return _PINS.validate_json(lock.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise InputError(f"{lock} is damaged: restore it, or remove it to forget what was fetched.") from None


def _add_pin(lock: Path, key: str, pin: Pin) -> Known:
    from rodpo_lite.files import write_json

    pins = _read_pins(lock)
    if key not in pins:
        pins[key] = pin
        write_json(lock, _PINS.dump_python(dict(sorted(pins.items()))))
    return Known(pins[key].sha256, pins[key].size, lock)
