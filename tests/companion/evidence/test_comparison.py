"""Rows side by side: means by hand, parts that add up, and a ledger that can be recomputed."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence import comparison, tuning
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.evidence.record import Record
from rodpo_lite.errors import InputError
from rodpo_lite.files import write_json

SEARCHED = """
datasets: [world]
seeds: [1]
tuning: {seeds: [100], trials: 2}
rows:
  base: {tier: A, search: {training.learning_rate: {low: 1e-3, high: 1e-2}}}
  topk: {tier: A, reference: base, search: {negatives.k: [5, 50]}}
"""


def test_quality_is_the_mean_over_seeds(grid, ledger):
    found = comparison.quality(grid, ledger).set_index(["dataset", "row"])
    values = [Record.read(ledger.folder / f"world-align-topk{seed}.json").test["ndcg@5"] for seed in (1, 2, 3)]
    assert found.loc[("world", "topk"), "test"] == pytest.approx(sum(values) / 3)
    assert found.loc[("world", "topk"), "seeds"] == 3 and len(found) == 6


def test_a_baseline_is_told_apart_from_a_row_of_its_name(grid, folder):
    table = Ledger(folder).records
    baseline = table[table["strategy"] == "topk"].assign(stage="baseline", file="baseline.json").head(1)
    found = comparison.quality(grid, with_records(folder, pd.concat([table, baseline])))
    assert found.loc[found["dataset"] == "world", "row"].tolist() == ["topk baseline", "base", "hard", "topk"]


def test_a_row_with_the_settings_of_another_is_shown_once(grid, folder, tmp_path):
    more = tiny_ledger.DECLARED + "  again: {tier: B, reference: base, set: {negatives.name: topk}}\n"
    (tmp_path / "more.yaml").write_text(more)
    twice = Grid.read(tmp_path / "more.yaml")
    assert Experiment(twice, "world", "again").recorded(Ledger(folder)), "it has runs: those of topk"
    for of in (comparison.quality, comparison.mechanism):
        pd.testing.assert_frame_equal(of(twice, Ledger(folder)), of(grid, Ledger(folder)))


def test_changes_of_pairs_that_both_have_runs(grid, folder):
    (folder / "world-align-hard2.json").unlink()
    pairs = [("topk", "hard"), ("hard", "base")]
    assert comparison.changes(grid, pairs, Ledger(folder), ["world"]).empty, "both lack a seed that they declare"
    found = comparison.changes(grid, pairs, Ledger(folder), ["world"], partial=True)
    assert found["protocol"].tolist() == ["all items", "history dropped"] * 2
    assert found["seeds"].tolist() == [2] * 4, "only seeds that both have"
    assert (found.loc[found["after"] == "topk", "low"] > 0).all()
    nothing = comparison.changes(grid, pairs, with_records(folder, Ledger(folder).records.iloc[:0]), ["world"])
    assert nothing.empty


def test_what_selection_did_is_a_row_for_each_run(grid, folder):
    found = comparison.mechanism(grid, Ledger(folder))
    rows = [(d, r) for d in ("world", "world-planted") for r in ("hard", "topk")]
    assert list(found.groupby(["dataset", "row"], sort=False).groups) == rows, "not the reference"
    run = Record.read(folder / "world-align-topk2.json")
    of_run = found.set_index(["dataset", "row", "seed"]).loc[("world", "topk", 2)]
    assert of_run["on_hidden"] == pytest.approx(1e4 * run.curve[0]["planted_share"])
    assert of_run.drift == pytest.approx(run.drift["planted"]["difference"])
    assert found["past"].isna().all() and found["validation_drift"].isna().all(), "what no run recorded is missing"


def test_continued_cross_entropy_rejects_nothing(grid, folder):
    table = Ledger(folder).records
    table.loc[table["strategy"] == "hard", "strategy"] = "none"
    assert set(comparison.mechanism(grid, with_records(folder, table))["row"]) == {"topk"}


def test_means_over_seeds_with_student_s_interval(grid, folder):
    counted = comparison.mechanism(grid, Ledger(folder))
    found = comparison.over_seeds(counted, "on_hidden").set_index(["dataset", "row"])
    runs = [Record.read(folder / f"world-align-topk{seed}.json") for seed in (1, 2, 3)]
    values = [1e4 * run.curve[0]["planted_share"] for run in runs]
    one, half = found.loc[("world", "topk")], 4.302653 * np.std(values, ddof=1) / 3**0.5
    assert one["seeds"] == 3 and one["mean"] == pytest.approx(np.mean(values))
    assert (one["low"], one["high"]) == pytest.approx((one["mean"] - half, one["mean"] + half))
    assert comparison.over_seeds(counted, "past").empty
    single = comparison.over_seeds(counted[counted["seed"] == 1], "on_hidden")
    assert single["low"].isna().all() and (single["seeds"] == 1).all()


def test_a_metric_that_does_not_follow_from_the_ranks_is_named(folder):
    assert Ledger(folder).differing() == []
    path = folder / "world-align-topk1.json"
    entry = json.loads(path.read_text())
    entry["test"]["ndcg@10"] += 1e-9
    path.write_text(json.dumps(entry))
    assert Ledger(folder).differing() == ["world-align-topk1.json: test ndcg@10"]


def test_trials_against_the_reference_that_they_started_from(tmp_path):
    (tmp_path / "grid.yaml").write_text(SEARCHED)
    grid = Grid.read(tmp_path / "grid.yaml")
    for name, chosen, values in (("base", 1, (0.1, 0.2)), ("topk", 0, (0.22, 0.18))):
        settings = grid.trials(name)
        tried = [{"settings": one, "valid": [value]} for one, value in zip(settings, values, strict=True)]
        write_json(tmp_path / "trials" / f"world.{name}.json", {"chosen": chosen, "trials": tried})
    found = tuning.trials(grid, Ledger(tmp_path))
    assert found["change %"].tolist() == pytest.approx([10, -10]) and found["chosen"].tolist() == [True, False]
    assert found["negatives.k"].tolist()[0] == 20, "what is not set is at its default"
    assert found["loss.beta"].isna().all(), "what is not searched is left out"
    assert tuning.trials(grid, Ledger(tmp_path / "empty")).empty
    kept = json.loads((path := tmp_path / "trials" / "world.topk.json").read_text())
    write_json(path, kept | {"reference_valid": [0.1]})
    again = tuning.trials(grid, Ledger(tmp_path))
    assert again["change %"].tolist() == pytest.approx([120, 80]), "against the very one, where that is known"
    assert found["start %"].tolist() == [0, 0] and again["start %"].tolist() == pytest.approx([-50, -50])

    (reference,) = tuning.references(grid, Ledger(tmp_path)).to_dict("records")
    assert (reference["row"], reference["trials"], reference["validation NDCG@5"]) == ("base", 2, 0.2)
    assert reference.keys() > set(grid.rows["base"].search)


def test_a_pair_began_at_the_same_weights_where_the_ledger_has_such_runs(grid, folder):
    """A reference that was trained again, elsewhere: rows that have runs from both are compared with either."""
    table = Ledger(folder).records
    table["weights"] = [file if stage == "reference" else None for file, stage in zip(table["file"], table["stage"])]
    table["reference_weights"] = [reference and f"{reference}.json" for reference in table["reference"]]
    topk, hard = (Experiment(grid, "world", name) for name in ("topk", "hard"))
    usual = [(f"world-align-topk{seed}.json", f"world-align-hard{seed}.json") for seed in (1, 2, 3)]
    assert comparison.paired_seeds(topk, hard, with_records(folder, table)) == usual
    of_first = table["file"] == "world-align-hard1.json"
    table.loc[of_first, "reference_weights"] = "again"
    assert comparison.paired_seeds(topk, hard, with_records(folder, table)) == usual, "no other run of topk began there"
    again = table[table["file"] == "world-align-topk1.json"].assign(file="a-topk1.json", reference_weights="again")
    for order in ([table, again], [again, table]):
        both = pd.concat(order, ignore_index=True)
        assert topk.recorded(with_records(folder, both))[1] == "world-align-topk1.json"
        found = comparison.paired_seeds(topk, hard, with_records(folder, both))
        assert found == [("a-topk1.json", "world-align-hard1.json"), *usual[1:]]
        both.loc[both["file"] == "world-align-hard1.json", "reference_weights"] = "a third one"
        both["device"] = both["file"].map(lambda file: "gpu" if file in ("a-topk1.json", usual[0][1]) else "cpu")
        found = comparison.paired_seeds(topk, hard, with_records(folder, both))
        assert found[0] == ("a-topk1.json", "world-align-hard1.json"), "else of one device"
    base = Experiment(grid, "world", "base")
    found = comparison.paired_seeds(topk, base, with_records(folder, both))
    assert found[0] == ("world-align-topk1.json", "world-reference-base1.json")
    worse = both.assign(**{"valid.ndcg@5": both["valid.ndcg@5"].where(both["strategy"] != "hard", 0.0)})
    assert comparison.given_up(hard, with_records(folder, worse)) == 2, "what the first one began at is not on record"


def test_more_than_two_rows_began_at_the_same_weights_where_they_can(folder):
    """Two of three rows were repeated from a reference that was trained again, where the third one has its only run."""
    first = Ledger(folder).records.query("stage == 'align' and dataset == 'world'").assign(reference_weights="first")
    again = first.assign(file="again-" + first["file"], reference_weights="again")
    others = Ledger(folder).records.query("stage == 'reference'").assign(weights="of no alignment")
    ledger = with_records(folder, pd.concat([first, again, others], ignore_index=True))
    files = ["world-align-topk1.json", "world-align-hard1.json"]
    repeated = [SimpleNamespace(candidates=lambda _, file=file: {1: [file, f"again-{file}"]}) for file in files]
    once = SimpleNamespace(candidates=lambda _: {1: ["again-world-align-topk2.json"], 2: ["world-align-topk2.json"]})
    assert comparison.alike_seeds(repeated, ledger) == [tuple(files)]
    found = comparison.alike_seeds([*repeated, once], ledger)
    assert found == [("again-" + files[0], "again-" + files[1], "again-world-align-topk2.json")]
    elsewhere = SimpleNamespace(candidates=lambda _: {1: ["world-reference-base1.json"]})
    repeated[1].candidates = lambda _: {1: ["again-" + files[1]]}
    found = comparison.alike_seeds([*repeated, elsewhere], ledger)
    assert found[0][:2] == ("again-" + files[0], "again-" + files[1]), "these two, though the third is apart"


def test_an_alignment_that_validates_no_better_gives_way_to_its_reference(grid, folder):
    for path in folder.glob("world-align-hard*.json"):  # as recorded it validates as its reference does, give or take
        entry = json.loads(path.read_text())
        entry["valid"]["ndcg@5"] = 0.0
        write_json(path, entry)
    ledger = Ledger(folder)
    experiments = {name: Experiment(grid, "world", name) for name in ("base", "hard", "topk")}
    assert [comparison.given_up(experiment, ledger) for experiment in experiments.values()] == [0, 3, 0]
    files = comparison.paired_seeds(experiments["topk"], experiments["hard"], ledger, or_reference=True)
    assert files == comparison.paired_seeds(experiments["topk"], experiments["base"], ledger)
    pairs = [("topk", "hard"), ("hard", "base")]
    kept, given = (
        comparison.changes(grid, pairs, ledger, ["world"], or_reference=allowed).set_index(["after", "protocol"])[
            "change %"
        ]
        for allowed in (False, True)
    )
    assert given["hard", "all items"] == 0 != kept["hard", "all items"]
    assert given["topk", "all items"] != kept["topk", "all items"]
    equal = ledger.records.set_index("file")
    for seed in (1, 2, 3):
        valid = equal.loc[f"world-reference-base{seed}.json", "valid.ndcg@5"]
        equal.loc[f"world-align-hard{seed}.json", "valid.ndcg@5"] = valid
    assert comparison.given_up(experiments["hard"], with_records(folder, equal.reset_index())) == 3, (
        "as well, no better"
    )


def test_later_purchases_are_counted_as_the_validation_item_only_where_they_are_nothing_else(grid, folder):
    table = Ledger(folder).records.assign(future_rate=0.01)
    table.loc[table["strategy"] == "hard", "exclude"] = "past"
    counted = comparison.mechanism(grid, with_records(folder, table)).groupby("row")["validation"].mean()
    assert counted["topk"] == pytest.approx(100) and np.isnan(counted["hard"])


def test_a_page_names_the_run_that_it_lacks(grid, folder):
    counted = comparison.mechanism(grid, Ledger(folder))
    assert set(comparison.require_rows(counted, "world-planted", ("hard", "topk"))["row"]) == {"hard", "topk"}
    with pytest.raises(InputError, match=r"no run of uniform on world-planted, .* --rows uniform` first"):
        comparison.require_rows(counted, "world-planted", ("hard", "uniform"))
