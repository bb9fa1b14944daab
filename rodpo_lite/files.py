"""Files and folders: JSON and YAML, written beside their final place and then renamed; one process to a folder."""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from rodpo_lite.errors import InputError, shown

LOCK = ".lock"  # in a folder that `exclusive` holds

# What the parser raises for text that is not valid; 2024-99-99 is a ValueError, !!bool x a KeyError, and so on.
_BROKEN = (yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError, TypeError, OverflowError)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file at once: readers see the old content or the new, also after a kill or a power cut."""
    with replacing(path) as staged:
        staged.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside a file, for its new content: what is written there replaces the file at once, if all went well."""
    staged = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        with open(staged, "r+b") as stream:
            os.fsync(stream.fileno())
        os.replace(staged, path)
    except BaseException as error:
        staged.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk names no file, and a read-only folder the staged one
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise


@contextmanager
def exclusive(folder: Path, doing: str = "trains") -> Iterator[None]:
    """Hold a folder, made if need be, with a lock that ends with the process; one that stays empty goes again.

    The lock is on a file in it, LOCK, which a killed process leaves behind; it says nothing then. Raises InputError,
    which says what another process is doing there, if one holds it.
    """
    lock, made = FileLock(folder / LOCK), not folder.exists()
    while not lock.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2, poll_interval=0.02)
        except FileNotFoundError:  # the process that made the folder has just removed it
            continue
        except Timeout:
            raise InputError(f"Another process {doing} in {folder}; wait for it or choose another folder.") from None
    try:
        yield
    finally:
        # The file goes before the lock: a process that opened it meanwhile gets the lock of a file without a name, by
        # which filelock knows to start over.
        (folder / LOCK).unlink(missing_ok=True)
        if made:
            with suppress(OSError):
                folder.rmdir()
        lock.release()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; raises InputError if it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path} is missing: {path.parent} is not a run folder.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON: it is damaged or cut short.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold keys and values: it is damaged.")
    return value


class _Loader(yaml.SafeLoader):
    """YAML with numbers as people write them: 1e-3 is one; 1:30, in YAML 1.1 a number of seconds, is a text."""


_NUMBERS = {"int": r"^[-+]?(0|[1-9][0-9_]*)$", "float": r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag.rpartition(":")[2] not in _NUMBERS]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list("-+0123456789."))


def parse_yaml(text: str, where: str) -> Any:
    """Read one YAML value; raises InputError, `where` first, if it is none."""
    try:
        return yaml.load(text, _Loader)
    except _BROKEN:
        raise InputError(f"{where} is not a plain value: {shown(text)}.") from None


def read_yaml(file: Path, what: str) -> dict[str, Any]:
    """Read keys and values from a YAML file; raises InputError, `what` first, if it has none."""
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{what} {file} cannot be read: {error.strerror}.") from None
    except _BROKEN:
        raise InputError(f"{what} {file} is not valid YAML.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{what} {file} must hold keys and values, such as 'seed: 1'.")
    return values
