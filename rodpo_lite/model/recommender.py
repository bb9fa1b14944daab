"""The sequential recommender: it scores every item of the catalogue after a history of items."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.schema import Dataset
from rodpo_lite.model.attention import Layout
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.dropout import Dropout
from rodpo_lite.model.experts import Routing, SparseExperts
from rodpo_lite.model.items import ByModality, Catalogue, ItemEncoder
from rodpo_lite.model.sequence import SequenceEncoder
from rodpo_lite.model.towers import TowerItems, Towers


class Recommender(nn.Module):
    """score(S, j) = ⟨hidden state after history S, item vector of j⟩.

    Axes: B sequences, T positions of one, P packed positions of all, N items, D width. With towers, one a modality,
    states and vectors stand side by side: C = M D, else C = D.
    """

    def __init__(
        self, config: EncoderConfig, n_items: int, features: ByModality, present: ByModality,
        first_time: float | None = None, categories: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.max_length = config.max_length
        if config.base == "towers":
            self.items = TowerItems(config, n_items, features, present)
            self.sequence = Towers(config, sorted(features), first_time)
        else:
            self.items = ItemEncoder(config, n_items, features, present)
            self.sequence = SequenceEncoder(config)
        towers = 1 + len(features) if config.base == "towers" else 1
        self.categories = nn.Linear(towers * config.width, categories) if config.categories and categories else None

    @classmethod
    def for_dataset(cls, config: EncoderConfig, dataset: Dataset) -> "Recommender":
        """A model with random weights for the items, features and times of a dataset."""
        parts = dataset.n_items, dataset.features, dataset.present, dataset.first_time
        return cls(config, *parts, dataset.categories.shape[1] if config.categories else 0)

    def forward(self, batch: PackedBatch, items: Tensor | None = None, layout: Layout | None = None) -> "Encoding":
        """Encode the catalogue and the batch; of the catalogue only some `items`, if the batch is numbered in them."""
        return self.encode(batch, self.items(items), layout)

    def encode(
        self, batch: PackedBatch, catalogue: Catalogue, layout: Layout | None = None, only: Tensor | None = None
    ) -> "Encoding":
        """Encode a batch with a catalogue that was encoded before: at inference once, for all batches.

        only: numbers of the positions whose hidden states are wanted; None for all.
        """
        inputs = F.embedding(batch.items, catalogue.inputs)  # [P, C]
        hidden, routing = self.sequence(inputs, batch, layout or Layout.of(batch.lengths), only)  # [P, C]
        return Encoding(hidden, catalogue.vectors, catalogue.inputs, catalogue.routing | routing)

    def disable_dropout(self) -> None:
        """From now on train mode computes what eval mode does."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.p = 0.0
            elif isinstance(module, SparseExperts):
                module.noise = 0.0


class Encoding(NamedTuple):
    """Hidden states [P, C], item vectors and inputs [N, C], and the routing of each sparse mixture (none if dense)."""

    hidden: Tensor
    vectors: Tensor
    inputs: Tensor
    routing: dict[str, Routing]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Within, the model is in eval mode; after it, in the mode that it was in."""
    mode = model.training
    try:
        yield model.eval()
    finally:
        model.train(mode)


@torch.no_grad()
def score_matrix(model: Recommender, batch: PackedBatch) -> Tensor:
    """All scores [P, N] of a small batch at once, in eval mode."""
    with eval_mode(model):
        encoding = model(batch)
    return encoding.hidden @ encoding.vectors.T


def score_blocks(hidden: Tensor, vectors: Tensor, rows: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield the scores [R, N] of consecutive blocks of positions, without gradient; a block may be overwritten.

    hidden [P, C], vectors [N, C]. Products and scores are in `dtype`.
    """
    hidden, vectors = (side.detach().to(dtype) for side in (hidden, vectors))
    buffer = hidden.new_empty(min(rows, len(hidden)), len(vectors))
    for start in range(0, len(hidden), rows):
        block = slice(start, min(start + rows, len(hidden)))
        yield block, torch.mm(hidden[block], vectors.T, out=buffer[: block.stop - block.start])


def pair_scores(hidden: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
    """Scores of chosen items only: hidden [P, C], items [P] or [P, n], result in the shape of `items`."""
    chosen = vectors.index_select(0, items.flatten()).view(*items.shape, -1)  # [P, C] or [P, n, C]
    if items.dim() == 1:
        return (chosen * hidden).sum(-1)
    return torch.bmm(chosen, hidden[:, :, None]).squeeze(2)
