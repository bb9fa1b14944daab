"""A causal pre-norm Transformer over packed sequences."""

import torch.nn.functional as F
from torch import Tensor, nn

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.model.attention import Bins, Layout, packed_causal_attention
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.dropout import Dropout
from rodpo_lite.model.experts import Routed, SparseExperts, mlp, with_routing


class SequenceEncoder(nn.Module):
    """Hidden state of every packed position, which sees itself and what came before it in its own sequence."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.position = nn.Embedding(config.max_length, config.width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, inputs: Tensor, batch: PackedBatch, layout: Layout, only: Tensor | None = None) -> Routed:
        """Encode item vectors of the packed positions, [P, D]; returns hidden states [P, D] and routing by block.

        only: numbers of the positions whose states are wanted; the last block computes no others.
        """
        routing, last = {}, len(self.blocks) - 1
        x = inputs + self.position(batch.steps)  # [P, D]
        x = self.dropout(F.pad(x, (0, 0, 0, layout.rows - len(inputs))))  # [layout.rows, D]
        for number, block in enumerate(self.blocks):
            x, block_routing = block(x, layout.bins, f"feedforward.{number}", only if number == last else None)
            routing |= block_routing
        return self.norm(x if only is not None else x[: len(inputs)]), routing  # [P, D]


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
            self.feedforward = SparseExperts(config, config.width, config.width)
        else:
            self.feedforward = mlp(config.width, config.feedforward_hidden or 4 * config.width, config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, bins: list[Bins], name: str, only: Tensor | None = None) -> Routed:
        mixed = packed_causal_attention(self.qkv(self.attention_norm(x)), bins, self.heads)  # [P, 3 D] to [P, D]
        if only is not None:
            x, mixed = x[only], mixed[only]
        x = x + self.dropout(self.out(mixed))
        change, routing = with_routing(self.feedforward, self.feedforward_norm(x), name)
        return x + self.dropout(change), routing
