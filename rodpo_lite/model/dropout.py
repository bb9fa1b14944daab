"""Dropout whose random numbers cost little on a CPU."""

import torch
from torch import Tensor, nn

LEVELS = 2**16


class Dropout(nn.Module):
    """Zeroes each entry with probability p, rounded to a multiple of 2^-16, and scales the others by 1 / (1 - p).

    `nn.Dropout` on a CPU draws a random number for each entry, one after the other. Here one draw of 64 bits decides
    about four entries. On a GPU it is `nn.Dropout`'s own kernel.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return _Masked.apply(x, keep_mask(x.shape, self.p), 1 / (1 - self.p))


def keep_mask(shape: torch.Size, p: float, generator: torch.Generator | None = None) -> Tensor:
    """Which entries stay, each with probability 1 - p."""
    count = shape.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return (bits.view(torch.int16)[:count] >= round(p * LEVELS) - LEVELS // 2).view(shape)


class _Masked(torch.autograd.Function):
    """x · mask · scale in one pass each way; saves the mask as bytes."""

    @staticmethod
    def forward(ctx, x, mask, scale):
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(x, mask, scale)

    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(grad, mask, ctx.scale), None, None
