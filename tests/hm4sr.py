"""HM4SR once more, padded and in plain steps, from the formulas alone: what the packed towers must give.

Axes: B histories, L positions (the shorter filled up on the right), M modalities (ID first), D width, N items. Weights
are those of a `Recommender`; of its code nothing is used. Dropout is off.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.config import ReferenceConfig

DAY = 86_400


@dataclass
class Twin:
    """weights: by name, float64. features, absent: by modality, standardised [N, d] and 1 where missing [N, 1]."""

    weights: dict[str, Tensor]
    config: ReferenceConfig
    features: dict[str, Tensor]
    absent: dict[str, Tensor]
    first_time: float | None

    def __post_init__(self):
        self.encoder, self.modalities = self.config.encoder, sorted(self.features)
        self.ids = self.weights["items.id.weight"]  # [N, D]

    def linear(self, name: str, x: Tensor, tower: int | None = None) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        weight, bias = (weight, bias) if tower is None else (weight[tower], bias[tower])
        return torch.einsum("...i,oi->...o", x, weight) + bias

    def norm(self, name: str, x: Tensor, tower: int) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weights[f"{name}.weight"][tower] + self.weights[f"{name}.bias"][tower]

    def vectors(self) -> Tensor:
        """e_j^m, [N, M, D]: the ID, and of each modality W x, or a learnt vector where an item has none."""
        parts = [self.ids]
        for name in self.modalities:
            prefix = f"items.modalities.{name}"
            projected = self.features[name] @ self.weights[f"{prefix}.linear.weight"].T
            parts.append(projected + self.absent[name] * self.weights[f"{prefix}.missing"])
        return torch.stack(parts, 1)

    def mixed(self, x: Tensor, prefix: str) -> Tensor:
        """x + r_m Σ_e g_e^m expert_e(x)^m over the modalities of x [..., M, D]."""
        modalities, together, result = x.shape[-2], x.flatten(-2), []
        for m in range(modalities):
            gate = self.linear(f"{prefix}.fusion.gates.{m}", x[..., m, :]).softmax(-1)  # [..., 4]
            total = 0
            for e in range(4):
                output = self.linear(f"{prefix}.fusion.experts.{e}", together).unflatten(-1, (modalities, -1))
                total = total + gate[..., e, None] * output[..., m, :]
            result.append(x[..., m, :] + self.weights[f"{prefix}.residual"][m] * total)
        return torch.stack(result, -2)

    def time_features(self, times: Tensor) -> Tensor:
        """Embedding of floor(100 log2(1 + seconds)) since the last input, and cosines of the days, [B, L, 2 D]."""
        width, rows, cosines = self.encoder.width, torch.zeros(times.shape, dtype=torch.long), []
        for b in range(times.shape[0]):
            for position in range(1, times.shape[1]):
                seconds = times[b, position] - times[b, position - 1]
                if not torch.isnan(seconds):
                    seconds = min(max(float(seconds), 0.0), 2.0**30)
                    rows[b, position] = min(1 + int(100 * torch.log2(torch.tensor(1 + seconds).double())), 3001)
        angle = self.linear("sequence.time.absolute", ((times - self.first_time) / DAY)[..., None])
        for d in range(width):
            cosines.append(torch.cos(10_000 ** -(d / width) * angle[..., d]))
        known = torch.where(times.isnan()[..., None], 0.0, torch.stack(cosines, -1).nan_to_num())
        return torch.cat([self.weights["sequence.time.interval.weight"][rows], known], -1)

    def placed(self, x: Tensor) -> Tensor:
        """x [B, L, m, D] with the position table that all towers share, if they do."""
        if self.encoder.position == "tower":
            return x
        return x + self.weights["sequence.position.weight"][: x.shape[1], None]

    def read(self, items: Tensor, times: Tensor) -> Tensor:
        """What the towers read, [B, L, M, D]."""
        x, catalogue = self.vectors(), self.encoder.position == "tower"
        mixes = self.encoder.fusion == "interactive"
        if mixes and catalogue:
            x = self.mixed(x, "items.mixing")
        x = self.placed(x[items])
        if mixes and not catalogue:
            x = self.mixed(x, "sequence.mixing")
        if self.first_time is not None:
            gate = self.linear("sequence.time.gate", self.time_features(times)).softmax(-1)  # [B, L, 4]
            factor = torch.einsum("ble,ec->blc", gate, self.weights["sequence.time.experts"])
            x = x * factor.view(*x.shape)
        return x

    def tower(self, x: Tensor, tower: int) -> Tensor:
        """SASRec: states [B, L, D] of what one tower reads [B, L, D]."""
        length, heads, post = x.shape[1], self.encoder.heads, self.encoder.norm == "post"
        if self.encoder.position == "tower":
            own = slice(tower * self.encoder.width, (tower + 1) * self.encoder.width)
            x = x + self.weights["sequence.encoder.position.weight"][:length, own]
        if self.encoder.input_norm:
            x = self.norm("sequence.encoder.input_norm", x, tower)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        for number in range(self.encoder.blocks):
            block = f"sequence.encoder.blocks.{number}"
            for part in ("attention", "feedforward"):
                y = x if post else self.norm(f"{block}.{part}_norm", x, tower)
                if part == "attention":
                    q, k, v = self.linear(f"{block}.qkv", y, tower).unflatten(-1, (3, heads, -1)).unbind(2)
                    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
                    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
                    mixed = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
                    y = self.linear(f"{block}.out", mixed, tower)
                else:
                    inner = self.linear(f"{block}.feedforward.inner", y, tower)
                    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
                    y = self.linear(f"{block}.feedforward.outer", gelu, tower)
                x = self.norm(f"{block}.{part}_norm", x + y, tower) if post else x + y
        return x if post else self.norm("sequence.encoder.norm", x, tower)

    def states(self, x: Tensor, towers: range) -> Tensor:
        return torch.stack([self.tower(x[:, :, place], tower) for place, tower in enumerate(towers)], 2)

    def losses(self, items: Tensor, times: Tensor, lengths: Tensor, targets: Tensor, mask: Tensor, labels: Tensor):
        """Named losses; items, times, targets and mask, of placeholders, [B, L]; labels [N, K] of 0 and 1."""
        config, read, vectors = self.config, self.read(items, times), self.vectors()
        towers = read.shape[2]
        real = torch.arange(items.shape[1]) < lengths[:, None]
        hidden = self.states(read, range(towers))  # [B, L, M, D]
        scores = torch.einsum("blmd,nmd->bln", hidden, vectors)
        wanted = targets[real]
        losses = {"loss_ce": F.cross_entropy(scores[real], wanted)}
        total = losses["loss_ce"]
        if (weight := config.id_contrast.weight) > 0:
            cosines = (
                F.cosine_similarity(hidden[real][:, None, 0], self.ids[None], dim=2) / config.id_contrast.temperature
            )
            absent = torch.ones(len(self.ids), dtype=torch.bool).index_fill(0, wanted, False)
            losses["loss_id_contrast"] = F.cross_entropy(cosines.masked_fill(absent, -torch.inf), wanted)
            total = total + weight * losses["loss_id_contrast"]
        if (weight := config.placeholder_contrast.weight) > 0:
            at = (
                real
                if config.placeholder_contrast.every
                else real & (torch.arange(items.shape[1]) == lengths[:, None] - 1)
            )
            losses["loss_placeholder_contrast"] = self.placeholders(read, hidden, times, mask, targets, at)
            total = total + weight * losses["loss_placeholder_contrast"]
        if (weight := config.category_prediction.weight) > 0:
            logits, truth = self.linear("categories", hidden[real].flatten(1)), labels[wanted]
            known = truth.any(1)
            p = torch.sigmoid(logits[known])
            losses["loss_category_prediction"] = -torch.where(truth[known], p.log(), (1 - p).log()).mean()
            total = total + weight * losses["loss_category_prediction"]
        return losses | {"loss": total}

    def placeholders(self, read: Tensor, hidden: Tensor, times: Tensor, mask: Tensor, targets: Tensor, at: Tensor):
        """Mean over towers and positions of -log softmax of cosines, equal targets being no negatives of each other."""
        stand_in = self.linear("sequence.placeholder", self.time_features(times))
        stand_in = self.placed(stand_in.unflatten(-1, (read.shape[2] - 1, -1)))
        other = self.states(torch.where(mask[..., None, None], stand_in, read[:, :, 1:]), range(1, read.shape[2]))
        wanted, total = targets[at], 0
        for m in range(1, read.shape[2]):
            cosines = F.cosine_similarity(hidden[at][:, None, m], other[at][None, :, m - 1], dim=2)
            logits = cosines / self.config.placeholder_contrast.temperature
            for place in range(len(wanted)):
                others = [k for k in range(len(wanted)) if k == place or wanted[k] != wanted[place]]
                total = total + logits[place, others].logsumexp(0) - logits[place, place]
        return total / (len(wanted) * (read.shape[2] - 1))
