"""Causal self-attention over packed sequences, many short ones in one small matrix product."""

from bisect import bisect_right
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.engine import rounded_up
from rodpo_lite.model.dropout import Dropout

CAPACITY = 64


class Bins(NamedTuple):
    """b runs of whole sequences, none longer than c positions in all, that are attended together.

    index [b c]: the packed position of each slot, the last one repeated where a run is shorter than c; slots [p]: the
    slot of each of the run's positions; bias [b, c, c]: 0 where a slot may look, -inf elsewhere.
    """

    index: Tensor
    slots: Tensor
    bias: Tensor


class Layout(NamedTuple):
    """Bins of a batch, and the number of rows that its positions are padded to.

    Rows after the last position get some mixture of real ones and give nothing to any.
    """

    bins: list[Bins]
    rows: int

    @classmethod
    def of(cls, lengths: Tensor) -> "Layout":
        """Lay out sequences of lengths [B], longest first; rows are rounded up so that few different shapes occur."""
        positions = int(lengths.sum())
        rows = rounded_up(positions)
        return cls(attention_bins(lengths, rows - positions), rows)

    @classmethod
    def stacked(cls, lengths: list[Tensor]) -> "Layout":
        """Lay out R batches in the same shapes: there is one kind of bins, whose tensors have a first dimension R."""
        positions = [int(batch.sum()) for batch in lengths]
        rows, capacity = rounded_up(max(positions)), max(CAPACITY, *(int(batch[0]) for batch in lengths))
        bins = [
            attention_bins(batch, rows - count, capacity)[0] for batch, count in zip(lengths, positions, strict=True)
        ]
        runs = max(len(of_batch.bias) for of_batch in bins)
        padded = [
            Bins(
                F.pad(index, (0, capacity * (runs - len(bias)))), slots, F.pad(bias, (0, 0, 0, 0, 0, runs - len(bias)))
            )
            for index, slots, bias in bins
        ]
        return cls([Bins(*map(torch.stack, zip(*padded, strict=True)))], rows)


def attention_bins(lengths: Tensor, padding: int = 0, capacity: int = CAPACITY) -> list[Bins]:
    """Cut packed sequences of lengths [B], longest first, into bins of `capacity` slots.

    Sequences that do not fit have larger bins, one size for all whose lengths are within a factor of two. `padding`
    more rows after the last sequence look where the first slot is.
    """
    sequence = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    ends = lengths.cumsum(0).tolist()
    bins, first, base = [], 0, 0
    while first < len(ends):
        longest, stop = ends[first] - base, len(ends)
        if longest > capacity:
            stop = first + int((lengths[first:] > max(capacity, longest // 2)).sum())
        size = max(longest, capacity)
        bounds = []
        while first < stop:
            first = bisect_right(ends, base + size, first, stop)
            bounds.append((base, ends[first - 1]))
            base = ends[first - 1]
        bins.append(_bins(torch.tensor(bounds, device=lengths.device), sequence, size))
    if padding:
        bins[-1] = bins[-1]._replace(slots=F.pad(bins[-1].slots, (0, padding)))
    return bins


def _bins(bounds: Tensor, sequence: Tensor, size: int) -> Bins:
    """bounds [b, 2]: the packed positions, from and to, of each bin; sequence [P]: the sequence of each position."""
    slot = bounds[:, :1] + torch.arange(size, device=bounds.device)  # [b, c]
    index = torch.minimum(slot, bounds[:, 1:] - 1)
    owner = sequence[index]
    seen = (owner[:, :, None] == owner[:, None, :]).tril()  # [b, c, c]
    bias = torch.zeros(seen.shape, device=bounds.device).masked_fill_(~seen, -torch.inf)
    return Bins(index.flatten(), (slot < bounds[:, 1:]).flatten().nonzero()[:, 0], bias)


def packed_causal_attention(qkv: Tensor, bins: list[Bins], heads: int, dropout: Dropout | None = None) -> Tensor:
    """Let each position attend itself and what came before it in its sequence: qkv [T, P, 3 D] to [T, P, D].

    The products within a bin also cross sequences, and those are masked: for short sequences a few large products are
    much cheaper than many small ones. The slots that repeat a position stand to the right of it, so no causal query
    sees them. dropout: of attention weights.
    """
    towers, depth = len(qkv), qkv.shape[2] // (3 * heads)
    out = []
    for index, slots, bias in bins:
        b, c, _ = bias.shape
        parts = qkv.index_select(1, index).view(towers, b, c, 3, heads, depth).permute(3, 0, 1, 4, 2, 5)
        q, k, v = parts.reshape(3, towers * b * heads, c, depth).unbind(0)  # each [T b heads, c, depth]
        head_bias = bias.to(qkv.dtype).repeat_interleave(heads, 0).repeat(towers, 1, 1)  # [T b heads, c, c]
        weights = torch.baddbmm(head_bias, q, k.transpose(1, 2), alpha=depth**-0.5).softmax(-1)  # [T b heads, c, c]
        if dropout is not None:
            weights = dropout(weights)
        mixed = torch.bmm(weights, v).view(towers, b, heads, c, depth).transpose(2, 3)  # [T, b, c, heads, depth]
        out.append(mixed.reshape(towers, b * c, heads * depth).index_select(1, slots))  # [T, their positions, D]
    return torch.cat(out, 1) if len(out) != 1 else out[0]
