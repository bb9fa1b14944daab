"""Scores over the whole catalogue, in blocks that stay within a memory budget."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rodpo_lite.config import EncoderConfig
from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.schema import Dataset
from rodpo_lite.model.experts import Routing, SparseExperts
from rodpo_lite.model.items import Catalogue, ItemEncoder
from rodpo_lite.model.sequence import SequenceEncoder
from rodpo_lite.model.towers import TowerItems, Towers

Observer = Callable[[slice, Tensor], None]


class Encoding(NamedTuple):
    """Hidden states [P, C], item vectors [N, C], and the routing of each sparse mixture by name (none if dense)."""

    hidden: Tensor
    vectors: Tensor
    routing: dict[str, Routing]


class Recommender(nn.Module):
    """score(S, j) = ⟨hidden state after history S, item vector of j⟩."""

    def __init__(
        self, config: EncoderConfig, n_items: int, features: dict[str, np.ndarray], present: dict[str, np.ndarray],
        first_time: float | None = None,
    ):  # fmt: skip
        super().__init__()
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
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(module, SparseExperts):
                module.noise = 0.0

    def forward(self, batch: PackedBatch) -> Encoding:
        """Encode the catalogue and the batch."""
        return self.encode(batch, self.items())

    def encode(self, batch: PackedBatch, catalogue: Catalogue) -> Encoding:
        """Encode a batch with a catalogue that was encoded before: at inference once, for all batches."""
        hidden, routing = self.sequence(catalogue.inputs[batch.items], batch)
        return Encoding(hidden, catalogue.vectors, catalogue.routing | routing)


def rows_within(budget_mib: float, n_items: int) -> int:
    """Rows of fp32 logits over the catalogue, and one copy of them, that fit into the budget; at least one."""
    return max(1, int(budget_mib * 2**20 / (2 * 4 * n_items)))


def score_blocks(hidden: Tensor, vectors: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Scores [R, N] of consecutive blocks of positions, without gradient; a block may be overwritten."""
    hidden, vectors = hidden.detach(), vectors.detach()
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
    chosen = vectors[items]
    if items.dim() == 1:
        return (hidden * chosen).sum(-1)
    return torch.einsum("pd,pnd->pn", hidden, chosen)


def full_cross_entropy(
    hidden: Tensor, vectors: Tensor, targets: Tensor, rows: int, observe: Observer | None = None
) -> Tensor:
    """Mean of -log softmax_j ⟨hidden, vector_j⟩ at the targets, over the whole catalogue.

    hidden [P, D], vectors [N, D], targets [P]; `rows` positions are scored at a time, and the gradients are formed in
    the same pass, so that no [P, N] matrix ever exists. `observe(block, scores)` is shown each score block once the
    loss has used it, and may overwrite it: negative selection reads the pool from there without a second product.
    """
    return _FullCrossEntropy.apply(hidden, vectors, targets, rows, observe)


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, vectors, targets, rows, observe):
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if wanted else None
        grad_vectors = torch.zeros_like(vectors) if wanted else None
        total = hidden.new_zeros((), dtype=torch.float64)
        weights = hidden.new_empty(min(rows, len(hidden)), len(vectors))
        for block, scores in score_blocks(hidden, vectors, rows):
            shift = scores.amax(1, keepdim=True)
            exponent = torch.sub(scores, shift, out=weights[: len(scores)]).exp_()
            normaliser = exponent.sum(1, keepdim=True)
            at_target = scores.gather(1, targets[block, None])
            total += (normaliser.log() + shift - at_target).sum(dtype=torch.float64)
            if wanted:  # d loss / d scores = softmax - onehot, with the normaliser folded into the narrow side
                grad_hidden[block] = torch.mm(exponent, vectors) / normaliser
                grad_vectors.addmm_(exponent.T, hidden[block] / normaliser)
            if observe is not None:
                observe(block, scores)
        if wanted:
            grad_hidden -= vectors[targets]
            grad_vectors.index_add_(0, targets, hidden, alpha=-1)
            ctx.save_for_backward(grad_hidden.div_(len(hidden)), grad_vectors.div_(len(hidden)))
        return (total / len(hidden)).to(hidden.dtype)

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_vectors = ctx.saved_tensors
        return grad * grad_hidden, grad * grad_vectors, None, None, None
