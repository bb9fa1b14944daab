"""Interventions: how much of a gap is closed, and what is said of it."""

import numpy as np
import pytest
from tiny_ledger import USERS

from companion.evidence import interventions
from companion.evidence.grid import Experiment, Grid
from companion.evidence.interventions import BESIDE, NOT_RUN, assess, verdict
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import negatives
from companion.findings.sentences import render
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import Comparison, crossed_change

DECLARED = """
question:
  asks: how much?
  gap: [topk, hard]
  instead: {nothing: [topk, hard], everything: [topk, topk], the other way: [hard, topk]}
"""


@pytest.fixture
def question(grid, tmp_path):
    (tmp_path / "interventions.yaml").write_text(DECLARED)
    return interventions.read(grid, tmp_path / "interventions.yaml")["question"]


def test_each_committed_question_is_on_a_page_and_asked_where_its_rows_run():
    grid = Grid.read(GRID)
    found = interventions.read(grid)
    assert found.keys() == {*negatives.QUESTIONS, *negatives.MEMORY}
    on = {name: {gap[0].dataset for _, gap, _ in one.members(grid)} for name, one in found.items()}
    hidden = {"spared": {"toys-planted", "toys-planted-40"}, "popular": {"toys-planted"}, "loss": {"toys-planted"}}
    assert on == hidden | {name: {"toys"} for name in negatives.MEMORY}


def test_what_changes_nothing_closes_nothing_and_what_evens_out_closes_all(question, grid, ledger):
    found = assess(question, grid, ledger).set_index("what")
    assert np.allclose(found.loc["nothing", "estimate"], 0)
    assert (found.loc["nothing", "verdict"] == "at most half").all()
    assert np.allclose(found.loc["everything", "estimate"], 100)
    assert (found.loc["everything", "verdict"] == "most of it").all()
    assert np.allclose(found.loc["the other way", "estimate"], 200)
    assert (found["gap %"] > 50).all() and (found.loc["the other way", "left %"] < -30).all()


def test_a_half_is_found_with_its_interval(question, grid, folder):
    """Of the users that topk finds and hard does not, half are found instead."""
    ledger = Ledger(folder)
    sides = [Experiment(grid, "world", name).recorded(ledger) for name in ("topk", "hard")]
    gaps, left = [], []
    for seed in (1, 2, 3):
        high, low = (metrics.ndcg(ledger.ranks(side[seed])["rank"].to_numpy()) for side in sides)
        half = np.where(np.arange(USERS) % 2, high, low)
        gaps.append(high - low)
        left.append(high - half)
    closed = crossed_change(np.stack(gaps), np.stack(left)).negated()
    assert 0 < closed.low < 50 < closed.high < 100
    assert verdict(crossed_change(np.ones((3, 9)), 2 * np.ones((3, 9))), closed, 0.001) == "a part of it"


@pytest.mark.parametrize(
    "gap, interval, p, said",
    [
        ((-1, 3), (60, 90), 0.001, "no gap"),
        ((1, 3), (60, 90), 0.001, "most of it"),
        ((1, 3), (60, 90), 0.2, "not shown"),
        ((1, 3), (10, 90), 0.001, "a part of it"),
        ((1, 3), (-90, -10), 0.001, "it widens"),
        ((1, 3), (-20, 40), 0.4, "at most half"),
        ((1, 3), (-20, 70), 0.4, "not shown"),
    ],
)
def test_the_rule(gap, interval, p, said):
    lead, closed = (Comparison(sum(limits) / 2, *limits, error=1.0, freedom=4, p=p) for limits in (gap, interval))
    assert verdict(lead, closed, p) == said


def test_missing_runs_leave_a_question_open_and_a_smaller_sample_decides_nothing(question, grid, folder):
    for path in folder.glob("world-planted-align-topk2.json"):
        path.unlink()
    found = assess(question, grid, Ledger(folder)).set_index("dataset")
    assert (found.loc["world-planted", "verdict"] == NOT_RUN).all() and found.loc["world-planted", "low"].isna().all()
    assert not (found.loc["world", "verdict"] == NOT_RUN).any()
    grid.planted["world-planted"] = grid.planted["world-planted"].model_copy(update={"tier": "C"})
    again = assess(question, grid, Ledger(folder)).set_index("dataset")
    assert (again.loc["world-planted", "verdict"] == BESIDE).all()
    assert (again.loc["world", "Holm's p"] <= found.loc["world", "Holm's p"]).all(), "what decides nothing is no member"


@pytest.mark.parametrize("text, said", [("topk, nobody", "no row nobody"), ("topk", "question")])
def test_a_wrong_declaration_is_refused(text, said, grid, tmp_path):
    (tmp_path / "interventions.yaml").write_text(
        f"question: {{asks: how, gap: [{text}], instead: {{x: [topk, hard]}}}}"
    )
    with pytest.raises(InputError, match=said):
        interventions.read(grid, tmp_path / "interventions.yaml")


def test_what_readers_and_checks_see(question, grid, ledger, monkeypatch):
    monkeypatch.setattr(interventions, "read", lambda _: {"question": question})
    found = interventions.answers(grid, ledger, ["question"])
    table = interventions.closed(found)
    assert set(table["dataset"]) == {"World", "World, 10 % hidden"} and table.columns[-1] == "verdict"
    assert interventions.metrics(found)["closed_question_everything_World_10_hidden_all_items"] == pytest.approx(100)
    said = render("intervention", **found["question"])
    assert said.startswith("**how much?**") and "Most of it: everything, +100" in said and "decides" not in said
    empty = {"asks": "why?", "members": found["question"]["members"].head(0)}
    assert render("intervention", **empty) == "*Declared and not run yet: why?*"
