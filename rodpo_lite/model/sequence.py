"""Causal Transformers over packed sequences: one, or several side by side, a tower for each modality."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.model.attention import Bins, Layout, packed_causal_attention
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.dropout import Dropout
from rodpo_lite.model.experts import Routed, SparseExperts


class SequenceEncoder(nn.Module):
    """Hidden state of every packed position, which sees itself and what came before it in its own sequence.

    T towers are computed together: inside, rows are [T, P, D]. What reads fewer than T takes the last ones.
    """

    def __init__(self, config: EncoderConfig, names: Sequence[str] = ("",)):
        super().__init__()
        towers, self.width, self.position = len(names), config.width, None
        if config.position == "tower":
            self.position = nn.Embedding(config.max_length, towers * config.width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, names) for _ in range(config.blocks))
        self.input_norm = TowerNorm(towers, config.width) if config.input_norm else None
        self.norm = TowerNorm(towers, config.width) if config.norm == "pre" else None
        if self.position is not None:
            nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, inputs: Tensor, batch: PackedBatch, layout: Layout, only: Tensor | None = None) -> Routed:
        """Encode what the towers read at the packed positions, [P, T D]; returns states [P, T D] and routing by block.

        only: numbers of the positions whose states are wanted; the last block computes no others.
        """
        routing, last = {}, len(self.blocks) - 1
        if self.position is not None:
            inputs = inputs + self.position(batch.steps)[:, -inputs.shape[1] :]  # [P, T D]
        x = F.pad(inputs, (0, 0, 0, layout.rows - len(inputs)))  # [layout.rows, T D]
        x = x.unflatten(1, (-1, self.width)).transpose(0, 1).contiguous()  # [T, layout.rows, D]
        if self.input_norm is not None:
            x = self.input_norm(x)
        x = self.dropout(x)
        for number, block in enumerate(self.blocks):
            x, block_routing = block(x, layout.bins, f"feedforward.{number}", only if number == last else None)
            routing |= block_routing
        x = x if only is not None else x[:, : len(inputs)]
        x = x if self.norm is None else self.norm(x)
        return x.transpose(0, 1).flatten(1), routing  # [P, T D]


class Block(nn.Module):
    """Attention, then feed-forward, an MLP or a sparse mixture of experts, both residual; rows [T, P, D].

    Pre-norm: x + f(norm x). Post-norm: norm(x + f(x)), as in SASRec's descendants in RecBole, HM4SR among them.
    """

    def __init__(self, config: EncoderConfig, names: Sequence[str]):
        super().__init__()
        self.heads, self.pre, towers = config.heads, config.norm == "pre", len(names)
        self.attention_norm = TowerNorm(towers, config.width)
        self.qkv = TowerLinear(towers, config.width, 3 * config.width)
        self.attention_dropout = Dropout(config.attention_dropout)
        self.out = TowerLinear(towers, config.width, config.width)
        self.feedforward_norm = TowerNorm(towers, config.width)
        if config.feedforward == "moe":
            self.feedforward = TowerExperts(config, names)
        else:
            self.feedforward = TowerMLP(towers, config.width, config.feedforward_hidden or 4 * config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, bins: list[Bins], name: str, only: Tensor | None = None) -> Routed:
        qkv = self.qkv(self.attention_norm(x) if self.pre else x)  # [T, P, 3 D]
        mixed = packed_causal_attention(qkv, bins, self.heads, self.attention_dropout)  # [T, P, D]
        if only is not None:
            x, mixed = x[:, only], mixed[:, only]
        x = x + self.dropout(self.out(mixed))
        x = x if self.pre else self.attention_norm(x)
        change, routing = self.feedforward(self.feedforward_norm(x) if self.pre else x, name)
        x = x + self.dropout(change)
        return x if self.pre else self.feedforward_norm(x), routing


class TowerLinear(nn.Module):
    """A linear map for each tower in one batched product: rows [t, P, D_in] of the last t towers to [t, P, D_out]."""

    def __init__(self, towers: int, inputs: int, outputs: int):
        super().__init__()
        maps = [nn.Linear(inputs, outputs) for _ in range(towers)]
        self.weight = nn.Parameter(torch.stack([one.weight.detach() for one in maps]))  # [T, D_out, D_in]
        self.bias = nn.Parameter(torch.stack([one.bias.detach() for one in maps]))  # [T, D_out]

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight[-len(x) :], self.bias[-len(x) :]
        if len(x) == 1:
            return F.linear(x, weight[0], bias[0])
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


class TowerNorm(nn.Module):
    """A layer norm for each tower: rows [t, P, D] of the last t towers."""

    def __init__(self, towers: int, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(towers, width)), nn.Parameter(torch.zeros(towers, width))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight[-len(x) :], self.bias[-len(x) :]
        if len(x) == 1:
            return F.layer_norm(x, x.shape[-1:], weight[0], bias[0])
        return torch.addcmul(bias[:, None], F.layer_norm(x, x.shape[-1:]), weight[:, None])


class TowerMLP(nn.Module):
    """A GELU MLP for each tower: rows [t, P, D] of the last t towers to the same shape."""

    def __init__(self, towers: int, width: int, hidden: int):
        super().__init__()
        self.inner, self.outer = TowerLinear(towers, width, hidden), TowerLinear(towers, hidden, width)

    def forward(self, x: Tensor, name: str) -> Routed:
        return self.outer(F.gelu(self.inner(x))), {}


class TowerExperts(nn.Module):
    """A sparse mixture of experts for each tower, one after the other: rows [t, P, D] of the last t towers."""

    def __init__(self, config: EncoderConfig, names: Sequence[str]):
        super().__init__()
        self.names = [f"{name}." if name else "" for name in names]
        self.towers = nn.ModuleList(SparseExperts(config, config.width, config.width) for _ in names)

    def forward(self, x: Tensor, name: str) -> Routed:
        outputs, routing = [], {}
        for tower, mixture, rows in zip(self.names[-len(x) :], self.towers[-len(x) :], x, strict=True):
            output, routing[f"{tower}{name}"] = mixture(rows)
            outputs.append(output)
        return torch.stack(outputs), routing
