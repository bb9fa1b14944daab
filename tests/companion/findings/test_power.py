"""What a browser draws from is what was recorded, and more users or seeds make an interval shorter."""

import base64

import numpy as np
import pytest

from companion.findings import power
from rodpo_lite.evaluation import metrics


@pytest.fixture
def arms():
    rng = np.random.default_rng(0)
    ranks = rng.integers(0, 40, size=(2, 5, 3000))
    return metrics.ndcg(ranks[0]), metrics.ndcg(np.where(rng.random((5, 3000)) < 0.8, *ranks))


def test_bytes_hold_every_user_and_seed(arms):
    given = power.packed(*arms)
    codes = np.frombuffer(base64.b64decode(given["pairs"]), np.uint8).reshape(given["seeds"], -1)
    levels = np.array(given["levels"])
    some = sum(arms).any(0)
    assert given["zeros"] == (~some).sum() > 0
    for arm, places in zip(arms, divmod(codes, len(levels)), strict=True):
        np.testing.assert_allclose(levels[places], arm[:, some])


def test_intervals_shrink_with_the_root_of_the_users_and_with_seeds(arms):
    reach = power.reach(*arms, users=[1000, 4000], seeds=[1, 5]).set_index(["users", "seeds"])["± %"]
    assert reach[1000, 1] / reach[4000, 1] == pytest.approx(2, rel=0.1)
    assert reach[4000, 5] < reach[4000, 1]
