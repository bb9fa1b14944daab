"""One sequence tower per modality, after HM4SR (Zhang et al., WWW 2025, arXiv 2501.14269).

score(S, j) = Σ_m ⟨h^m, e_j^m⟩ over the M modalities (ID first, then the features by name), computed as one product of
the concatenated hidden states and item vectors [·, M D]. As in HM4SR, mixtures change what the towers read, never what
they are scored against. By default the mixture over modalities sees the item alone, so that it is computed once per
catalogue; with `encoder.position = shared` it sees item and position, as in HM4SR. Temporal experts start near 1 and
are trained.
"""

import torch
from torch import Tensor, nn

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.model.attention import Layout
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.experts import Routed, SparseExperts, mlp, with_routing
from rodpo_lite.model.items import ByModality, Catalogue, modality_projections
from rodpo_lite.model.sequence import SequenceEncoder

EXPERTS = 4  # HM4SR's number, in both of its dense mixtures
INTERVAL_SCALE = 100  # rows of the interval embedding per factor of two in time
LONGEST_INTERVAL = 2**30  # seconds, 34 years; longer ones share the last row
INTERVAL_ROWS = 2 + INTERVAL_SCALE * 30
SECONDS_PER_DAY = 86_400


class TowerItems(nn.Module):
    """Item vectors of every modality side by side, and what the towers read of them.

    vectors = [e^m]_m with e^ID an embedding and e^m = W_m x_m; inputs are the same, or what `ModalityMixing` makes of
    them, unless that waits for the positions. A dataset without any modality has the ID tower alone.
    """

    def __init__(self, config: EncoderConfig, n_items: int, features: ByModality, present: ByModality):
        super().__init__()
        self.id = nn.Embedding(n_items, config.width)
        self.modalities = modality_projections(config, features, present)
        nn.init.normal_(self.id.weight, std=config.id_std)
        self.mixing = _mixing(config, 1 + len(self.modalities)) if config.position == "tower" else None

    def forward(self, items: Tensor | None = None) -> Catalogue:
        """Inputs and vectors of the whole catalogue, both [N, M D], or of some items."""
        ids = self.id.weight if items is None else self.id(items)  # [N, D]
        vectors = torch.cat([ids, *(projection(items) for projection in self.modalities.values())], 1)  # [N, M D]
        inputs, routing = (vectors, {}) if self.mixing is None else self.mixing(vectors)
        return Catalogue(inputs, vectors, routing)


class ModalityMixing(nn.Module):
    """[e^m + r_m f([e^m]_m)]_m of rows [R, M D], f the fusion, r learnt, from 0 for the ID and 1 for the others."""

    def __init__(self, config: EncoderConfig, towers: int):
        super().__init__()
        size, self.width = towers * config.width, config.width
        if config.fusion == "interactive":
            self.fusion = InteractiveMixture(towers, config.width)
        elif config.fusion == "moe":
            self.fusion = SparseExperts(config, size, size)
        else:
            self.fusion = mlp(size, config.hidden or 2 * config.width, size)
        self.residual = nn.Parameter(torch.tensor([0.0] + [1.0] * (towers - 1)))

    def forward(self, rows: Tensor) -> Routed:
        mixed, routing = with_routing(self.fusion, rows, "fusion")  # [R, M D]
        return rows + self.residual.repeat_interleave(self.width) * mixed, routing


class InteractiveMixture(nn.Module):
    """HM4SR's interactive mixture, dense: rows [R, M D] to [R, M D].

    Each linear expert reads all modalities; a softmax gate for each, which reads it alone, weighs their outputs for it.
    """

    def __init__(self, towers: int, width: int):
        super().__init__()
        self.towers = towers
        self.experts = nn.ModuleList(nn.Linear(towers * width, towers * width) for _ in range(EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(width, EXPERTS) for _ in range(towers))
        for linear in (*self.experts, *self.gates):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, rows: Tensor) -> Tensor:
        parts, towers = rows.chunk(self.towers, 1), (self.towers, -1)  # M times [R, D]
        gates = [gate(part).softmax(1) for gate, part in zip(self.gates, parts, strict=True)]  # M times [R, E]
        outputs = torch.stack([expert(rows).unflatten(1, towers) for expert in self.experts], 1)  # [R, E, M, D]
        return torch.einsum("remd,rem->rmd", outputs, torch.stack(gates, 2)).flatten(1)  # [R, M D]


class TemporalMixture(nn.Module):
    """HM4SR's time-interval mixture: inputs [P, C] times Σ_e g_e v_e, the gate g a softmax over the time of each input.

    Time is described by an embedding of floor(100 log2(1 + seconds since the previous input)) and by cosines of the
    absolute time, in days since `first_time`. Both belong to the input items: at prediction neither the time of the
    target nor that of the request is used. The first input and unknown times have an interval row; in training a share
    of inputs, `unknown`, is treated as if its time were not known, as that of the newest input may be in use.
    """

    def __init__(self, width: int, towers: int, first_time: float, unknown: float = 0.0):
        super().__init__()
        self.unknown = unknown
        self.interval = nn.Embedding(INTERVAL_ROWS, width)
        self.absolute = nn.Linear(1, width)
        self.gate = nn.Linear(2 * width, EXPERTS)
        self.experts = nn.Parameter(1 + 0.1 * torch.randn(EXPERTS, towers * width))
        self.register_buffer("first_time", torch.tensor(first_time, dtype=torch.float64))
        exponents = torch.arange(width, dtype=torch.float64) / width
        self.register_buffer("frequencies", 1e4**-exponents, persistent=False)
        nn.init.normal_(self.interval.weight, std=0.02)
        nn.init.ones_(self.absolute.weight)
        nn.init.zeros_(self.absolute.bias)

    def forward(self, inputs: Tensor, batch: PackedBatch) -> Tensor:
        gates = self.gate(self.embed(batch)).softmax(1)  # [P, 2 D] to [P, E]
        return inputs * (gates @ self.experts)  # [P, M D]

    def embed(self, batch: PackedBatch) -> Tensor:
        """Interval embedding and cosines of each packed position, [P, 2 D]; raises ValueError without times."""
        if batch.times is None:
            raise ValueError("this model reads the times of interactions, but the batch has none")
        rows, times = interval_rows(batch), batch.times
        if self.training and self.unknown > 0:
            left_out = torch.rand(len(times), device=times.device) < self.unknown
            rows, times = rows.masked_fill(left_out, 0), times.masked_fill(left_out, torch.nan)
        days = ((times - self.first_time) / SECONDS_PER_DAY).to(self.gate.weight.dtype)[:, None]  # [P, 1]
        with torch.autocast(days.device.type, enabled=False):  # thousands of days do not fit into eight bits
            angles = self.frequencies.to(days.dtype) * self.absolute(days.nan_to_num())  # [P, D]
        cosines = torch.cos(angles).masked_fill(days.isnan(), 0.0)
        return torch.cat([self.interval(rows), cosines], 1)


def interval_rows(batch: PackedBatch) -> Tensor:
    """Row of the interval embedding of each packed position [P]; 0 where the previous input's time is not known."""
    passed = (batch.times - batch.times.roll(1)).clamp(0, LONGEST_INTERVAL)
    rows = 1 + (INTERVAL_SCALE * torch.log2(1 + passed)).floor()
    return rows.nan_to_num().masked_fill(batch.steps == 0, 0).long().clamp(max=INTERVAL_ROWS - 1)


class Towers(nn.Module):
    """A sequence encoder per modality; reads inputs [P, M D], gives hidden states [P, M D].

    first_time: when the dataset's record of times begins, Unix seconds; None leaves the temporal mixture out.
    """

    def __init__(self, config: EncoderConfig, modalities: list[str], first_time: float | None):
        super().__init__()
        self.names, self.width = ["id", *modalities], config.width
        self.encoder = SequenceEncoder(config, self.names)
        self.position = self.mixing = self.time = self.placeholder = None
        if config.position == "shared":
            self.position = nn.Embedding(config.max_length, config.width)
            nn.init.normal_(self.position.weight, std=0.02)
            self.mixing = _mixing(config, len(self.names))
        if first_time is not None:
            self.time = TemporalMixture(config.width, len(self.names), first_time, config.unknown_times)
        if config.placeholder and self.time is not None and modalities:
            self.placeholder = nn.Linear(2 * config.width, len(modalities) * config.width)

    def forward(self, inputs: Tensor, batch: PackedBatch, layout: Layout, only: Tensor | None = None) -> Routed:
        inputs, mixing = self._prepare(inputs, batch)
        hidden, routing = self.encoder(inputs, batch, layout, only)
        return hidden, mixing | routing

    def masked(self, inputs: Tensor, batch: PackedBatch, mask: Tensor) -> Tensor:
        """States [P, (M - 1) D] of all towers but the ID's when a linear map of their times replaces masked inputs.

        inputs [P, M D], mask [P]. Raises ValueError for towers without placeholders.
        """
        if self.placeholder is None:
            raise ValueError("this model has no placeholders")
        features = self._prepare(inputs, batch)[0][:, self.width :]  # [P, (M - 1) D]
        stand_ins = self._placed(self.placeholder(self.time.embed(batch)), batch)
        features = torch.where(mask[:, None], stand_ins, features)
        return self.encoder(features, batch, Layout.of(batch.lengths))[0]

    def _prepare(self, inputs: Tensor, batch: PackedBatch) -> Routed:
        """What the towers read of item inputs [P, M D]: positions and mixtures, as far as they belong here."""
        inputs, routing = self._placed(inputs, batch), {}
        if self.mixing is not None:
            inputs, routing = self.mixing(inputs)
        return inputs if self.time is None else self.time(inputs, batch), routing

    def _placed(self, rows: Tensor, batch: PackedBatch) -> Tensor:
        """Rows [P, t D] with the shared position added to each of t towers, if there is one."""
        if self.position is None:
            return rows
        return rows + self.position(batch.steps).repeat(1, rows.shape[1] // self.width)


def _mixing(config: EncoderConfig, towers: int) -> ModalityMixing | None:
    """None for `linear`, towers that meet in the score alone, and for a dataset without modalities."""
    return ModalityMixing(config, towers) if config.fusion != "linear" and towers > 1 else None
