"""The claims: declared, decided by their rule, and undecided while runs are missing."""

import numpy as np
import pandas as pd
import pytest

from rodpo_lite import claims
from rodpo_lite.checkpoint import write_json
from rodpo_lite.claims import NOT_RUN, assess, conclusion
from rodpo_lite.config import EncoderConfig
from rodpo_lite.errors import InputError
from rodpo_lite.grid import Cell, Grid
from rodpo_lite.ledger import records
from rodpo_lite.plan import GRID

DECLARED = """
datasets: [world, world-planted]
planted: {world-planted: world}
seeds: [1, 2, 3]
tuning: {seeds: [100], trials: 1}
rows:
  base: {tier: A, planted: true}
  hard: {tier: A, planted: true, reference: base, set: {negatives.name: hard}}
  topk: {tier: A, planted: true, reference: base, set: {negatives.name: topk}}
"""
CLAIMS = """
better: {says: more, source: paper, pairs: [[topk, hard], [topk, base]]}
fewer: {says: less, source: paper, measure: planted_share, better: lower, pairs: [[topk, hard]]}
drift: {says: less far, source: paper, measure: planted_drift, pairs: [[topk, hard]]}
"""
# Of each row: the share of users whose item is found, share of suppression on what is hidden, drift of it.
WORLD = {"base": (0.3, None, None), "hard": (0.3, 0.02, -0.5), "topk": (0.6, 0.01, -0.1)}
METRICS = {f"{name}@{cutoff}": 0.1 for name in ("hr", "ndcg", "mrr") for cutoff in (5, 10, 20)}


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(DECLARED)
    return Grid.read(path)


@pytest.fixture
def ledger(grid, tmp_path):
    """A record of each run, as far as claims read it, with ranks of 400 users."""
    folder, random = tmp_path / "ledger", np.random.default_rng(0)
    for cell in grid.cells():
        found, share, drift = WORLD[cell.name]
        for seed in cell.seeds:
            config = cell.config(cell.chosen(folder), seed)
            stage, noise = config.stage, random.normal(0, 0.02)
            name = f"{cell.dataset}-{stage}-{cell.name}{seed}"
            line = {"epoch": 1, **({"planted_share": share * (1 + noise)} if share else {})}
            entry = {"config_hash": name, "stage": stage, "seed": seed, "config": config.model_dump(mode="json")}
            entry |= {"encoder": EncoderConfig().model_dump(mode="json"), "curve": [line], "seconds": 1.0}
            entry |= {"dataset": {"name": cell.dataset, "n_users": 400, "n_items": 10, "n_interactions": 2000}}
            entry |= dict.fromkeys(("valid", "valid_masked", "test", "test_masked"), METRICS)
            if drift:
                entry["drift"] = {"planted": {"difference": drift + noise}}
            write_json(folder / f"{name}.json", entry | {"parameters": 1, "best_epoch": 1, "commit": "0"})
            ranks = np.where(random.random(400) < found, 0, 200)
            (folder / "ranks").mkdir(exist_ok=True)
            pd.DataFrame({"rank": ranks, "rank_masked": ranks}).to_parquet(folder / "ranks" / f"{name}.parquet")
    return folder


@pytest.fixture
def declared(grid, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS)
    return claims.read(grid, path)


def test_the_committed_claims_can_be_read():
    found = claims.read(Grid.read(GRID))
    assert {"stochastic_over_hard", "fewer_wrong_pushes", "gain", "mixture"} <= found.keys()
    assert found["fewer_wrong_pushes"].members(Grid.read(GRID)) == [("toys-planted", "topk", "hard")]


def test_a_gain_that_is_there_is_found(grid, declared, ledger):
    found = assess(declared["better"], grid, records(ledger), ledger)
    assert found[["dataset", "after", "before"]].values.tolist() == [
        ["world", "topk", "hard"],
        ["world", "topk", "base"],
    ]
    assert (found["low"] > 0).all() and (found["Holm's p"] < 0.05).all() and (found["estimate"] > 50).all()
    assert found["verdict"].tolist() == ["reproduced", "reproduced"]


def test_what_is_better_when_lower_counts_by_its_sign(grid, declared, ledger):
    (row,) = assess(declared["fewer"], grid, records(ledger), ledger).itertuples()
    assert (row.dataset, row.verdict) == ("world-planted", "reproduced")
    assert row.estimate == pytest.approx(-50, abs=3) and row.high < 0
    (row,) = assess(declared["drift"], grid, records(ledger), ledger).itertuples()
    assert row.verdict == "reproduced" and row.estimate == pytest.approx(0.4, abs=0.1)


def test_a_claim_waits_for_all_of_its_runs(grid, declared, ledger):
    (ledger / "world-align-topk3.json").unlink()
    found = assess(declared["better"], grid, records(ledger), ledger)
    assert found["verdict"].tolist() == [NOT_RUN, NOT_RUN] and found["seeds"].tolist() == [2, 2]
    assert found["estimate"].isna().all()


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "no effect"], "reproduced in part"),
        (["contradicted", "inconclusive"], "contradicted in part"),
        (["contradicted", "reproduced", "no effect"], "mixed"),
        (["no effect", "no effect"], "no effect"),
        (["no effect", "inconclusive"], "inconclusive"),
        (["reproduced", NOT_RUN], NOT_RUN),
    ],
)
def test_the_verdict_of_a_claim(verdicts, expected):
    assert conclusion(verdicts) == expected


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("[topk, base]", "[topk, bass]", "no row bass"),
        ("source: paper", "source: rumour", "better.source"),
        ("says: more, ", "", "better.says"),
    ],
)
def test_a_wrong_list_is_refused(grid, tmp_path, wrong, right, sentence):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.replace(wrong, right, 1))
    with pytest.raises(InputError, match=sentence):
        claims.read(grid, path)


def test_a_record_that_started_from_the_recorded_reference_comes_first(grid, ledger):
    """Two records of one experiment, from references that were trained on different machines."""
    path = ledger / "world-align-hard1.json"
    table = records(ledger)
    table["weights"], table["reference_weights"] = "known", "known"
    other = table[table["file"] == path.name].assign(file="world-align-other.json", reference_weights="unknown")
    for order in ([table, other], [other, table]):
        recorded = Cell(grid, "world", "hard").recorded(ledger, pd.concat(order, ignore_index=True))
        assert recorded[1] == path.name
