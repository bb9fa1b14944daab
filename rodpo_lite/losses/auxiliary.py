"""Terms beside the cross-entropy: label smoothing and the three of HM4SR (Zhang et al., WWW 2025, arXiv 2501.14269)."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.losses.cross_entropy import full_cross_entropy
from rodpo_lite.settings import Settings


class ContrastConfig(Settings):
    """HM4SR's contrast of the ID tower with the target's ID, beside the cross-entropy."""

    weight: float = Field(0.0, ge=0, description="weight of the contrast; needs encoder.base = towers")
    temperature: float = Field(0.2, gt=0, description="temperature τ of its cosines")


class PlaceholderConfig(Settings):
    """HM4SR's contrast of a history with itself, some of its items replaced by what their times alone say."""

    weight: float = Field(0.0, ge=0, description="weight of the contrast; needs encoder.placeholder = true")
    temperature: float = Field(1.0, gt=0, description="temperature τ of its cosines")
    share: float = Field(0.3, gt=0, le=1, description="share of each history that is replaced")
    every: bool = Field(False, description="after every item of a history (HM4SR), instead of after the last alone")


class CategoryConfig(Settings):
    """HM4SR's prediction of the categories that the next item has, from the states of all towers."""

    weight: float = Field(0.0, ge=0, description="weight of the binary cross-entropy; needs encoder.categories = true")


def label_smoothing(hidden: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """What smoothing adds to the cross-entropy for each part of 1 of the target that it spreads over the catalogue.

    hidden [P, D], vectors [N, D], targets [P]. The target (1 - ε) onehot + ε / N of Szegedy et al. 2016, section 7, has
    the cross-entropy L + ε (⟨hidden, vector_target⟩ - mean_j ⟨hidden, vector_j⟩), L being that with ε = 0.
    """
    return (hidden * (vectors[targets] - vectors.mean(0))).sum(1).mean()


def id_contrast(hidden: Tensor, vectors: Tensor, targets: Tensor, temperature: float, rows: int) -> Tensor:
    """Mean of -log softmax of cos(hidden, vector) / τ at the target, over the distinct targets of the batch.

    hidden [P, D] of the ID tower, vectors [N, D] of the IDs, targets [P]; `rows` as in `full_cross_entropy`. An item is
    one candidate however often it is a target, so no position meets its own target as a negative and nothing has to be
    masked; HM4SR counts repeated targets repeatedly, and sets the masked logits to 0 where it means -∞.
    """
    items, at = targets.unique(return_inverse=True)
    scaled = F.normalize(hidden, dim=1) / temperature
    return full_cross_entropy(scaled, F.normalize(vectors[items], dim=1), at, rows)


def placeholder_contrast(complete: Tensor, masked: Tensor, targets: Tensor, towers: int, temperature: float) -> Tensor:
    """Mean of -log softmax of cos(complete, masked) / τ at the same history, over towers and B histories.

    complete, masked [B, M D]: states of M towers after each history as it is, and after the same with placeholders;
    targets [B]. Histories with the same target are no negatives of each other: their logits are -∞.
    """
    same = (targets[:, None] == targets).fill_diagonal_(False)
    diagonal = torch.arange(len(targets), device=targets.device)
    losses = []
    for parts in zip(complete.chunk(towers, 1), masked.chunk(towers, 1), strict=True):
        queries, keys = (F.normalize(part, dim=1) for part in parts)  # [B, D]
        losses.append(F.cross_entropy((queries @ keys.T / temperature).masked_fill(same, -torch.inf), diagonal))
    return torch.stack(losses).mean()


def masked_positions(batch: PackedBatch, share: float) -> Tensor:
    """Mask over the packed positions [P]: floor(share · length) of each history, drawn from the global generator."""
    lengths = batch.lengths
    sequence = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    order = (sequence + torch.rand(len(sequence), dtype=torch.float64, device=lengths.device)).argsort()
    place = torch.arange(len(order), device=lengths.device) - (lengths.cumsum(0) - lengths)[sequence]
    mask = torch.empty_like(order, dtype=torch.bool)
    mask[order] = place < (share * lengths).floor()[sequence]
    return mask


def category_prediction(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits [P, K] with the categories of the next items, labels [P, K] of 0 and 1.

    An item without any label is one whose categories are not known: it is left out. 0 where all are.
    """
    known = labels.bool().any(1)
    if not bool(known.any()):
        return 0 * logits.sum()
    return F.binary_cross_entropy_with_logits(logits[known], labels[known].to(logits.dtype))
