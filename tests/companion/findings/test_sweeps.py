"""One setting at a time: what stands beside what, in which order, and what is said of it."""

import json

import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import sweeps
from companion.findings.sentences import render
from rodpo_lite.files import write_json

DECLARED = """
datasets: [toys]
seeds: [1, 2, 3]
tuning: {seeds: [100], trials: 1}
rows:
  base: {tier: A}
  topk: {tier: A, reference: base, set: {loss.beta: 2}}
  hard_as_topk: {tier: B, reference: base, like: topk, set: {negatives.name: hard}}
  hard.beta=10: {tier: C, reference: base, like: topk, set: {negatives.name: hard, loss.beta: 10}}
  beta=10: {tier: C, reference: base, like: topk, set: {loss.beta: 10}}
  beta=2: {tier: C, reference: base, like: topk, set: {loss.beta: 2}}
  beta=0.5: {tier: C, reference: base, like: topk, set: {loss.beta: 0.5}}
  hard.beta=2: {tier: C, reference: base, like: topk, set: {negatives.name: hard, loss.beta: 2}}
  n=3: {tier: C, reference: base, like: topk, set: {negatives.n: 3}}
  k=50: {tier: C, reference: base, like: topk, set: {negatives.k: 50}}
  k=5: {tier: C, reference: base, like: topk, set: {negatives.k: 5}}
  short: {tier: C, set: {training.epochs: 8}}
  short_none: {tier: C, reference: short, set: {negatives.name: none}}
  short_hard: {tier: C, reference: short, set: {negatives.name: hard}}
  short_topk: {tier: C, reference: short, like: topk}
"""
FOUND = {"base": 0.5, "topk": 0.6, "hard_as_topk": 0.5, "hard.beta=10": 0.2, "beta=10": 0.6, "beta=2": 0.6}
FOUND |= {"beta=0.5": 0.4, "hard.beta=2": 0.5, "n=3": 0.6, "k=50": 0.6, "k=5": 0.5}
FOUND |= {"short": 0.3, "short_none": 0.3, "short_hard": 0.2, "short_topk": 0.4}


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_ledger, "WORLD", {row: (found, None, None) for row, found in FOUND.items()})
    (tmp_path / "grid.yaml").write_text(DECLARED)
    grid = Grid.read(tmp_path / "grid.yaml")
    folder = tiny_ledger.fill(grid, tmp_path / "ledger")
    for path in folder.glob("toys-align-short_*.json"):
        entry = json.loads(path.read_text())
        write_json(path, entry | {"reference": f"toys-reference-short{entry['seed']}"})
    return grid, Ledger(folder)


def test_a_sweep_is_in_the_order_of_its_values(filled):
    found = sweeps.against_topk(*filled)
    assert found["of"].unique().tolist() == ["pool size K", "β"], "as they are declared; one value of n is no curve"
    assert found.loc[found["of"] == "pool size K", "value"].tolist() == [5, 50]
    of_beta = found[found["of"] == "β"]
    topk, hard = (of_beta[of_beta["selector"] == name] for name in ("topk", "hard"))
    assert topk["value"].tolist() == [0.5, 2, 10] and hard["value"].tolist() == [2, 10]
    assert topk["change %"].iloc[0] < -20 and topk["seeds"].tolist() == [3, 3, 3]


def test_the_pool_against_the_hardest_item_at_the_same_settings(filled):
    found = sweeps.over_hard(*filled)
    assert found["setting"].tolist() == ["β 10", "as chosen"], "the largest first, what was chosen once"
    assert found["change %"].iloc[0] > 100 > found["change %"].iloc[1] > 0
    ranges = sweeps.strongest(found, sweeps.against_topk(*filled), pd.DataFrame())["ranges"]
    assert ranges["topk"][0] < -20 and ranges["hard"][1] < -10, "over β, which both have"


def test_a_reference_that_has_not_converged_is_told_apart(filled):
    found = sweeps.from_a_short_reference(*filled)
    assert found["before"].tolist() == ["hard", "none"] and (found["change %"] > 0).all()
    assert "short" not in sweeps.over_hard(*filled)["setting"].str.cat()


def test_nothing_is_said_of_runs_that_are_not_on_record(filled):
    grid, ledger = filled
    few = with_records(ledger.folder, ledger.records[ledger.records["strategy"] == "reference"])
    assert sweeps.against_topk(grid, few).empty and sweeps.over_hard(grid, few).empty
    assert sweeps.from_a_short_reference(grid, few).empty


def test_choices_that_we_do_not_know(filled):
    grid, ledger = filled
    records = ledger.records
    few = with_records(ledger.folder, records[~records["file"].str.contains("n=3")])
    choices = [("β", "as chosen", None), ("K", "as chosen; else 5", ("k=5", "topk")), ("n", "one", ("n=3", "topk"))]
    said = sweeps.unknown(grid, choices, few)["what the other changes, %"].tolist()
    assert said[0] == "shown above" and said[1].startswith("Toys −") and said[2] == "not run yet"


def _trials():
    columns = ["dataset", "row", "chosen", "training.lambda_ce", "loss.beta", "negatives.k", "start %", "change %"]
    lines = [
        ("toys", "none", True, 1.0, None, None, 0.0, 9.0), ("toys", "topk", True, 1.0, 0.1, 5, 0.0, -1.0),
        ("toys", "topk", False, 0.0, 1.0, 20, 0.0, -5.0), ("toys", "short_topk", True, 0.5, 2.0, 50, -3.0, 2.0),
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=columns).assign(**{"training.dropout": [True, False, True, True]})


def test_what_may_be_said_of_trials(filled):
    grid, _ = filled
    facts = sweeps.tried(_trials(), grid)
    assert (facts["trials"], facts["above"]) == (4, 2)
    assert facts["with_anchor"] == {"trials": 2, "median": 0.5} and facts["without"]["median"] == -5.0, "`none` apart"
    assert facts["together"] == pytest.approx(1)
    assert facts["elsewhere"][["dataset", "start %"]].values.tolist() == [["Toys", -3.0]]
    assert sweeps.tried(_trials().head(0), grid) == {"trials": 0}


def test_what_is_left_on_other_seeds(filled):
    (table,) = sweeps.chosen(_trials()).values()
    assert table["row"].tolist() == ["none", "topk", "short_topk †"]
    assert table["training.dropout"].tolist() == ["yes", "no", "yes"]
    again = sweeps.on_reported_seeds(_trials(), *filled)
    assert again.index.tolist() == [("toys", "topk"), ("toys", "short_topk")], "`none` has no runs"
    assert again["as tuned, %"].tolist() == [-1, 2] and (again["reported seeds, %"] > 5).all()


def test_what_a_row_sets_wins_over_what_its_trials_chose_and_that_is_said(tmp_path):
    declared = "datasets: [world]\nseeds: [1]\ntuning: {seeds: [100], trials: 2}\nrows:\n  base: {tier: A}\n"
    declared += "  dns: {tier: A, reference: base, set: {negatives.k: 5}, search: {negatives.k: [7, 8]}}\n"
    (tmp_path / "grid.yaml").write_text(declared)
    grid, ledger = Grid.read(tmp_path / "grid.yaml"), Ledger(tmp_path)
    assert sweeps.overruled(grid, ledger) == []
    trials = [{"settings": settings, "valid": [0.1]} for settings in grid.trials("dns")]
    of_second = {"key": "negatives.k", "chosen": trials[1]["settings"]["negatives.k"], "ran": 5}
    for chosen, expected in ((0, []), (1, [{"dataset": "World", "row": "dns"} | of_second])):
        write_json(tmp_path / "trials" / "world.dns.json", {"seeds": [100], "trials": trials, "chosen": chosen})
        assert sweeps.overruled(grid, Ledger(tmp_path)) == expected
    said = render("overruled", rows=expected)
    assert f"`dns` on World ran with `negatives.k = 5`, where {of_second['chosen']} was chosen." in said
    assert render("overruled", rows=[]) == ""


def test_one_default_is_chosen_on_validation_and_judged_on_test(monkeypatch):
    """`share` has the best worst case on validation, whatever test says of it; one line less, and nothing is chosen."""
    grid, ledger = Grid.read(GRID), Ledger.open()
    validation = {"recommended": (3, 3, 3, -2), "share": (-1, -1, -1, -1), "gentle": (9, 9, 9, -9)}

    def found(high, lines=12):
        rows = [(name, one, high if name == "share" else -5) for name, of in validation.items() for one in of]
        made_up = pd.DataFrame(rows[:lines], columns=["candidate", "validation %", "high"])
        monkeypatch.setattr(sweeps, "_candidates", lambda *_: made_up)
        return sweeps.recommended(grid, ledger)

    assert [(found(high)["default"], found(high)["enough"]) for high in (1, -1)] == [("share", True), ("share", False)]
    assert found(1, lines=11)["default"] is None
    found = found(1)
    assert 0 < found["same"] <= found["of"] and found["settings"]["negatives.k"] == 200

    columns = ["candidate", "base", "protocol", "validation %", "change %", "low", "high"]
    lines = [("share", "HM4SR", "all items", -1.0, -3.0, -4.0, -2.0), ("gentle", "HM4SR", "all items", -2.0, 0, -1, 1)]
    told = {"lines": pd.DataFrame(lines, columns=columns), "default": "share", "enough": False}
    said = render("recommended", **found | told)
    assert "prefers does not do for both bases.**" in said and "(−3.0\u00a0% [−4.0\u00a0%" in said
    assert "`gentle` −2.0" in said and "So tune" in said
    assert "prefers does for both bases.**" in render("recommended", **found | told | {"enough": True})
    assert "has not been run yet" in render("recommended", **found | told | {"default": None})
