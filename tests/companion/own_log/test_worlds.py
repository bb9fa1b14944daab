"""Whole trials on small worlds: what `make trust ARGS=worlds` does fifty times, once and smaller."""

import numpy as np
import pytest
from trust import worlds

from rodpo_lite.data.synthetic import WorldSizes


def test_what_is_planted_is_the_gain_of_the_pool_alone():
    chance = np.random.default_rng(0)
    hits = {name: np.where(chance.random((5, 900)) < 0.1, 0.5, 0) for name in ("none", "topk", "hard")}
    parts = {"valid": hits, "test": hits}
    found = worlds.plant(parts, "none", chance)
    for part in parts:
        assert found[part]["topk"].mean() == pytest.approx((1 + worlds.PLANTED) * hits["none"].mean(), rel=0.1)
        assert (found[part]["topk"] >= hits["topk"]).all() and found[part]["hard"] is hits["hard"]
    assert worlds.judged(found).candidate == "topk" and worlds.judged(found).verdict == "keep"


def test_a_world_is_judged_three_times(tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "SEEDS", (1, 2))
    counts = worlds.judge_all(tmp_path, worlds=1, sizes=WorldSizes(users=240, items=100, mean_length=6.0))
    assert {kind: sum(found.values()) for kind, found in counts["verdicts"].items()} == {
        "as it is": 1, "planted": 1, "small": 1,
    }  # fmt: skip
    assert counts["change_of_topk"]["planted"] > counts["change_of_topk"]["as it is"] + 5
