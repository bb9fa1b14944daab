"""Cross-entropy over the whole catalogue, in blocks: no matrix of all scores ever exists."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rodpo_lite.engine import rounded_up
from rodpo_lite.model.recommender import score_blocks

Observer = Callable[[slice, Tensor], None]
LARGEST_SCORE = 30.0  # bf16 knows larger scores to 0.06 at best; and e^30 summed over any catalogue is no large number


def full_cross_entropy(
    hidden: Tensor, vectors: Tensor, targets: Tensor, rows: int, observe: Observer | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """Mean of -log softmax_j ⟨hidden, vector_j⟩ at the targets, over the whole catalogue.

    hidden [P, D], vectors [N, D], targets [P]; `rows` positions are scored at a time, and the gradients are formed in
    the same pass. Blocks are computed in `dtype` (default: that of hidden; also that where scores may be larger than
    LARGEST_SCORE), and accumulate in fp32; scores at the targets and sums over blocks are in the dtype of hidden.
    `observe(block, scores)` is shown each score block, so that no second product is needed to select negatives.
    """
    return _FullCrossEntropy.apply(hidden, vectors, targets, rows, observe, dtype or hidden.dtype)


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, vectors, targets, rows, observe, dtype):
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        positions = len(hidden)
        # By Cauchy-Schwarz no score is larger. Then no exponential needs a shift, and bf16 is precise enough.
        bounded = bool(hidden.norm(dim=1).amax() * vectors.norm(dim=1).amax() < LARGEST_SCORE)
        if not bounded:
            rows, dtype = max(1, rows * dtype.itemsize // hidden.dtype.itemsize), hidden.dtype
        total = -(hidden * vectors[targets]).sum(dtype=torch.float64)
        padded = F.pad(hidden, (0, 0, 0, rounded_up(positions) - positions))
        factors = vectors.to(dtype)
        grad_hidden = torch.empty_like(padded) if needs_gradient else None
        grad_vectors = torch.zeros_like(vectors) if needs_gradient else None
        for block, scores in score_blocks(padded, factors, rows, dtype):
            real = slice(block.start, min(block.stop, positions))
            if real.start >= positions:
                break
            if observe is not None:
                observe(real, scores[: real.stop - real.start])
            shift = 0.0 if bounded else scores.amax(1, keepdim=True)
            exponent = (scores if bounded else scores.sub_(shift)).exp_()
            normaliser = exponent.sum(1, keepdim=True).to(hidden.dtype)
            total += (normaliser.log() + shift)[: real.stop - real.start].sum(dtype=torch.float64)
            if needs_gradient:  # d loss / d scores = softmax - onehot, with the normaliser folded into the narrow side
                grad_hidden[block] = torch.mm(exponent, factors) / normaliser
                grad_vectors += torch.mm(exponent.T, (padded[block] / normaliser).to(dtype))
        if needs_gradient:
            grad_hidden = grad_hidden[:positions] - vectors[targets]
            grad_vectors.index_add_(0, targets, hidden, alpha=-1)
            ctx.save_for_backward(grad_hidden.div_(positions), grad_vectors.div_(positions))
        return (total / positions).to(hidden.dtype)

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_vectors = ctx.saved_tensors
        return grad * grad_hidden, grad * grad_vectors, None, None, None, None
