"""False negatives: who hits them, what is pushed, who sinks, in numbers that are known."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence.comparison import mechanism
from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings import negatives
from companion.findings.sentences import render
from rodpo_lite.files import write_json


def test_where_pushes_went(grid, folder, ledger):
    records = ledger.records.assign(suppression=1.0, future_rate=0.001, planted_rate=0.001)
    records.loc[records["strategy"] == "topk", "suppression"] = 4.0
    facts = negatives.pushed(grid, with_records(folder, records))
    (hidden,), (validation,) = (facts[name].to_dict("records") for name in ("hidden", "validation"))
    assert hidden["dataset"] == "World, 10 % hidden" and hidden["share"] == pytest.approx(-50, abs=3)
    assert hidden["amount"] == pytest.approx(100, abs=12), "it pushes four times as hard"
    assert validation == {"dataset": "World", "hard": pytest.approx(10), "topk": pytest.approx(10)}


GAPS = pd.DataFrame({"dataset": ["none", "few", "many"], "seeds": [5, 3, 3], "hidden, %": [0, 20, 40]})
COUNTED = pd.DataFrame({"dataset": ["few", "few", "many"], "row": "hard", "hidden": [10.0, 20.0, 60.0]})


@pytest.mark.parametrize(
    ("changes", "width", "verdict"),
    [([1, 3, 5], 0.5, "**widens**"), ([5, 3, 1], 0.5, "**narrows**"), ([1, 3, 5], 9, "**is not seen to widen**")],
)
def test_what_becomes_of_the_gap_as_more_is_hidden(changes, width, verdict):
    around = {"change %": changes, "low": np.array(changes) - width, "high": np.array(changes) + width}
    facts = negatives.as_more_is_hidden(GAPS.assign(**around), COUNTED)
    assert facts["gaps"]["hits"].tolist()[1:] == [15, 60] and facts["gaps"]["share"].tolist() == [0, 20, 40]
    # the line through three points of error e, two tenths apart, has a slope with the error e / sqrt(8)
    assert facts["trend"]["estimate"] == pytest.approx((changes[2] - changes[0]) / 4)
    assert facts["trend"]["high"] - facts["trend"]["estimate"] == pytest.approx(width / 8**0.5)
    assert verdict in render("more_hidden", **facts)


def test_with_one_share_nothing_is_said_of_a_trend():
    assert render("more_hidden", **negatives.as_more_is_hidden(GAPS.head(1), COUNTED)).startswith("*The runs with")


def test_what_would_flatten_the_others():
    table = pd.Series({"a": 0.01, "b": -0.5, "c": -0.02, "d": 0.03, "e": 0.01})
    assert negatives.out_of_scale(table) == ["b"], "five times the median of the distances is 0.08"


def test_who_sinks_further_though_it_hits_less_often():
    rows = [("hard", 60.0, -0.01), ("topk", 10.0, 0.02), ("static", 12.0, -0.07), ("window", 6.0, -0.03)]
    counted = pd.DataFrame([*rows, ("soft", 80.0, -0.5)], columns=["row", "hidden", "drift"])
    found = negatives.against_the_trend(counted)
    assert found["row"].tolist() == ["window", "static"] and found["times"].tolist() == [10, 5]
    assert negatives.against_the_trend(counted.drop(3))["row"].tolist() == ["static"]
    assert negatives.against_the_trend(counted.head(2)).empty, "none"
    assert negatives.against_the_trend(counted.tail(2)).empty, "no `hard`"


def test_what_selection_did_is_the_mean_over_seeds(grid, ledger):
    counted = mechanism(grid, ledger)
    tables = negatives.selection(grid, counted)
    assert list(tables) == ["world", "world-planted"]
    row = tables["world-planted"].set_index("row").loc["topk"]
    runs = counted[(counted["dataset"] == "world-planted") & (counted["row"] == "topk")]
    assert row["seeds"] == 3 and row[negatives.SELECTION["on_hidden"]] == pytest.approx(runs["on_hidden"].mean())
    assert negatives.SELECTION["past"] not in tables["world"], "what no run recorded is left out"


ROWS = """
  none: {tier: A, planted: true, reference: base, set: {negatives.name: none}}
  uniform: {tier: A, planted: true, reference: base, set: {negatives.name: uniform}}
  hard_past: {tier: B, reference: base, set: {negatives.name: hard, negatives.exclude: past}}
  hard_all: {tier: B, reference: base, set: {negatives.name: hard, negatives.exclude: none}}
"""


@pytest.fixture
def more(tmp_path, monkeypatch):
    """A ledger with `uniform`, and with rows that may reject the past; hits go down from `hard` to `uniform`."""
    world = {
        "none": (0.3, None, None),
        "uniform": (0.3, 0.001, 0.4),
        "hard_past": (0.5, 0.02, -0.5),
        "hard_all": (0.7, 0.02, -0.5),
    }
    monkeypatch.setattr(tiny_ledger, "WORLD", tiny_ledger.WORLD | world)
    (tmp_path / "more.yaml").write_text(tiny_ledger.DECLARED + ROWS)
    grid = Grid.read(tmp_path / "more.yaml")
    ledger = Ledger(tiny_ledger.fill(grid, tmp_path / "more"))
    rates = ledger.records["strategy"].map({"hard": 0.01, "topk": 0.001, "uniform": 0.0001})
    ledger.records = ledger.records.assign(planted_rate=rates, suppression=1.0, past_rate=0.25)
    ledger.records["future_drift"] = ledger.records["planted_drift"]
    return grid, ledger


def test_who_hits_hidden_purchases(more):
    means = negatives.hits(*more, "world-planted")
    assert means["hidden"].to_dict() == pytest.approx({"uniform": 1, "topk": 10, "hard": 100}), "the rarest first"
    assert means["on_hidden"]["hard"] == pytest.approx(200, rel=0.05) and means["k"] == 20
    table = negatives.hits_and_shares(*more, "world-planted")
    assert table["row"].tolist() == ["uniform", "topk", "hard"] * 2 and table["what"].nunique() == 2


def test_who_sinks(more):
    facts = negatives.drift(*more, "world-planted")
    assert set(facts["below"]["row"]) == {"topk", "hard"} and len(facts["below"]) == 4, "of either kind"
    assert (facts["above"], facts["cases"], facts["selectors"], len(facts["exceptions"])) == (2, 6, 3, 0)
    assert set(facts["together"].values()) == {-1}, "who hits more sinks more"


def test_what_it_brings_to_reject_the_past(more):
    table = negatives.exclusions(*more, ("hard",))
    assert table[["step", "protocol"]].values.tolist() == [
        ["not repeating", "all items"], ["not repeating", "history dropped"],
        ["future purchases", "all items"], ["future purchases", "history dropped"],
    ]  # fmt: skip
    said = render("repeating", **negatives.repeating(*more, table)).splitlines()
    assert said[0].endswith("on what the user already has are, on World, 25\u00a0% for `hard`.")
    assert [line.split(":")[0].strip() for line in said[1:] if line] == [
        "- `hard`, not repeating", "- `hard`, future purchases",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ranked", "dropped", "said"),
    [
        ((1, 2), (-2, -1), "it gains on Toys with all items ranked, and loses on Toys with the history dropped."),
        ((-1, 1), (-1, 2), "in both protocols it changes nothing that shows."),
    ],
)
def test_what_is_said_of_rejecting_the_past(ranked, dropped, said):
    line = {"dataset": "Toys", "row": "hard", "step": "not repeating", "past": 9}
    both = {"all items": ranked, "history dropped": dropped}
    lines = [line | {"protocol": name, "low": low, "high": high} for name, (low, high) in both.items()]
    assert render("repeating", changes=lines).endswith(f"- `hard`, not repeating: {said}")


def test_changes_where_purchases_are_hidden(more):
    grid, ledger = more
    gaps = negatives.gaps(grid, ledger, "world-planted")
    assert gaps["hidden, %"].tolist() == [0, 0, 10, 10] and set(gaps["before"]) == {"hard", "none"}
    assert (gaps["change %"] > 50).all()
    ranked = negatives.over_the_reference(
        grid.model_copy(update={"rows": grid.rows | {"fused": grid.rows["base"]}}),
        ledger,
        "world-planted",
        ["topk", "hard"],
    )
    assert ranked["row"].tolist() == ["topk", "hard"] and ranked["before"].unique() == ["fused"]


def test_what_a_loss_believes_stands_beside_what_was_hidden(tmp_path):
    declared = tiny_ledger.DECLARED.replace("{negatives.name: topk}", "{negatives.name: topk, loss.name: rpo}")
    (tmp_path / "grid.yaml").write_text(declared)
    grid = Grid.read(tmp_path / "grid.yaml")
    folder = tiny_ledger.fill(grid, tmp_path / "ledger")
    for seed, right in ((1, 0.25), (2, 0.35), (3, 0.3)):
        path = folder / f"world-planted-align-topk{seed}.json"
        curve = [{"epoch": 1, "right_share": 0.9, "planted_rate": 0.001}]
        curve += [{"epoch": 2, "right_share": right, "planted_rate": 0.003}]
        write_json(path, json.loads(path.read_text()) | {"curve": curve})
    found = negatives.believed(grid, Ledger(folder), "world-planted")
    (row,) = found["rows"]
    assert row["row"] == "topk" and row["estimate"] == pytest.approx(70) and row["hidden"] == pytest.approx(0.2)
    assert row["low"] == pytest.approx(70 - 4.303 * 5 / 3**0.5, abs=0.01), "Student's, of two degrees of freedom"
    said = render("believes", **found).replace("\xa0", " ")
    assert "70 % of the pairs of `topk` to be the wrong way round (58 to 82 %)." in said and "0.20 % of what" in said
    assert not render("believes", **negatives.believed(Grid.read(GRID), Ledger(tmp_path), "toys-planted"))


def test_a_change_for_the_users_whose_next_item_is_popular_and_for_the_others(grid, folder, monkeypatch):
    """Of 400 users the last 40 have the most popular items; topk finds all of them, hard every other one."""
    pair = ("topk", "hard")
    monkeypatch.setattr(negatives, "PENALISED", dict.fromkeys(negatives.PENALISED, pair))
    for seed, name in product((1, 2, 3), pair):
        path = folder / "ranks" / f"world-planted-align-{name}{seed}.parquet"
        ranks, users = pd.read_parquet(path), np.arange(tiny_ledger.USERS)
        ranks["rank"] = np.where(users >= 360, 0 if name == "topk" else users % 2, ranks["rank"])
        ranks.to_parquet(path)
    found = negatives.for_whom_popular(grid, Ledger(folder), "world-planted")
    assert len(found) == 4 * 2 * 3
    table = found.set_index(["what", "users", "protocol"])["change %"]
    half = (1 + 1 / np.log2(3)) / 2  # NDCG of ranks 0 and 1
    assert table["topk over hard", "popular", "all items"] == pytest.approx(100 * (1 / half - 1))
    assert table["topk over hard", "others", "all items"] > 50
    popular, others, everybody = (table["topk over hard", users, "all items"] for users in ("popular", "others", "all"))
    assert popular < everybody < others
    said = render("for_whom_popular", changes=found).replace("\xa0", " ")
    assert f"by +{popular:.1f} % and +{popular:.1f} % (all items ranked and history dropped) for the tenth" in said
    assert f"by +{others:.1f} % and +{others:.1f} % for all others" in said and said.count(" and +") == 9
    (folder / "world-planted-align-topk1.json").unlink()
    assert negatives.for_whom_popular(grid, Ledger(folder), "world-planted").empty, "a seed is missing"
