"""A sparse mixture of experts: each row is computed by the few experts that a router picks for it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rodpo_lite.engine import rounded_up
from rodpo_lite.model.config import EncoderConfig


class Routing(NamedTuple):
    """Load and losses of a router over R rows.

    load [E]: share of the R·k assignments that went to each expert, sums to 1, without gradient. balance: the
    load-balance loss E Σ_e f_e P_e, with f the load and P_e the mean router probability; 1 when both are uniform, and
    the gradient flows through P alone (Fedus et al. 2021, eq. 4). z: the router z-loss, the mean squared logsumexp of
    the logits (Zoph et al. 2022, eq. 5).
    """

    load: Tensor
    balance: Tensor
    z: Tensor


Routed = tuple[Tensor, dict[str, Routing]]  # output of modules, and the routing of each sparse mixture among them


class SparseExperts(nn.Module):
    """y = Σ_{e in top k} g_e expert_e(x) + shared(x) + bias, rows [R, D_in] to [R, D_out].

    The gate g is the softmax over the k largest logits (Shazeer et al. 2017, eq. 3 to 5), which is the full softmax
    renormalised over them. With k = 1 that would be the constant 1 and the router would learn nothing from the loss,
    so there g is the full softmax probability (Fedus et al. 2021, eq. 2). The shared expert sees every row (Dai et al.
    2024). In train mode Gaussian noise of standard deviation `noise` is added to the logits that decide the gate;
    Shazeer et al. learn that deviation, here it is fixed. Balance and z-loss are those of the logits without noise.

    An expert is a GELU MLP of hidden width `expert_width` whose output has no bias: the mixture has one bias, so that
    its active parameters, the router left out, are exactly those of an MLP of hidden width (k + shared) expert_width.
    """

    def __init__(self, config: EncoderConfig, inputs: int, outputs: int):
        super().__init__()
        self.per_row, self.noise = config.experts_per_row, config.router_noise
        self.router = nn.Linear(inputs, config.experts, bias=False)
        sizes = inputs, config.expert_width, outputs
        self.experts = nn.ModuleList(mlp(*sizes, bias=False) for _ in range(config.experts))
        self.shared = mlp(*sizes, bias=False) if config.shared_expert else None
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, rows: Tensor) -> tuple[Tensor, Routing]:
        with torch.autocast(rows.device.type, enabled=False):  # what decides is not rounded
            logits = self.router(rows.to(self.router.weight.dtype))  # [R, E]
        gates, chosen = self.gates(logits)  # [R, k]
        output = self.bias + self.dispatch(rows, gates, chosen)  # [R, D_out]
        if self.shared is not None:
            output = output + self.shared(rows)
        return output, routing_of(logits, chosen)

    def gates(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the experts that each row goes to, both [R, k]."""
        if self.training and self.noise > 0:
            logits = logits + self.noise * torch.randn_like(logits)
        best = logits.topk(self.per_row, dim=1)
        if self.per_row == 1:
            return logits.softmax(1).gather(1, best.indices), best.indices
        return best.values.softmax(1), best.indices

    def dispatch(self, rows: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """Σ_e g_e expert_e(x): rows are sorted by expert, and each expert computes its own rows only.

        To each expert's rows a few are added that count nothing, so that few different shapes occur.
        """
        expert, order = chosen.flatten().sort(stable=True)  # [R k], of which row order // k
        sizes = expert.bincount(minlength=len(self.experts))  # [E]
        rounded = torch.tensor([rounded_up(size) for size in sizes.tolist()], device=rows.device)
        added = (rounded - sizes).cumsum(0) - (rounded - sizes)
        place = torch.arange(len(order), device=rows.device) + added[expert]
        source = order.new_zeros(int(rounded.sum())).index_copy_(0, place, order // self.per_row)
        gate = gates.new_zeros(len(source)).index_copy(0, place, gates.flatten().index_select(0, order))
        parts = rows.index_select(0, source).split(rounded.tolist())  # E times [rounded, D_in]
        computed = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])  # [·, D_out]
        weighted = computed * gate[:, None]
        return weighted.new_zeros(len(rows), weighted.shape[1]).index_add(0, source, weighted)


def routing_of(logits: Tensor, chosen: Tensor) -> Routing:
    """Load, balance loss and z-loss of router logits [R, E] and the experts chosen from them [R, k]."""
    experts = logits.shape[1]
    load = chosen.flatten().bincount(minlength=experts).to(logits.dtype) / chosen.numel()
    balance = experts * (load * logits.softmax(1).mean(0)).sum()
    return Routing(load, balance, logits.logsumexp(1).square().mean())


def mlp(inputs: int, hidden: int, outputs: int, bias: bool = True) -> nn.Sequential:
    """The dense twin of SparseExperts; an expert if its output has no bias."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs, bias=bias))


def with_routing(module: nn.Module, rows: Tensor, name: str) -> Routed:
    """Apply a module; returns its output, and its routing under `name` if it is a sparse mixture."""
    if isinstance(module, SparseExperts):
        output, routing = module(rows)
        return output, {name: routing}
    return module(rows), {}
