"""Expected suppression of false negatives: what a selector and a loss do at each rank of a policy's ranking.

At a position where the item at rank r is drawn with probability q_r, is a false negative or not (f_r ∈ {0, 1}), and is
suppressed by w_r = ∂ℓ/∂s(i-) if it is drawn, the expected erroneous suppression is Σ_r q_r f_r w_r and the informative
one Σ_r q_r (1 - f_r) w_r; both are then averaged over positions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import training_counts
from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs
from rodpo_lite.mechanism.relevance import Relevance
from rodpo_lite.model.recommender import Recommender, score_matrix
from rodpo_lite.sampling.candidates import Candidates, OwnedItems, exclusions, item_mask
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig


@dataclass(frozen=True)
class RankProfile:
    """Eligible items of P positions, best policy score first, over the whole catalogue N.

    users [P]; eligible [P]: number of eligible items; items [P, N]: their ids by rank, excluded items last;
    false_negative [P, N]: relevant by the notion that was asked for; pairs: scores of the positive and of the item at
    each rank, float64; anchor [P, N]: π(j|S), which the cross-entropy suppresses at λ_ce = 1; candidates: what
    selectors are shown, by scorer. All on the CPU. Where nothing is eligible, nothing is false or suppressed.
    """

    users: np.ndarray
    eligible: np.ndarray
    items: np.ndarray
    false_negative: np.ndarray
    pairs: Pairs
    anchor: np.ndarray
    candidates: dict[str, Candidates]

    def expected(self, negatives: NegativesConfig, loss: LossConfig) -> np.ndarray:
        """Erroneous and informative suppression of each position, [2, P]; KeyError where q or w cannot be stated."""
        return self.by_kind(self.probabilities(negatives) * self.suppression(loss))

    def probabilities(self, negatives: NegativesConfig) -> np.ndarray:
        """q_r, [P, N]: the probability that one draw takes the item at rank r; KeyError where it cannot be stated."""
        selector = SELECTORS[negatives.name]
        if selector.probabilities is None:
            raise KeyError(f"{negatives.name} has no probabilities that could be stated")
        candidates = self.candidates[selector.scorer or "policy"]
        return selector.probabilities(candidates, negatives).gather(1, torch.from_numpy(self.items)).numpy()

    def suppression(self, loss: LossConfig) -> np.ndarray:
        """w_r, [P, N]: suppression of the item at rank r if drawn; KeyError for a loss whose pairs depend on others."""
        suppression = LOSSES[loss.name].suppression
        if suppression is None:
            raise KeyError(f"the suppression of {loss.name} on a pair depends on other pairs")
        return np.where(self.real, suppression(self.pairs, loss).numpy(), 0.0)

    def by_kind(self, amounts: np.ndarray) -> np.ndarray:
        """Amounts [P, N] summed over the ranks with a false negative, and over the others, [2, P]."""
        return np.stack([(amounts * kind).sum(1) for kind in (self.false_negative, ~self.false_negative)])

    @property
    def real(self) -> np.ndarray:
        """Which ranks hold an eligible item, [P, N]."""
        return np.arange(self.items.shape[1]) < self.eligible[:, None]

    def by_pool_size(self, loss: LossConfig, depth: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Erroneous and informative suppression, averaged over positions, of a pool of K = 1 … N; both [N].

        Entry 0 is `hard`; entry N - 1 is `uniform`. With `depth`, only the best so many ranks count as informative.
        """
        suppression = self.suppression(loss)
        pool = np.minimum(np.arange(1, suppression.shape[1] + 1), self.eligible[:, None]).clip(min=1)
        counted = np.arange(suppression.shape[1]) < (depth or suppression.shape[1])
        erroneous = np.cumsum(suppression * self.false_negative, 1) / pool
        informative = np.cumsum(suppression * ~self.false_negative * counted, 1) / pool
        return erroneous.mean(0), informative.mean(0)

    def score_drift(self, depth: int = 20) -> tuple[np.ndarray, np.ndarray]:
        """How far scores have moved from the reference, for false negatives and for the rest, both [P].

        Among the `depth` eligible items that the reference ranks best, against the mean move of all eligible items of
        the position; NaN where there is none of a kind.
        """
        change = np.where(self.real, (self.pairs.policy_negative - self.pairs.reference_negative).numpy(), np.nan)
        change = change - np.nanmean(change, 1, keepdims=True)
        reference = np.where(self.real, self.pairs.reference_negative.numpy(), -np.inf)
        best = np.argsort(-reference, 1, kind="stable")[:, :depth]
        change, wrong, real = (np.take_along_axis(x, best, 1) for x in (change, self.false_negative, self.real))
        wrong_change, right_change = (np.ma.array(change, mask=~kind) for kind in (wrong, ~wrong & real))
        return wrong_change.mean(1).filled(np.nan), right_change.mean(1).filled(np.nan)

    def in_pool(self, values: np.ndarray, depth: int = 20) -> tuple[float, float]:
        """Means of a value per item [N] over the false negatives and over the others among the best `depth` ranks."""
        items, wrong, real = (table[:, :depth] for table in (self.items, self.false_negative, self.real))
        return float(values[items[wrong]].mean()), float(values[items[~wrong & real]].mean())


def suppression_table(profile: RankProfile, settings: list[NegativesConfig], losses: list[LossConfig]) -> pd.DataFrame:
    """Mean suppression of both kinds and gradient noise, a row for the places of every setting and every loss."""
    rows, suppressions = [], [profile.suppression(loss) for loss in losses]
    for setting, negatives in enumerate(settings):
        probabilities = profile.probabilities(negatives)
        for loss, suppression in enumerate(suppressions):
            kinds = profile.by_kind(probabilities * suppression).mean(1)
            rows.append((setting, loss, *kinds, noise(probabilities, suppression)))
    return pd.DataFrame(rows, columns=["setting", "loss", "erroneous", "informative", "noise"])


@torch.no_grad()
def rank_profile(
    policy: Recommender, reference: Recommender, dataset: Dataset, relevance: Relevance, max_length: int,
    positions: int = 4000, seed: int = 0, exclude: str = "train",
) -> RankProfile:  # fmt: skip
    """Profile a policy against its reference on training positions, whole catalogue deep.

    Takes whole users in random order, about `positions` next-item predictions. Scores are taken in eval mode.
    """
    sequences = PackedSequences.for_training(dataset, max_length)
    batch = next(sequences.epoch(positions, torch.Generator().manual_seed(seed)))
    users, positives = batch.user_of_position, torch.as_tensor(dataset.items)[batch.rows + 1]
    excluded = exclusions(exclude, users, batch.rows, positives, OwnedItems.in_training(dataset))
    mask = item_mask(excluded, dataset.n_items)
    counts = torch.as_tensor(training_counts(dataset)), torch.bincount(positives, minlength=dataset.n_items)
    scores = {"policy": score_matrix(policy, batch), "reference": score_matrix(reference, batch)}
    at_positive = {name: matrix.gather(1, positives[:, None])[:, 0] for name, matrix in scores.items()}
    candidates = {
        name: Candidates(matrix.masked_fill(mask, -torch.inf), at_positive[name], excluded, *counts, batch.rows)
        for name, matrix in scores.items()
    }
    ranked, items = candidates["policy"].scores.sort(dim=1, descending=True, stable=True)  # [P, N]
    real = torch.isfinite(ranked)
    pairs = [side.double() for name in scores for side in (at_positive[name], scores[name].gather(1, items))]
    anchor = scores["policy"].softmax(1).gather(1, items).masked_fill(~real, 0.0).double()
    tables = users, real.sum(1), items, relevance(batch).gather(1, items) & real
    return RankProfile(*(table.numpy() for table in tables), Pairs(*pairs), anchor.numpy(), candidates)


def noise(probabilities: np.ndarray, suppression: np.ndarray) -> float:
    """Noise-to-signal ratio of one draw: trace of the variance of its gradient, over the squared mean gradient.

    The gradient of a position is a vector over the catalogue, w_r at the drawn item; averaged over positions. Both
    arguments are [P, N], by rank.
    """
    mean_square = (probabilities * suppression**2).sum(1).mean()
    square_mean = ((probabilities * suppression) ** 2).sum(1).mean()
    return float((mean_square - square_mean) / square_mean)
