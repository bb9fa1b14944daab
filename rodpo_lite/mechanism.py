"""What selection does to false negatives: suppression by rank, and how much of it is erroneous.

At a position where the item at rank r is drawn with probability q_r, is a false negative or not (f_r), and would be
pushed down with weight w_r, the expected erroneous suppression is Σ_r q_r f_r w_r and the informative one is
Σ_r q_r (1 - f_r) w_r; both are then averaged over positions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle
from rodpo_lite.model.scoring import Recommender
from rodpo_lite.negatives import OwnedItems, exclusions, mask_excluded


def suppression(margin: Tensor, beta: float) -> Tensor:
    """w = β σ(-βh): how hard the DPO gradient pushes the negative's score down, per pair, in the shape of `margin`.

    It is ∂ℓ/∂s(i-) for ℓ = -log σ(βh); the positive is pushed up by the same amount.
    Source: Rafailov et al. 2023, the gradient below eq. 7.
    """
    return beta * torch.sigmoid(-beta * margin)


@dataclass(frozen=True)
class RankProfile:
    """Eligible items of P positions, best score first, up to rank R.

    users [P]; eligible [P]: number of eligible items; false_negative [P, R]: relevant to the user then, and not among
    the user's training items; margin [P, R]: h if that item were drawn. Ranks beyond `eligible` are not false
    negatives, and their margin is infinite, so that nothing pushes there.
    """

    users: np.ndarray
    eligible: np.ndarray
    false_negative: np.ndarray
    margin: np.ndarray

    def expected(self, probabilities: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """Expected erroneous and informative suppression of each position, both [P].

        probabilities: q_r, [R] or [P, R].
        """
        drawn = probabilities * suppression(torch.from_numpy(self.margin), beta).numpy()
        return (drawn * self.false_negative).sum(1), (drawn * ~self.false_negative).sum(1)

    def by_pool_size(self, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """Erroneous and informative suppression, averaged over positions, of a pool of K = 1 … R; both [R].

        Entry 0 is `hard`; entry R - 1 with R the catalogue is `uniform`.
        """
        weight = suppression(torch.from_numpy(self.margin), beta).numpy()
        pool = np.minimum(np.arange(1, weight.shape[1] + 1), self.eligible[:, None])
        erroneous = np.cumsum(weight * self.false_negative, 1) / pool
        informative = np.cumsum(weight * ~self.false_negative, 1) / pool
        return erroneous.mean(0), informative.mean(0)

    def false_negative_share(self) -> np.ndarray:
        """Share of positions whose item at rank r is a false negative, [R]."""
        return self.false_negative.mean(0)


@torch.no_grad()
def rank_profile(
    policy: Recommender, reference: Recommender, dataset: Dataset, oracle: Oracle, max_length: int,
    positions: int = 4000, seed: int = 0, exclude: str = "train",
) -> RankProfile:  # fmt: skip
    """Profile a policy against its reference on training positions of a synthetic world, whole catalogue deep.

    Takes whole users in random order, about `positions` next-item predictions. Scores are taken in eval mode.
    """
    split = leave_one_out(dataset)
    sequences = PackedSequences(dataset.items, split.start, split.train_end - 1, max_length)
    batch = next(sequences.epoch(positions, torch.Generator().manual_seed(seed)))
    positives = torch.as_tensor(dataset.items)[batch.rows + 1]
    owned = OwnedItems.of_training(dataset.items, split.start, split.train_end, dataset.n_items)
    users = batch.user_of_position
    excluded = exclusions(exclude, users, batch.rows, positives, owned)
    scores = _scores(policy, batch)
    change = scores - _scores(reference, batch)
    ordered = mask_excluded(scores, excluded).sort(1, descending=True)
    margin = change.gather(1, positives[:, None]) - change.gather(1, ordered.indices)
    real = torch.isfinite(ordered.values)
    relevant = torch.from_numpy(oracle.relevance[users.numpy(), oracle.phase[batch.rows.numpy() + 1]])
    items, _ = owned.of(users)
    observed = torch.zeros(len(users), dataset.n_items + 1, dtype=torch.bool).scatter_(1, items, True)[:, :-1]
    false_negative = (relevant & ~observed).gather(1, ordered.indices) & real
    return RankProfile(
        users.numpy(),
        real.sum(1).numpy(),
        false_negative.numpy(),
        margin.masked_fill(~real, torch.inf).double().numpy(),
    )


def _scores(model: Recommender, batch) -> Tensor:
    mode = model.training
    hidden, vectors = model.eval()(batch)
    model.train(mode)
    return hidden @ vectors.T
