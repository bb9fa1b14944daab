"""A causal pre-norm Transformer over packed sequences."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rodpo_lite.config import EncoderConfig
from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.model.experts import Routing, mlp, sparse_experts, with_routing


class SequenceEncoder(nn.Module):
    """Hidden state of every packed position, which sees itself and what came before it in its own sequence."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.position = nn.Embedding(config.max_length, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, inputs: Tensor, batch: PackedBatch) -> tuple[Tensor, dict[str, Routing]]:
        """inputs: item vectors of the packed positions [P, D]; returns hidden states [P, D] and routing by block."""
        groups, routing = length_groups(batch.lengths), {}
        x = self.dropout(inputs + self.position(batch.steps))
        for number, block in enumerate(self.blocks):
            x, of_block = block(x, groups, f"feedforward.{number}")
            routing |= of_block
        return self.norm(x), routing


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x), the latter an MLP or a sparse mixture of experts."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.feedforward_norm = nn.LayerNorm(config.width)
        if config.feedforward == "moe":
            self.feedforward = sparse_experts(config, config.width, config.width)
        else:
            self.feedforward = mlp(config.width, config.feedforward_hidden or 4 * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, groups: list[tuple[Tensor, Tensor]], name: str) -> tuple[Tensor, dict[str, Routing]]:
        mixed = packed_causal_attention(self.qkv(self.attention_norm(x)), groups, self.heads)
        x = x + self.dropout(self.out(mixed))
        change, routing = with_routing(self.feedforward, self.feedforward_norm(x), name)
        return x + self.dropout(change), routing


def packed_causal_attention(qkv: Tensor, groups: list[tuple[Tensor, Tensor]], heads: int) -> Tensor:
    """Causal self-attention within each packed sequence: qkv [P, 3D] to [P, D].

    Sequences of similar length are attended together. A short one is filled up on the right with copies of its own last
    position: a causal query never looks to its right, so real positions are exact and no mask is needed.
    """
    out = []
    for index, real in groups:
        q, k, v = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for part in qkv[index].chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out.append(attended.transpose(1, 2).flatten(2)[real])
    return torch.cat(out)


def length_groups(lengths: Tensor, waste: float = 0.7) -> list[tuple[Tensor, Tensor]]:
    """Runs of sequences whose lengths are at least `waste` of the longest in the run, longest first.

    lengths [B] must not increase. Each group is (index into the packed positions, which of them are real), both [b, T].
    """
    ends = lengths.cumsum(0)
    groups, first, sizes = [], 0, lengths.tolist()
    while first < len(sizes):
        longest, last = sizes[first], first
        while last < len(sizes) and sizes[last] >= waste * longest:
            last += 1
        size, end = lengths[first:last, None], ends[first:last, None]
        step = torch.arange(longest, device=lengths.device)
        groups.append((torch.minimum(end - size + step, end - 1), step < size))
        first = last
    return groups
