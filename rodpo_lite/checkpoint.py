"""Run folders on disk: safetensors and JSON, each written beside its final place and then renamed."""

import fcntl
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rodpo_lite.errors import InputError

MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
RUN = "run.json"
HISTORY = "history.jsonl"


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
def alone(folder: Path, doing: str = "trains") -> Iterator[None]:
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


def sweep(folder: Path) -> None:
    """Remove what a killed `write_bytes` may have left beside the files of a run."""
    for name in (MODEL, CHECKPOINT, RUN, HISTORY):
        for staged in folder.glob(f".{name}-*"):
            staged.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def write_history(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """Write history.jsonl, a line per epoch."""
    write_bytes(folder / HISTORY, "".join(json.dumps(epoch) + "\n" for epoch in epochs).encode())


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The lines of history.jsonl; raises InputError if it is missing or broken."""
    path = folder / HISTORY
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        raise InputError(f"{path} is missing: {folder} is not a run folder.") from None
    except (ValueError, RecursionError):
        lines = [None]
    if not all(isinstance(line, dict) and "epoch" in line for line in lines):
        raise InputError(f"{path} must hold one JSON object for each epoch: it is damaged or cut short.")
    return lines


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


def write_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, Any] | None = None) -> None:
    """Write tensors and a JSON state into one safetensors file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata={"state": json.dumps(state or {})}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote; raises InputError if the file is missing, cut short or of another kind."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the run has not finished; finish it with --resume.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors, state = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["state"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, OSError):
        raise unreadable(path) from None
    if not isinstance(state, dict):
        raise unreadable(path)
    return tensors, state


def checksum(tensors: dict[str, Tensor], state: dict[str, Any]) -> int:
    """CRC-32 of tensors and state, whatever their order."""
    found = zlib.crc32(json.dumps(state, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy(), found)
    return found


def unreadable(path: Path) -> InputError:
    """What to do about a file of tensors that does not hold what `write_tensors` wrote."""
    return InputError(
        f"{path} is not a readable checkpoint: it is damaged or cut short; remove it and train again with --resume."
    )


def load_weights(module: torch.nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights strictly; raises InputError where names or shapes differ."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise InputError(f"The weights in {path} do not fit this model and dataset: {detail}.") from None
