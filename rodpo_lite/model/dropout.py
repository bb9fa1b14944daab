"""Dropout whose random numbers cost little on a CPU, and which draws separately for models that are computed as one."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16
Stream = AbstractContextManager  # within it, torch's global random numbers are those of one model


class Dropout(nn.Module):
    """Zeroes each entry with probability p, rounded to a multiple of 2^-16, and scales the others by 1 / (1 - p).

    `nn.Dropout` on a CPU draws a random number for each entry; here one draw of 64 bits decides about four entries.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return _Masked.apply(x, _Mask.apply(x, self.p), 1 / (1 - self.p))


def keep_mask(shape: torch.Size, p: float, device: torch.device | str = "cpu") -> Tensor:
    """Draw which entries stay, each with probability 1 - p, at least 2^-16."""
    count = shape.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    lowest = min(round(p * LEVELS), LEVELS - 1) - LEVELS // 2  # one more would be the smallest 16-bit number
    return (bits.view(torch.int16)[:count] >= lowest).view(shape)


_stacked: list[tuple[Sequence[Stream], Sequence[int]]] = []


@contextmanager
def random_numbers_of_each(streams: Sequence[Stream], rows: Sequence[int]) -> Iterator[None]:
    """Within, dropout under `torch.vmap` gives each of R models the mask that it would draw alone.

    streams: R contexts with the models' own random numbers; rows: how many of the rows of each are real.
    """
    _stacked.append((streams, rows))
    try:
        yield
    finally:
        _stacked.pop()


class _Mask(torch.autograd.Function):
    """Draws the mask for x [..., rows, D]; under vmap one for each model, padded to the rows of x."""

    @staticmethod
    def forward(x, p):
        return keep_mask(x.shape, p, x.device)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx, grad):
        return None, None

    @staticmethod
    def vmap(info, in_dims, x, p):
        (streams, counts), x = _stacked[-1], x.movedim(in_dims[0], 0)
        masks = []
        for stream, rows in zip(streams, counts, strict=True):
            with stream:
                mask = keep_mask(torch.Size([*x.shape[1:-2], rows, x.shape[-1]]), p, x.device)
            masks.append(F.pad(mask, (0, 0, 0, x.shape[-2] - rows)))
        return torch.stack(masks), 0


class _Masked(torch.autograd.Function):
    """x · mask · scale in one pass each way; saves the mask as bytes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, mask, scale):
        return torch.ops.aten.native_dropout_backward(x, mask, scale)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])
        ctx.scale = inputs[2]

    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(grad, mask, ctx.scale), None, None


class RandomNumbers:
    """Within this context torch's global generators are those of one training, and go on where they were left.

    Outside it they are untouched. Trainings that take turns thus draw the same numbers as one after the other.
    """

    def __init__(self, seed: int, device: torch.device):
        self.generators = {"global": torch.default_generator}
        if device.type == "cuda":
            self.generators["cuda"] = torch.cuda.default_generators[device.index or 0]
        self.states = {
            name: torch.Generator(generator.device).manual_seed(seed).get_state()
            for name, generator in self.generators.items()
        }

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_) -> None:
        self._exchange()

    def _exchange(self) -> None:
        for name, generator in self.generators.items():
            state, self.states[name] = self.states[name], generator.get_state()
            generator.set_state(state)
