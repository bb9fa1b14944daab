"""Item vectors: an ID embedding plus what text and image say about the item."""

import numpy as np
import torch
from torch import Tensor, nn


class ItemEncoder(nn.Module):
    """Item vector = ID embedding + Σ_m W_m x_m, and with `fusion="mlp"` also + MLP([W_m x_m]_m).

    Features are centred and scaled per modality over the items that have it; an item without a modality gets a learnt
    vector in place of W_m x_m, and a dataset without any modality leaves the ID embedding alone.
    """

    def __init__(
        self, fusion: str, n_items: int, width: int, features: dict[str, np.ndarray], present: dict[str, np.ndarray]
    ):
        super().__init__()
        self.id = nn.Embedding(n_items, width)
        self.modalities = nn.ModuleDict(
            {m: ModalityProjection(features[m], present[m], width) for m in sorted(features)}
        )
        self.mlp = None
        if fusion == "mlp" and self.modalities:
            hidden = 2 * width
            self.mlp = nn.Sequential(
                nn.Linear(width * len(self.modalities), hidden), nn.GELU(), nn.Linear(hidden, width)
            )
        nn.init.normal_(self.id.weight, std=0.02)

    def forward(self) -> Tensor:
        """Vectors of the whole catalogue, [N, D]."""
        vectors = self.id.weight
        if self.modalities:
            projected = [projection() for projection in self.modalities.values()]
            vectors = vectors + sum(projected)
            if self.mlp is not None:
                vectors = vectors + self.mlp(torch.cat(projected, 1))
        return vectors


class ModalityProjection(nn.Module):
    """Linear map of one modality's standardised features to the model's width, [N, D]."""

    def __init__(self, features: np.ndarray, present: np.ndarray, width: int):
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
        nn.init.normal_(self.linear.weight, std=0.02 / rows.shape[1] ** 0.5)

    def forward(self) -> Tensor:
        return self.linear(self.features) + self.absent * self.missing
