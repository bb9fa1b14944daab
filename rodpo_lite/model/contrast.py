"""HM4SR's contrast of the ID tower (Zhang et al., WWW 2025, arXiv 2501.14269, there called IDCL)."""

import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.model.scoring import full_cross_entropy


def id_contrast(hidden: Tensor, vectors: Tensor, targets: Tensor, temperature: float, rows: int) -> Tensor:
    """Mean of -log softmax of cos(hidden, vector) / τ at the target, over the distinct targets of the batch.

    hidden [P, D] of the ID tower, vectors [N, D] of the IDs, targets [P]; `rows` as in `full_cross_entropy`. An item is
    one candidate however often it is a target, so no position meets its own target as a negative and nothing has to be
    masked; HM4SR counts repeated targets repeatedly, and sets the masked logits to 0 where it means -∞.
    """
    items, at = targets.unique(return_inverse=True)
    scaled = F.normalize(hidden, dim=1) / temperature
    return full_cross_entropy(scaled, F.normalize(vectors[items], dim=1), at, rows)
