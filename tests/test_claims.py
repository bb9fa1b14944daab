"""The claims: declared, decided by their rule, and undecided while runs are missing."""

import pandas as pd
import pytest
import tiny_ledger

from rodpo_lite import claims
from rodpo_lite.claims import NOT_RUN, assess, conclusion
from rodpo_lite.errors import InputError
from rodpo_lite.grid import Cell, Grid
from rodpo_lite.ledger import records
from rodpo_lite.plan import GRID

CLAIMS = """
better: {says: more, source: paper, pairs: [[topk, hard], [topk, base]]}
fewer: {says: less, source: paper, measure: planted_share, better: lower, pairs: [[topk, hard]]}
drift: {says: less far, source: paper, measure: planted_drift, pairs: [[topk, hard]]}
"""


@pytest.fixture
def grid(tmp_path):
    return tiny_ledger.declare(tmp_path)


@pytest.fixture
def ledger(grid, tmp_path):
    return tiny_ledger.fill(grid, tmp_path / "ledger")


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


def test_the_scoreboard_has_a_line_for_each_claim_of_the_paper(grid, declared, ledger):
    (ledger / "world-align-topk3.json").unlink()
    declared["own"] = declared["better"].model_copy(update={"source": "control"})
    found = claims.scoreboard(declared, grid, records(ledger), ledger)
    assert found["says"].tolist() == ["more", "less", "less far"]
    assert found["verdict"].tolist() == [NOT_RUN, "reproduced", "reproduced"] and found["so_far"].tolist()[0] == ""
    assert (
        found["so_far"].tolist()[1].startswith("World, 10 % hidden: their share of the push −")
        and "\xa0% [" in found["so_far"].tolist()[1]
    )
    assert "%" not in found["so_far"].tolist()[2].partition(":")[2]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "no effect"], "reproduced in part"),
        (["contradicted", "inconclusive"], "contradicted in part"),
        (["contradicted", "reproduced", "no effect"], "mixed"),
        (["no effect", "no effect"], "no effect"),
        (["no effect", "inconclusive"], "inconclusive"),
        ([NOT_RUN, NOT_RUN], NOT_RUN),
        (["reproduced", NOT_RUN, NOT_RUN], "open, 1 of 3 have run"),
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
    assert Cell(grid, "world", "hard").recorded(ledger, table[table["seed"] > 3]) == {}
    apart = table.assign(seed=table["seed"] + 100)
    assert Cell(grid, "world", "hard").recorded(ledger, apart) == {}, "right settings, no reported seed"


def test_an_alignment_from_another_reference_is_another_cell(grid, ledger):
    """The same alignment of a reference that was trained otherwise does not count for this row."""
    table = records(ledger)
    table.loc[table["file"] == "world-align-hard1.json", "reference"] = "elsewhere"
    assert sorted(Cell(grid, "world", "hard").recorded(ledger, table)) == [2, 3]
