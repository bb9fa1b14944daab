"""Exact ranks of held-out targets over the full catalogue."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import Part, leave_one_out
from rodpo_lite.engine import Engine
from rodpo_lite.model.recommender import Recommender, eval_mode

if TYPE_CHECKING:
    import pandas as pd

NOT_FINITE = "a score is not finite"


@dataclass(frozen=True)
class Ranks:
    """Ranks from 0, one per user [U]: over the full catalogue, and with the user's history dropped from it.

    losses: -log softmax of the scores over the catalogue at each target, for models that were trained by it.
    """

    unmasked: np.ndarray
    masked: np.ndarray
    losses: np.ndarray | None = None

    def table(self) -> "pd.DataFrame":
        """Columns user, rank, rank_masked (from 0), int32."""
        import pandas as pd

        users = np.arange(len(self.unmasked))
        return pd.DataFrame({"user": users, "rank": self.unmasked, "rank_masked": self.masked}, dtype=np.int32)


def rank_targets(scores: Tensor, targets: Tensor, history: Tensor, known_finite: bool = False) -> tuple[Tensor, Tensor]:
    """Ranks of the targets within rows of scores, unmasked and masked.

    scores [R, N]; targets [R]; history [R, M] item ids, padded with N, repeats allowed. The rank is the number of items
    with a strictly greater score plus half of the ties among the other items, rounded up, so that a constant scorer
    lands in the middle and not on top. Masking drops the history, though never the target itself.
    Raises ValueError if a score is not finite, which is not looked for if they are known to be.
    """
    if not known_finite and not bool(torch.isfinite(scores.sum(1)).all()):
        raise ValueError(NOT_FINITE)
    n_items = scores.shape[1]
    at_target = scores.gather(1, targets[:, None])
    greater = (scores > at_target).sum(1, dtype=torch.int32).long()
    equal = (scores == at_target).sum(1, dtype=torch.int32).long() - 1
    history = history.sort(1).values
    dropped = (history < n_items) & (history != targets[:, None])
    dropped[:, 1:] &= history[:, 1:] != history[:, :-1]
    of_history = scores.gather(1, history.clamp(max=n_items - 1))
    greater_masked = greater - (dropped & (of_history > at_target)).sum(1)
    equal_masked = equal - (dropped & (of_history == at_target)).sum(1)
    return greater + (equal + 1) // 2, greater_masked + (equal_masked + 1) // 2


@torch.no_grad()
def rank_dataset(model: Recommender, dataset: Dataset, part: Part, max_length: int) -> Ranks:
    """Ranks and losses of every user's `part` target, from scores in fp32; raises ValueError if one is not finite."""
    device = next(model.parameters()).device
    start, end = leave_one_out(dataset).history(part)
    items = torch.as_tensor(dataset.items, device=device)
    first, last = torch.as_tensor(start, device=device), torch.as_tensor(end, device=device)
    rows = Engine(device).rows(dataset.n_items)
    unmasked = torch.empty(dataset.n_users, dtype=torch.long, device=device)
    masked, losses = torch.empty_like(unmasked), torch.empty(dataset.n_users, dtype=torch.double, device=device)
    for users, hidden, vectors in encode_histories(model, dataset, start, end, max_length):
        # No score is larger than this product of norms, so the blocks themselves need not be looked through.
        if not bool(torch.isfinite(vectors.norm(dim=1).max() * hidden.norm(dim=1).max())):
            raise ValueError(NOT_FINITE)
        for block, states in zip(users.split(rows), hidden.split(rows), strict=True):
            scores = (vectors @ states.T).T  # on a CPU this way round is faster, and so is counting in its columns
            history = padded_slices(items, first[block], last[block], dataset.n_items)
            targets = items[last[block]]
            unmasked[block], masked[block] = rank_targets(scores, targets, history, known_finite=True)
            losses[block] = (scores.logsumexp(1) - scores.gather(1, targets[:, None])[:, 0]).double()
    return Ranks(*(values.cpu().numpy() for values in (unmasked, masked, losses)))


def padded_slices(items: Tensor, start: Tensor, end: Tensor, n_items: int) -> Tensor:
    """items[start[r]:end[r]] of each row, [R, M], padded with N."""
    column = torch.arange(max(0, int((end - start).max())), device=items.device)
    present = column < (end - start)[:, None]
    return items[torch.where(present, start[:, None] + column, 0)].masked_fill(~present, n_items)


@torch.no_grad()
def encode_histories(model: Recommender, dataset: Dataset, start: np.ndarray, end: np.ndarray, max_length: int):
    """Yield (users [B], hidden state after each user's history [B, D], item vectors [N, D]) in eval mode."""
    device = next(model.parameters()).device
    sequences = PackedSequences(dataset.items, start, end, max_length, device, dataset.timestamps)
    with eval_mode(model):
        catalogue = model.items()
        for batch in sequences.epoch(16_384):
            encoding = model.encode(batch, catalogue, only=batch.last)
            yield batch.users, encoding.hidden, encoding.vectors
