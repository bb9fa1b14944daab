"""Paired intervals: right by construction, and covering at the stated rate."""

import numpy as np
import pytest

from rodpo_lite.statistics import relative_change, user_bootstrap


def test_relative_change_by_hand():
    assert relative_change(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx(25)


def test_a_constant_gain_has_a_point_interval_and_no_gain_none():
    users = np.random.default_rng(0).random(200)
    gain = user_bootstrap(users, 1.1 * users, resamples=200)
    assert (gain.estimate, gain.low, gain.high) == pytest.approx((10, 10, 10))
    assert user_bootstrap(users, users, resamples=200).text() == "+0.00 % [+0.00 %, +0.00 %]"


def test_intervals_cover_at_their_level():
    """200 worlds of 150 users, true change +20 %: 95 % intervals cover in 95 % of them, give or take 4 errors."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        before = rng.exponential(size=150)
        found = user_bootstrap(before, before + rng.normal(0.2, 0.5, 150), resamples=400, seed=int(rng.integers(1e6)))
        covered += found.low <= 20 <= found.high
    assert abs(covered / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_unpaired_arms_are_refused():
    with pytest.raises(ValueError, match="same users"):
        user_bootstrap(np.ones(3), np.ones(4))
