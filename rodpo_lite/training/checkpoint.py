"""The files of a run folder: safetensors and the history."""

import json
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rodpo_lite.errors import InputError
from rodpo_lite.files import write_bytes

MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
RUN = "run.json"
HISTORY = "history.jsonl"


def remove_leftovers(folder: Path) -> None:
    """Remove the files that a killed `write_bytes` may have left in a run folder."""
    for name in (MODEL, CHECKPOINT, RUN, HISTORY):
        for staged in folder.glob(f".{name}-*"):
            staged.unlink(missing_ok=True)


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
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, {**json.loads(file.metadata()["state"])}
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, OSError):
        raise _unreadable(path) from None


def write_checkpoint(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Write tensors by group and name, a JSON state, and a checksum of both into checkpoint.safetensors."""
    named = {f"{group}.{name}": tensor for group, members in tensors.items() for name, tensor in members.items()}
    write_tensors(folder / CHECKPOINT, named, state | {"checksum": _checksum(named, state)})


def read_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `write_checkpoint` wrote; raises InputError if it is damaged."""
    named, state = read_tensors(folder / CHECKPOINT)
    if state.pop("checksum", None) != _checksum(named, state):
        raise _unreadable(folder / CHECKPOINT)
    tensors: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in named.items():
        group, _, name = key.partition(".")
        tensors[group][name] = tensor
    return tensors, state


def _checksum(tensors: dict[str, Tensor], state: dict[str, Any]) -> int:
    """CRC-32 of tensors and state, whatever their order."""
    total = zlib.crc32(json.dumps(state, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy(), total)
    return total


def _unreadable(path: Path) -> InputError:
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
