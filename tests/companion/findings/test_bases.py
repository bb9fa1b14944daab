"""The bases: curves over seeds, where they begin to memorise, and what their parts are worth."""

import json

import pandas as pd
import pytest

from companion.evidence.grid import Grid
from companion.evidence.interventions import Intervention
from companion.evidence.ledger import PROTOCOLS, Ledger
from companion.evidence.plan import GRID
from companion.findings import bases
from companion.findings.answer import answer
from companion.findings.sentences import render
from rodpo_lite.files import write_json


def _curve(base, ranked, dropped, seeds=2):
    rows = zip(range(1, 1 + len(ranked)), ranked, dropped, strict=True)
    return [(base, epoch, one, other, seeds) for epoch, one, other in rows]


def test_memorising_by_hand():
    """The second base peaks with the history dropped after epoch 2 and goes on with all items ranked."""
    lines = _curve("fused", (0.1, 0.2, 0.3), (0.2, 0.3, 0.4)) + _curve("towers", (0.1, 0.2, 0.3), (0.4, 0.5, 0.45))
    lines += [("towers", 4, 0.9, 0.9, 1)]  # one seed alone trained that long
    table = pd.DataFrame(lines, columns=["base", "epoch", "all items", "history dropped", "seeds"])
    found = bases.memorising(table).set_index("base")
    assert found.loc["fused"].tolist() == [3, 3, 3] and found.loc["towers"].tolist() == [2, 3, 3]


def test_bases_stand_in_the_order_of_either_protocol():
    numbers = {"dataset": ["Toys"] * 2, "test": [0.04, 0.05], "test_masked": [0.06, 0.05]}
    table = pd.DataFrame({"row": ["one", "two"]} | numbers)
    curves = [("one", 14, 20, 20), ("two", 3, 7, 20)]
    found = pd.DataFrame(curves, columns=["base", "dropped", "ranked", "epochs"])
    said = render("base", bases=found, best=table)
    assert "With all items ranked the best is `two` on Toys, with the history dropped `one` on Toys." in said
    assert "ranked `two` 0.0500 and `one` 0.0400, with the history dropped `one` 0.0600 and `two` 0.0500." in said
    assert "epoch 14 of 20, and with all items ranked at the end; `two` is" in said and "after epoch 7." in said
    assert "not on record yet" in render("base", bases=found[:0], best=table[:0])


def test_toys_with_times_is_toys_and_stands_once():
    found = bases.side_by_side(Grid.read(GRID), Ledger.open())
    assert not found.duplicated(["dataset", "row"]).any() and found["dataset"].str.contains(",").sum() == 0
    assert found[found["dataset"] == "Toys"]["row"].tolist() == list(bases.BASES)
    settings = bases.settings(Grid.read(GRID), Ledger.open()).set_index("key")
    assert settings.loc["training.schedule", ["the preset", "on record, Toys"]].tolist() == ["constant", "cosine"]


def test_where_nothing_is_on_record_there_is_nothing_to_show(tmp_path):
    grid = Grid.read(GRID)
    (tmp_path / "trials").mkdir()
    assert bases.along_training(grid, Ledger(tmp_path)).empty
    assert bases.memorising(bases.along_training(grid, Ledger(tmp_path))).empty
    assert bases.parts(grid, Ledger(tmp_path), "hm4sr").empty


def test_what_a_reference_memorised_is_what_it_lost_by_the_epoch_that_was_kept(folder, grid, monkeypatch):
    monkeypatch.setattr(bases, "ALIGNED", {"base": "topk", "other": "nothing"})
    for seed, (kept, dropped) in {1: (3, (0.1, 0.2, 0.15)), 2: (2, (0.1, 0.2, 0.1)), 3: (1, (0.1, 0.1, 0.2))}.items():
        path = folder / f"world-reference-base{seed}.json"
        curve = [{"epoch": n, "loss": 1.0, "valid_masked.ndcg@5": one} for n, one in enumerate(dropped, 1)]
        write_json(path, json.loads(path.read_text()) | {"best_epoch": kept, "curve": curve})
    points = bases.cures(grid, Ledger(folder))
    assert points["dataset"].unique().tolist() == ["world"], "where something is hidden other things matter, too"
    assert points["memorised, %"].tolist() == pytest.approx([(25 + 0 + 50) / 3] * 2)
    assert (points["change %"] > 50).all() and points["before"].tolist() == ["base"] * 2


def test_what_the_pool_gains_stands_beside_how_long_its_reference_was_trained(folder, grid, monkeypatch):
    monkeypatch.setattr(bases, "LONGER", {"base": ("topk", "hard"), "other": ("topk", "nothing")})
    for seed, kept in {1: 2, 2: 2, 3: 1}.items():
        path = folder / f"world-reference-base{seed}.json"
        curve = [{"epoch": n, "loss": 3.0 - n, "valid_loss": 3.0} for n in (1, 2)]
        write_json(path, json.loads(path.read_text()) | {"best_epoch": kept, "curve": curve})
    found = bases.trained_longer(grid, Ledger(folder))
    found = found[found["dataset"] == "world"].set_index(["what", "protocol"])
    against = ("over its reference", "over more training")
    assert found.index.tolist() == [(what, protocol) for what in against for protocol in PROTOCOLS]
    assert found["epochs"].tolist() == found["excess"].tolist() == pytest.approx([5 / 3] * 4)
    changes = bases.changes(grid, [("topk", "base")], Ledger(folder)).set_index("dataset").loc["world", "change %"]
    assert found.loc["over its reference", "change"].tolist() == changes.tolist()


def test_a_plainer_way_is_as_good_where_it_gains_and_the_pool_is_not_ahead(ledger, grid, monkeypatch):
    """In the made-up runs `topk` finds twice as much as the other two."""
    facts = answer(Grid.read(GRID), Ledger.open())

    def found(pool, way):
        asked = Intervention(asks="How much?", gap=(pool, "base"), instead={"smoothing": (pool, way)})
        monkeypatch.setattr(bases.interventions, "read", lambda grid: {"rivals": asked})
        over, ahead = bases.plainer(grid, ledger)
        assert set(zip(over["what"], over["after"], over["before"])) == {
            ("the pool", pool, "base"),
            ("smoothing", way, "base"),
        }
        assert set(zip(ahead["after"], ahead["before"])) == {(pool, way)}
        return bases.as_good(grid, ledger)

    assert found(pool="topk", way="hard") == []
    better = found(pool="hard", way="topk")
    assert [one["dataset"] for one in better] == ["World"], "where something is hidden other things matter, too"
    better[0]["settings"] = {"label_smoothing": 0.1}
    said = render("plainer", plainer=better)
    assert said.startswith("On World, smoothing (`label_smoothing=0.1`), for as many") and "ahead of it: −" in said
    advice = [render("use", **facts | {"plainer": one}) for one in (better, [])]
    assert f"- **Try the plain way first.** {said}" in advice[0] and "plain way" not in advice[1]


def _points(memorised, gains):
    """Two datasets of four references each; the second one memorises ten times as much and gains ten times less."""
    rows = [("a", m, g, "all items") for m, g in zip(memorised, gains, strict=True)]
    rows += [("b", 10 * m, g / 10, "all items") for m, g in zip(memorised, gains, strict=True)]
    rows.append(("c", 99, -99, "all items"))  # held against none, it does not count
    return pd.DataFrame(rows, columns=["dataset", "memorised, %", "change %", "protocol"]).assign(before="one")


@pytest.mark.parametrize(
    ("gains", "correlation", "sure", "said"),
    [
        ((1, 2, 3, 4), 1, True, "It gains more where more was memorised."),
        ((4, 3, 2, 1), -1, True, "It gains less where more"),
        ((2, 4, 1, 3), 0, False, "cannot"),
    ],
)
def test_gains_go_with_memory_within_datasets(gains, correlation, sure, said):
    found = bases.goes_with(_points((1, 2, 3, 4), gains))
    one = found["all items"]
    assert one["correlation"] == pytest.approx(correlation) and one["references"] == 8
    assert (one["p"] < 0.05) == sure and 0 < one["p"] <= 1
    if sure:  # of 4!² orders, the one seen and its reverse are as far from 0
        assert one["p"] == pytest.approx(2 / 576, abs=0.002)
    assert said in render("cures", goes=found)


def test_nothing_goes_with_memory_where_there_is_no_spread():
    assert bases.goes_with(_points((1, 1, 1, 1), (1, 2, 3, 4))) == {}
    assert render("cures", goes={}) == "*Not on record yet.*"
