"""Files and folders: JSON and YAML, written beside their final place and then renamed; one process to a folder."""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from rodpo_lite.errors import InputError, shown

# What the parser raises for text that is not valid; 2024-99-99 is a ValueError, !!bool x a KeyError, and so on.
_BROKEN = (yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError, TypeError, OverflowError)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file at once: readers see the old content or the new, also after a kill or a power cut."""
    staged = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, staged = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(staged, 0o644)
        os.replace(staged, path)
    except BaseException as error:
        if staged is not None:
            Path(staged).unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk names no file, and a read-only folder the staged one
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise


@contextmanager
def exclusive(folder: Path, doing: str = "trains") -> Iterator[None]:
    """Hold a folder, made if need be, with a lock that ends with the process; one that stays empty goes again.

    Raises InputError, which says what another process is doing there, if one holds it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"Another process {doing} in {folder}; wait for it or choose another folder.") from None
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; raises InputError if it is missing or broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path} is missing: {path.parent} is not a run folder.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON: it is damaged or cut short.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold keys and values: it is damaged.")
    return found


class _Loader(yaml.SafeLoader):
    """YAML as people write numbers: 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """One YAML value; raises InputError, `where` first, if it is none."""
    try:
        return yaml.load(text, _Loader)
    except _BROKEN:
        raise InputError(f"{where} is not a plain value: {shown(text)}.") from None


def read_yaml(file: Path, what: str) -> dict[str, Any]:
    """Keys and values of a YAML file; raises InputError, `what` first, if it has none."""
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
