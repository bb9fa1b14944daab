"""Several processes that train one model on shares of every batch, started by torchrun."""

import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rodpo_lite.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This process among `size` that train together; the one of rank 0 alone writes and reports."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum of a value over the group, the same in every process."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def add_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over the group; a parameter without one counts as zero."""
        if self.size == 1:
            return
        dense = []
        for parameter in model.parameters():
            if parameter.grad is not None and parameter.grad.is_sparse:
                dist.all_reduce(parameter.grad)
            elif parameter.requires_grad:
                dense.append(parameter)
        # One message instead of one for each parameter.
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in dense])
        dist.all_reduce(flat)
        for parameter, summed in zip(dense, flat.split([parameter.numel() for parameter in dense]), strict=True):
            parameter.grad = summed.view_as(parameter)

    def from_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process alone, and return its result, or raise its InputError, in every process."""
        if self.size == 1:
            return work()
        message: list[Any] = [None]
        if self.is_main:
            try:
                message = [work()]
            except InputError as error:
                message = [error]
        dist.broadcast_object_list(message)
        if isinstance(message[0], InputError):
            raise message[0]
        return message[0]


ALONE = Group()


def processes() -> int:
    """How many processes torchrun started together with this one, itself included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device):
    """Join the group that torchrun started this process in; a process that it did not start is a group by itself."""
    size = processes()
    if size == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
