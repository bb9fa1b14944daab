"""Item vectors: an ID embedding plus what text and image say about the item."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.experts import Routing, SparseExperts, mlp, with_routing


class Catalogue(NamedTuple):
    """Encoded items: all N, or some.

    inputs [N, C] is what the sequence encoder reads, vectors [N, C] is what its hidden states are scored against; the
    two differ in towers only. routing is that of sparse mixtures over the catalogue.
    """

    inputs: Tensor
    vectors: Tensor
    routing: dict[str, Routing]


ByModality = dict[str, np.ndarray]  # features [N, d], or which items have them [N]


class ItemEncoder(nn.Module):
    """Item vector = ID embedding + Σ_m W_m x_m, and with `fusion="mlp"` or `"moe"` also + f([W_m x_m]_m).

    f is an MLP or a sparse mixture of experts. Features are centred and scaled per modality over the items that have
    it; an item without a modality gets a learnt vector in place of W_m x_m; without any there is the ID alone.
    """

    def __init__(self, config: EncoderConfig, n_items: int, features: ByModality, present: ByModality):
        super().__init__()
        width = config.width
        self.id = nn.Embedding(n_items, width)
        self.modalities = modality_projections(config, features, present)
        self.mlp = self.experts = None
        if config.fusion == "mlp" and self.modalities:
            self.mlp = mlp(width * len(self.modalities), config.hidden or 2 * width, width)
        elif config.fusion == "moe" and self.modalities:
            self.experts = SparseExperts(config, width * len(self.modalities), width)
        nn.init.normal_(self.id.weight, std=config.id_std)

    def forward(self, items: Tensor | None = None) -> Catalogue:
        """Vectors of the whole catalogue, [N, D], or of some items [S, D]."""
        vectors, routing = self.id.weight if items is None else self.id(items), {}  # [N, D]
        if self.modalities:
            projected = [projection(items) for projection in self.modalities.values()]  # M times [N, D]
            vectors = vectors + sum(projected)
            fusion = self.mlp if self.mlp is not None else self.experts
            if fusion is not None:
                fused, routing = with_routing(fusion, torch.cat(projected, 1), "fusion")  # [N, M D] to [N, D]
                vectors = vectors + fused
        return Catalogue(vectors, vectors, routing)


class ModalityProjection(nn.Module):
    """Linear map of one modality's standardised features to the model's width, of all items [N, D] or some [S, D]."""

    def __init__(self, features: np.ndarray, present: np.ndarray, width: int, std: float):
        super().__init__()
        rows = torch.as_tensor(features, dtype=torch.float32)
        has = torch.as_tensor(present, dtype=torch.bool)
        if bool(has.any()):
            rows = rows - rows[has].mean(0)
            rows = rows / rows[has].square().mean().sqrt().clamp_min(1e-6)
        self.register_buffer("features", rows.masked_fill(~has[:, None], 0.0), persistent=False)
        self.register_buffer("absent", (~has).float()[:, None], persistent=False)
        self.linear = nn.Linear(rows.shape[1], width, bias=False)
        self.missing = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.linear.weight, std=std / rows.shape[1] ** 0.5)

    def forward(self, items: Tensor | None = None) -> Tensor:
        chosen = slice(None) if items is None else items
        return self.linear(self.features[chosen]) + self.absent[chosen] * self.missing  # [N, D]


def modality_projections(config: EncoderConfig, features: ByModality, present: ByModality) -> nn.ModuleDict:
    """A projection for each modality, in the order of their names."""
    sizes = config.width, config.content_std
    return nn.ModuleDict({m: ModalityProjection(features[m], present[m], *sizes) for m in sorted(features)})
