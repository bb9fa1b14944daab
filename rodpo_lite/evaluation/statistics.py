"""Intervals for paired comparisons over the same users and seeds, and the verdicts that follow from them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy

Verdict = Literal["reproduced", "contradicted", "no effect", "inconclusive"]
NEGLIGIBLE = 1.0  # percent: an interval within ± this much is no effect


def signed(value: float, digits: int) -> str:
    """Such as `+1.20`; what would round to zero has a digit more, and no sign if it still does."""
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        text = f"{value:+.{digits + 1}f}"
        text = text if float(text) else f"{0:.{digits}f}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; the limits are NaN where there is none, and so is an undefined estimate."""

    estimate: float
    low: float
    high: float

    def text(self, digits: int = 2, unit: str = " %") -> str:
        """Such as `+1.20 % [−0.30 %, +2.70 %]`, `+1.20 % (no interval)` or `undefined`; the % stays on its line."""
        if np.isnan(self.estimate):
            return "undefined"
        estimate, low, high = (f"{signed(value, digits)}{unit}" for value in (self.estimate, self.low, self.high))
        limits = f"[{low}, {high}]" if self.has_limits else "(no interval)"
        return f"{estimate} {limits}".replace(" %", "\u00a0%")

    @property
    def has_limits(self) -> bool:
        """Whether the limits are numbers."""
        return bool(np.isfinite([self.low, self.high]).all())


@dataclass(frozen=True)
class Comparison(Interval):
    """A change with what else decides: standard error, degrees of freedom, two-sided p; the unit is percent."""

    error: float
    freedom: float
    p: float

    def smallest_effect(self, power: float = 0.8, tests: int = 1) -> float:
        """The smallest true change that this many users and seeds would show in `power` of all repetitions.

        tests: how many share the 5 %; it is shown if it passes even the strictest step of Holm's correction.
        """
        limit = scipy.stats.t.ppf(1 - 0.025 / tests, self.freedom)
        return float((limit + scipy.stats.t.ppf(power, self.freedom)) * self.error)

    def negated(self) -> "Comparison":
        """The same with the sign turned: for what is better when lower."""
        return replace(self, estimate=-self.estimate, low=-self.high, high=-self.low)


def relative_change(before: np.ndarray, after: np.ndarray, axis: int = -1) -> np.ndarray:
    """Change of the mean over users, in percent of the mean before."""
    return 100 * (after.mean(axis) / before.mean(axis) - 1)


def crossed_change(before: np.ndarray, after: np.ndarray) -> Comparison:
    """Relative change of the mean, in percent, for S seeds crossed with U users: both arms are [S, U].

    The same users are ranked by every seed, so neither S·U independent values nor S means tell how sure a change is.
    The variance of the mean is that of a two-way random model, σ²_seed / S + σ²_user / U + σ²_rest / (S·U), from the
    three mean squares (Searle et al. 1992, ch. 4); the ratio enters by its first-order term (after - ratio · before);
    degrees of freedom are Satterthwaite's (1946), so few seeds give wide intervals. A bootstrap that resamples users
    and seeds counts the rest three times over (Owen 2007). With one seed, only users vary: what another seed would
    change is not in the interval. Raises ValueError if the arms do not have the same seeds and users, or if the mean
    before is 0 or a value not finite: a change is then undefined.
    """
    before, after = np.atleast_2d(before), np.atleast_2d(after)
    if before.shape != after.shape or before.shape[1] < 2:
        raise ValueError("both arms need one value for each of the same seeds and users")
    _check_defined(before, after)
    n_seeds, n_users = before.shape
    ratio = after.mean() / before.mean()
    rest = 100 * (after - ratio * before) / before.mean()  # percent; its mean is 0
    by_seed, by_user = rest.mean(1, keepdims=True), rest.mean(0, keepdims=True)
    parts = [(n_users - 1, n_seeds * (by_user**2).sum())]
    if n_seeds > 1:
        parts.append((n_seeds - 1, n_users * (by_seed**2).sum()))
        parts.append(((n_seeds - 1) * (n_users - 1), -((rest - by_seed - by_user) ** 2).sum()))
    terms = [(total / freedom / (n_seeds * n_users), freedom) for freedom, total in parts]
    # Where the rest is larger than what it is taken from, the largest of the three is still a bound.
    variance = max(sum(value for value, _ in terms), max(abs(value) for value, _ in terms))
    change = 100 * (ratio - 1)
    if np.abs(rest).max() < 1e-9:  # every user of every seed gains in the same proportion, but for rounding
        return _student(change, 0.0, np.inf)
    freedom = variance**2 / sum(value**2 / of_term for value, of_term in terms)
    return _student(change, np.sqrt(variance), freedom)


def seed_change(before: np.ndarray, after: np.ndarray, relative: bool = True) -> Comparison:
    """Change of the mean of paired values, one for each of S ≥ 2 seeds, [S] each, with Student's t over the seeds.

    In percent of the mean before, to first order as in `crossed_change`; or, not `relative`, in the unit of the values.
    Raises ValueError if the arms do not have the same seeds, or only one, or if the change is undefined.
    """
    if before.shape != after.shape or before.ndim != 1 or len(before) < 2:
        raise ValueError("both arms need one value for each of the same seeds, at least two")
    _check_defined(before, after, relative)
    scale, ratio = (100 / before.mean(), after.mean() / before.mean()) if relative else (1.0, 1.0)
    rest = scale * (after - ratio * before)
    return _student(scale * (after.mean() - before.mean()), scipy.stats.sem(rest), len(rest) - 1)


def _student(estimate: float, error: float, freedom: float) -> Comparison:
    """An estimate with the interval and the p of Student's t; one without error is its own interval."""
    estimate, error, freedom = float(estimate), float(error), float(freedom)
    if error == 0:
        return Comparison(estimate, estimate, estimate, error, freedom, float(estimate == 0))
    low, high = map(float, scipy.stats.t.interval(0.95, freedom, estimate, error))
    return Comparison(estimate, low, high, error, freedom, float(2 * scipy.stats.t.sf(abs(estimate) / error, freedom)))


def _check_defined(before: np.ndarray, after: np.ndarray, relative: bool = True) -> None:
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("a value is not finite, so that no change can be computed")
    if relative and before.mean() == 0:
        raise ValueError("the mean before is 0, so that no change in percent can be computed")


def seed_mean(values: np.ndarray) -> Interval:
    """Mean of one value for each of S seeds, [S], with Student's interval over them; no interval (NaN) for one seed."""
    if len(values) < 2:
        return Interval(float(np.mean(values)), np.nan, np.nan)
    return _student(np.mean(values), scipy.stats.sem(values), len(values) - 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values of one family of tests. Source: Holm 1979."""
    p, count = np.asarray(p_values, dtype=float), len(p_values)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * (count - np.arange(count)))
    return np.minimum(adjusted, 1.0)[np.argsort(order)]


def verdict(change: Comparison, adjusted_p: float | None = None, negligible: float = NEGLIGIBLE) -> Verdict:
    """Judge a claimed gain by its interval; with `adjusted_p`, it is significant only if that is below 0.05, too.

    reproduced: above zero; contradicted: below zero; no effect: within ± `negligible` percent; else inconclusive. An
    effect that is significant and negligible counts by its sign.
    """
    significant = adjusted_p is None or adjusted_p < 0.05
    if significant and change.low > 0:
        return "reproduced"
    if significant and change.high < 0:
        return "contradicted"
    if -negligible < change.low and change.high < negligible:
        return "no effect"
    return "inconclusive"


def user_bootstrap(before: np.ndarray, after: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap over users of `relative_change`: one value per user and arm, [U] each.

    It covers the choice of users only; what another training seed would change is not in it. A relative change of
    nothing is undefined; and where so few users have anything before that a resample may miss them all, or there is one
    user only, there is no interval. Raises ValueError if the arms do not have the same users.
    """
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError("both arms need one value for each of the same users")
    if before.mean() == 0:
        return Interval(np.nan, np.nan, np.nan)
    estimate = Interval(float(relative_change(before, after)), np.nan, np.nan)
    if len(before) < 2:
        return estimate
    options = {"paired": True, "n_resamples": resamples, "batch": 100, "method": "percentile", "rng": seed}
    with warnings.catch_warnings(action="ignore"):  # a resample that is 0 throughout has no relative change
        bootstrap = scipy.stats.bootstrap((before, after), relative_change, **options)
    low, high = map(float, bootstrap.confidence_interval)
    return replace(estimate, low=low, high=high) if np.isfinite([low, high]).all() else estimate
