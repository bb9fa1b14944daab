"""Intervals for paired comparisons over the same users."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def text(self, digits: int = 2, unit: str = " %") -> str:
        """Such as `+1.20 % [−0.30 %, +2.70 %]`."""
        estimate, low, high = (f"{value:+.{digits}f}{unit}".replace("-", "−") for value in self._all())
        return f"{estimate} [{low}, {high}]"

    def _all(self) -> tuple[float, float, float]:
        return self.estimate, self.low, self.high


def relative_change(before: np.ndarray, after: np.ndarray, axis: int = -1) -> np.ndarray:
    """Change of the mean over users, in percent of the mean before."""
    return 100 * (after.mean(axis) / before.mean(axis) - 1)


def user_bootstrap(
    before: np.ndarray, after: np.ndarray, statistic: Callable[..., np.ndarray] = relative_change,
    resamples: int = 2000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Percentile bootstrap over users of a paired statistic: one value per user and arm, [U] each.

    It covers the choice of users only; what another training seed would change is not in it.
    Raises ValueError if the arms do not have the same users.
    """
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError("both arms need one value for each of the same users")
    found = stats.bootstrap(
        (before, after), statistic, paired=True, n_resamples=resamples, batch=100, method="percentile", rng=seed
    )
    low, high = found.confidence_interval
    return Interval(float(statistic(before, after)), float(low), float(high))
