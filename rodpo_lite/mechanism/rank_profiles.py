"""What selection does to false negatives: suppression by rank, and how much of it is erroneous.

At a position where the item at rank r is drawn with probability q_r, is a false negative or not (f_r), and would be
pushed down with suppression w_r, the expected erroneous suppression is Σ_r q_r f_r w_r and the informative one is
Σ_r q_r (1 - f_r) w_r; both are then averaged over positions.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs
from rodpo_lite.mechanism.relevance import Relevance
from rodpo_lite.model.recommender import Recommender, score_matrix
from rodpo_lite.sampling.candidates import Candidates, OwnedItems, exclusion_mask, exclusions
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig


@dataclass(frozen=True)
class RankProfile:
    """Eligible items of P positions, best policy score first, over the whole catalogue N.

    users [P]; eligible [P]: number of eligible items; items [P, N]: their ids by rank, excluded items last;
    false_negative [P, N]: relevant by the notion that was asked for; pairs: the positive's
    scores and those of the item at each rank, float64; anchor [P, N]: π(j|S), the push of the cross-entropy at
    λ_ce = 1. candidates: what selectors are shown, by scorer. All on the CPU. Where nothing is eligible, nothing is a
    false negative and nothing pushes.
    """

    users: np.ndarray
    eligible: np.ndarray
    items: np.ndarray
    false_negative: np.ndarray
    pairs: Pairs
    anchor: np.ndarray
    candidates: dict[str, Candidates]

    @property
    def real(self) -> np.ndarray:
        """Which ranks hold an eligible item, [P, N]."""
        return np.arange(self.items.shape[1]) < self.eligible[:, None]

    @property
    def margin(self) -> np.ndarray:
        """h if the item at that rank were drawn, [P, N]; infinite where nothing is eligible."""
        return np.where(self.real, self.pairs.margin.numpy(), np.inf)

    def probabilities(self, negatives: NegativesConfig) -> np.ndarray:
        """q_r, [P, N]: the probability that one draw takes the item at rank r; KeyError where it cannot be stated."""
        selector = SELECTORS[negatives.name]
        if selector.probabilities is None:
            raise KeyError(f"{negatives.name} has no probabilities that could be stated")
        candidates = self.candidates[selector.scorer or "policy"]
        return selector.probabilities(candidates, negatives).gather(1, torch.from_numpy(self.items)).numpy()

    def suppression(self, loss: LossConfig) -> np.ndarray:
        """w_r, [P, N]: how hard the item at rank r would be pushed if it were drawn.

        Raises KeyError for a loss whose push on one pair depends on others.
        """
        suppression = LOSSES[loss.name].suppression
        if suppression is None:
            raise KeyError(f"the push of {loss.name} on a pair depends on other pairs")
        return np.where(self.real, suppression(self.pairs, loss).numpy(), 0.0)

    def expected(self, negatives: NegativesConfig, loss: LossConfig) -> tuple[np.ndarray, np.ndarray]:
        """Expected erroneous and informative suppression of each position, both [P]."""
        drawn = self.probabilities(negatives) * self.suppression(loss)
        return (drawn * self.false_negative).sum(1), (drawn * ~self.false_negative).sum(1)

    def by_autograd(self, negatives: NegativesConfig, loss: LossConfig) -> tuple[np.ndarray, np.ndarray]:
        """`expected` without its formula: the gradient of the expected loss Σ_r q_r ℓ_r on the score at each rank."""
        scores, chance = (
            self.pairs.policy_negative.clone().requires_grad_(),
            torch.from_numpy(self.probabilities(negatives)),
        )
        pairs = replace(self.pairs, policy_negative=scores)
        with torch.enable_grad():
            total = (chance * LOSSES[loss.name].function(pairs, loss, {})).sum()
        push = torch.autograd.grad(total, scores)[0].numpy()
        return (push * self.false_negative).sum(1), (push * ~self.false_negative).sum(1)

    def sampling_error(self, negatives: NegativesConfig, loss: LossConfig, draws: int) -> tuple[float, float]:
        """Standard errors, by the probabilities, of the averages over positions of the two parts of `sampled`."""
        chance, suppression = self.probabilities(negatives), self.suppression(loss)
        errors = []
        for part in (self.false_negative, ~self.false_negative):
            variance = (chance * suppression**2 * part).sum(1) - (chance * suppression * part).sum(1) ** 2
            errors.append(float(np.sqrt(variance.clip(min=0).sum() / draws) / len(chance)))
        return errors[0], errors[1]

    def sampled(
        self, negatives: NegativesConfig, loss: LossConfig, draws: int, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """`expected` by drawing `draws` times with the selector itself: for one whose probabilities cannot be stated.

        The state of a selector that remembers starts empty.
        """
        selector, config = SELECTORS[negatives.name], negatives.model_copy(update={"n": 1})
        candidates = self.candidates[selector.scorer or "policy"]
        candidates = replace(candidates, state=selector.state(int(candidates.rows.max()) + 1, None))
        rank, suppression = self.items.argsort(1), self.suppression(loss)
        generator = torch.Generator().manual_seed(seed)
        landed = np.zeros((2, len(suppression)))
        for _ in range(draws):
            drawn = np.take_along_axis(rank, selector.draw(candidates, config, generator).numpy(), 1)
            push, wrong = (np.take_along_axis(table, drawn, 1)[:, 0] for table in (suppression, self.false_negative))
            landed += push * wrong, push * ~wrong
        return landed[0] / draws, landed[1] / draws

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

    def anchor_push(self) -> tuple[np.ndarray, np.ndarray]:
        """What the cross-entropy pushes on false negatives and on the rest, per position at λ_ce = 1, both [P]."""
        return (self.anchor * self.false_negative).sum(1), (self.anchor * ~self.false_negative).sum(1)

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
        return _mean_where(change, wrong), _mean_where(change, ~wrong & real)

    def in_pool(self, values: np.ndarray, depth: int = 20) -> tuple[float, float]:
        """Means of a value per item [N] over the false negatives and over the others among the best `depth` ranks."""
        items, wrong, real = (table[:, :depth] for table in (self.items, self.false_negative, self.real))
        return float(values[items[wrong]].mean()), float(values[items[~wrong & real]].mean())

    def false_negative_share(self) -> np.ndarray:
        """Share of positions whose item at rank r is a false negative, [N]."""
        return self.false_negative.mean(0)


def _mean_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    count = mask.sum(1)
    total = np.where(mask, values, 0.0).sum(1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def three_ways(profile: RankProfile, selectors: list[NegativesConfig], loss: LossConfig, draws: int) -> pd.DataFrame:
    """Mean erroneous suppression of selectors: in closed form, by autograd in float64, and by drawing.

    Columns: closed form; autograd, less the closed form; Monte-Carlo; standard error of the draws; gap in errors.
    """
    rows = []
    for negatives in selectors:
        exact, gradient, drawn = (
            float(part[0].mean())
            for part in (
                profile.expected(negatives, loss),
                profile.by_autograd(negatives, loss),
                profile.sampled(negatives, loss, draws),
            )
        )
        error = profile.sampling_error(negatives, loss, draws)[0]
        sure = 0.0 if abs(drawn - exact) < 1e-9 else np.inf  # a sure draw has no error
        gap = (drawn - exact) / error if error > 1e-12 else sure
        rows.append((negatives.name, exact, gradient - exact, drawn, error, gap))
    columns = ["closed form", "autograd − closed form", "Monte-Carlo", "standard error", "gap in errors"]
    return pd.DataFrame(rows, columns=["selector", *columns])


def anchor_error(profile: RankProfile, positions: int = 50) -> float:
    """Largest difference, over some positions, of π(j|S) from the gradient of the cross-entropy in float64."""
    worst = 0.0
    for row in range(min(positions, len(profile.items))):
        order = torch.from_numpy(profile.items[row])
        scores = torch.empty(len(order), dtype=torch.double).scatter(0, order, profile.pairs.policy_negative[row])
        scores.requires_grad_()
        with torch.enable_grad():
            loss = scores.logsumexp(0) - profile.pairs.policy_positive[row]  # the target's own score is a constant to j
        push = torch.autograd.grad(loss, scores)[0][order][: profile.eligible[row]].numpy()
        worst = max(worst, float(np.abs(push - profile.anchor[row, : profile.eligible[row]]).max()))
    return worst


def sweep(profile: RankProfile, settings: list[NegativesConfig], losses: list[LossConfig]) -> pd.DataFrame:
    """Erroneous and informative suppression and gradient noise of every selection setting under every loss.

    Columns setting and loss (their places in the lists), erroneous, informative, noise.
    """
    rows, wrong = [], profile.false_negative
    suppressions = [profile.suppression(loss) for loss in losses]
    for number, negatives in enumerate(settings):
        chance = profile.probabilities(negatives)
        for place, suppression in enumerate(suppressions):
            drawn = chance * suppression
            parts = (drawn * wrong).sum(1).mean(), (drawn * ~wrong).sum(1).mean()
            rows.append((number, place, *parts, _noise(chance, suppression)))
    return pd.DataFrame(rows, columns=["setting", "loss", "erroneous", "informative", "noise"])


def gradient_noise(profile: RankProfile, negatives: NegativesConfig, loss: LossConfig) -> float:
    """Noise-to-signal ratio of one draw: trace of the variance over draws of the push, over the squared mean push.

    The push of a position is a vector over the catalogue, w_r at the drawn item; averaged over positions.
    """
    return _noise(profile.probabilities(negatives), profile.suppression(loss))


def _noise(chance: np.ndarray, suppression: np.ndarray) -> float:
    mean_square = (chance * suppression**2).sum(1).mean()
    square_mean = ((chance * suppression) ** 2).sum(1).mean()
    return float((mean_square - square_mean) / square_mean)


@torch.no_grad()
def rank_profile(
    policy: Recommender, reference: Recommender, dataset: Dataset, relevance: Relevance, max_length: int,
    positions: int = 4000, seed: int = 0, exclude: str = "train",
) -> RankProfile:  # fmt: skip
    """Profile a policy against its reference on training positions, whole catalogue deep.

    Takes whole users in random order, about `positions` next-item predictions. Scores are taken in eval mode.
    """
    split = leave_one_out(dataset)
    sequences = PackedSequences.for_training(dataset, max_length)
    batch = next(sequences.epoch(positions, torch.Generator().manual_seed(seed)))
    positives = torch.as_tensor(dataset.items)[batch.rows + 1]
    owned = OwnedItems.within(dataset.items, split.start, split.train_end, dataset.n_items)
    users = batch.user_of_position
    excluded = exclusions(exclude, users, batch.rows, positives, owned)
    scores = {"policy": score_matrix(policy, batch), "reference": score_matrix(reference, batch)}
    at_positive = {name: found.gather(1, positives[:, None])[:, 0] for name, found in scores.items()}
    counts = torch.as_tensor(training_counts(dataset)), torch.bincount(positives, minlength=dataset.n_items)
    mask = exclusion_mask(excluded, dataset.n_items)
    candidates = {
        name: Candidates(found.masked_fill(mask, -torch.inf), at_positive[name], excluded, *counts, batch.rows)
        for name, found in scores.items()
    }
    ordered = candidates["policy"].scores.sort(dim=1, descending=True, stable=True)
    real = torch.isfinite(ordered.values)
    false_negative = relevance(batch).gather(1, ordered.indices) & real
    by_rank = {name: found.gather(1, ordered.indices).double() for name, found in scores.items()}
    return RankProfile(
        users.numpy(),
        real.sum(1).numpy(),
        ordered.indices.numpy(),
        false_negative.numpy(),
        Pairs(
            at_positive["policy"].double(), by_rank["policy"], at_positive["reference"].double(), by_rank["reference"]
        ),
        scores["policy"].softmax(1).gather(1, ordered.indices).masked_fill(~real, 0.0).double().numpy(),
        candidates,
    )
