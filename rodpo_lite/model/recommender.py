"""Scores over the whole catalogue, in blocks that stay within a memory budget."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.schema import Dataset
from rodpo_lite.model.attention import Layout
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.dropout import Dropout
from rodpo_lite.model.experts import Routing, SparseExperts
from rodpo_lite.model.items import Catalogue, ItemEncoder
from rodpo_lite.model.sequence import SequenceEncoder
from rodpo_lite.model.towers import TowerItems, Towers


class Encoding(NamedTuple):
    """Hidden states [P, C], item vectors and inputs [N, C], and the routing of each sparse mixture (none if dense)."""

    hidden: Tensor
    vectors: Tensor
    inputs: Tensor
    routing: dict[str, Routing]


class Recommender(nn.Module):
    """score(S, j) = ⟨hidden state after history S, item vector of j⟩."""

    def __init__(
        self, config: EncoderConfig, n_items: int, features: dict[str, np.ndarray], present: dict[str, np.ndarray],
        first_time: float | None = None,
    ):  # fmt: skip
        super().__init__()
        self.max_length = config.max_length
        if config.base == "towers":
            self.items = TowerItems(config, n_items, features, present)
            self.sequence = Towers(config, sorted(features), first_time)
        else:
            self.items = ItemEncoder(config, n_items, features, present)
            self.sequence = SequenceEncoder(config)

    @classmethod
    def for_dataset(cls, config: EncoderConfig, dataset: Dataset) -> "Recommender":
        return cls(config, dataset.n_items, dataset.features, dataset.present, dataset.first_time)

    def disable_dropout(self) -> None:
        """From now on train mode computes what eval mode does."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.p = 0.0
            elif isinstance(module, SparseExperts):
                module.noise = 0.0

    def forward(self, batch: PackedBatch, items: Tensor | None = None, layout: Layout | None = None) -> Encoding:
        """Encode the catalogue and the batch; of the catalogue only some `items`, if the batch is numbered in them."""
        return self.encode(batch, self.items(items), layout)

    def encode(
        self, batch: PackedBatch, catalogue: Catalogue, layout: Layout | None = None, only: Tensor | None = None
    ) -> Encoding:
        """Encode a batch with a catalogue that was encoded before: at inference once, for all batches.

        only: numbers of the positions whose hidden states are wanted; None for all.
        """
        inputs = F.embedding(batch.items, catalogue.inputs)
        hidden, routing = self.sequence(inputs, batch, layout or Layout.of(batch.lengths), only)
        return Encoding(hidden, catalogue.vectors, catalogue.inputs, catalogue.routing | routing)


def score_blocks(
    hidden: Tensor, vectors: Tensor, rows: int, dtype: torch.dtype | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Scores [R, N] of consecutive blocks of positions, without gradient; a block may be overwritten.

    The products are computed in `dtype` (default: that of hidden), and so are the scores.
    """
    hidden, vectors = (side.detach().to(dtype or side.dtype) for side in (hidden, vectors))
    buffer = hidden.new_empty(min(rows, len(hidden)), len(vectors))
    for start in range(0, len(hidden), rows):
        block = slice(start, min(start + rows, len(hidden)))
        yield block, torch.mm(hidden[block], vectors.T, out=buffer[: block.stop - block.start])


@torch.no_grad()
def score_matrix(model: Recommender, batch: PackedBatch) -> Tensor:
    """All scores [P, N] of a small batch at once, in eval mode; the model is left in the mode it was in."""
    mode = model.training
    encoding = model.eval()(batch)
    model.train(mode)
    return encoding.hidden @ encoding.vectors.T


def pair_scores(hidden: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
    """Scores of chosen items only: hidden [P, D], items [P] or [P, n], result in the shape of `items`."""
    chosen = vectors.index_select(0, items.flatten()).view(*items.shape, -1)
    if items.dim() == 1:
        return (chosen * hidden).sum(-1)
    return torch.bmm(chosen, hidden[:, :, None]).squeeze(2)
