"""Rows side by side: means by hand, parts that add up, and a ledger that can be recomputed."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence import comparison, tuning
from companion.evidence.claims import Claim
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.findings import story
from companion.findings.groups import contributions
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
    values = [ledger.record(f"world-align-topk{seed}.json").test["ndcg@5"] for seed in (1, 2, 3)]
    assert found.loc[("world", "topk"), "test"] == pytest.approx(sum(values) / 3)
    assert found.loc[("world", "topk"), "seeds"] == 3 and len(found) == 6


def test_a_baseline_is_told_apart_from_a_row_of_its_name(grid, folder):
    table = Ledger(folder).records
    baseline = table[table["strategy"] == "topk"].assign(stage="baseline").head(1)
    found = comparison.quality(grid, with_records(folder, pd.concat([table, baseline])))
    assert found.loc[found["dataset"] == "world", "row"].tolist() == ["topk baseline", "base", "hard", "topk"]


def test_a_row_with_the_settings_of_another_is_shown_once(grid, folder, tmp_path):
    more = tiny_ledger.DECLARED + "  again: {tier: B, reference: base, set: {negatives.name: topk}}\n"
    (tmp_path / "more.yaml").write_text(more)
    twice = Grid.read(tmp_path / "more.yaml")
    assert Experiment(twice, "world", "again").recorded(Ledger(folder)), "it has runs: those of topk"
    for of in (comparison.quality, comparison.mechanism):
        pd.testing.assert_frame_equal(of(twice, Ledger(folder)), of(grid, Ledger(folder)))


def test_what_rejected_items_do_to_the_reference(grid, folder):
    found = story.against_the_reference(grid, Ledger(folder))
    assert list(found) == ["World"]
    assert found.index.tolist() == ["a random one of the best K (`topk`)", "the hardest item (`hard`)"]
    assert found["World"].iloc[0].startswith("+")
    assert story.against_the_reference(grid, with_records(folder, Ledger(folder).records.iloc[:0])).empty
    assert story.against_the_reference(grid, Ledger(folder), story.TOWERS).empty, "no such rows are declared"


def test_what_items_come_with(grid, folder):
    assert story.inputs(grid, Ledger(folder)) == (
        "Beside its ID, an item comes on World with nothing. "
        "So on World no mixture can show that it helps to fuse texts with images."
    )
    for path in folder.glob("world-*.json"):
        entry = json.loads(path.read_text())
        entry["dataset"]["checksums"] = dict.fromkeys(("features/image.npy", "features/text.npy", "items.parquet"), "0")
        write_json(path, entry)
    assert story.inputs(grid, Ledger(folder)) == "Beside its ID, an item comes on World with texts and images."
    assert story.inputs(grid, with_records(folder, Ledger(folder).records.iloc[:0])) == ""


def test_where_the_precision_was_another(grid, folder):
    table, claim = Ledger(folder).records, Claim(says="", source="paper", pairs=[("topk", "hard"), ("hard", "base")])
    assert story.precisions(grid, [claim], with_records(folder, table.assign(precision=None))) == ""
    assert (
        story.precisions(grid, [claim], with_records(folder, table))
        == "Matrix products of training were computed in 32 bits."
    )
    table.loc[table["strategy"].isin(["topk", "hard"]) & (table["dataset"] == "world"), "precision"] = "bf16"
    said = story.precisions(grid, [claim], with_records(folder, table))
    assert "; in bfloat16 for `hard` and `topk` on World; it differs within `hard` over `base` on World." in said
    table.loc[table["dataset"] == "world", "precision"] = "bf16"
    table = pd.concat([table, table.tail(1).assign(file="one more", dataset="elsewhere", precision="fp32")])
    said = story.precisions(grid, [claim], with_records(folder, table))
    assert "both sides of every pair that a claim rests on had the same" in said


def test_what_the_pool_does_when_the_history_is_dropped(grid, folder):
    said = story.with_history_dropped(grid, Ledger(folder))
    assert said.startswith("With the history dropped") and "\n- against the hardest item +" in said
    assert said.count(" on World") == 2 and "against the reference" in said and "continued" not in said
    assert story.with_history_dropped(grid, with_records(folder, Ledger(folder).records.iloc[:0])) == ""
    assert story.with_history_dropped(grid, Ledger(folder), story.TOWERS) == "", "no such rows are declared"


def test_what_becomes_of_the_gap_as_more_is_hidden():
    counted = pd.DataFrame({"dataset": ["few", "few", "many"], "row": "hard", "hidden": [10.0, 20.0, 60.0]})
    gaps = pd.DataFrame({"dataset": ["none", "few", "many"], "seeds": [5, 3, 3], "hidden, %": [0, 20, 40]})
    for changes, width, seen in (
        ([1, 3, 5], 0.5, "widens"),
        ([5, 3, 1], 0.5, "narrows"),
        ([1, 3, 5], 9, "is not seen"),
    ):
        around = {"change %": changes, "low": np.array(changes) - width, "high": np.array(changes) + width}
        said = story.as_more_is_hidden(gaps.assign(**around), counted)
        assert f"percentage points: it **{seen}" in said and "Seeds are 5 at 0 %, 3 at 20 % and 3 at 40 %." in said
        assert "hidden purchase in 15 with 20 % hidden and 60 with 40 % hidden." in said
    # the line through three points of error e, two tenths apart, has a slope with the error e / sqrt(8)
    assert "changes by +1.0 [−2.2, +4.2] percentage points" in said


def test_what_would_flatten_the_others():
    found = story.out_of_scale(pd.Series({"a": 0.01, "b": -0.5, "c": -0.02, "d": 0.03, "e": 0.01}))
    assert found == ["b"], "five times the median of the distances is 0.08"


def test_which_rows_are_ahead_and_behind(grid):
    rows = [
        ("all items", "up", 2.0, 1.0, 3.0),
        ("all items", "down", -2.0, -3.0, -1.0),
        ("all items", "open", 0, -1, 1),
    ]
    rows.append(("history dropped", "other", 2.0, 1.0, 3.0))
    found = pd.DataFrame(rows, columns=["protocol", "after", "change %", "low", "high"])
    found = pd.concat([found.assign(dataset="world"), found[2:3].assign(dataset="world-planted")])
    said = story.ahead_and_behind(grid, found).replace("\u00a0", " ").splitlines()
    assert said[0] == "- **World**: ahead `up` +2.0 % [+1.0 %, +3.0 %]; behind `down` −2.0 % [−3.0 %, −1.0 %]"
    assert said[1:] == ["- **World, 10 % hidden**: none"]


def test_words_in_a_list():
    assert [story.listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_how_pairs_stand(grid, folder):
    found = story.standing(grid, [("topk", "hard"), ("hard", "topk"), ("hard", "base")], Ledger(folder))
    assert list(found) == ["World", "World, dropped"]
    assert found["World"].str[0].tolist() == ["▲", "▼", "○"] and found.loc["`topk` over `hard`", "World"][2] == "+"
    part = Ledger(folder).records.query("file != 'world-align-topk2.json'")
    assert story.standing(grid, [("topk", "hard")], with_records(folder, part)).empty, "a seed is missing"


def test_how_many_items_the_pool_holds(folder, tmp_path):
    searched = tiny_ledger.DECLARED.replace("name: topk}", "name: topk}, search: {negatives.k: [5, 20]}")
    searched = searched.replace("trials: 1", "trials: 2")
    (tmp_path / "searched.yaml").write_text(searched)
    searched = Grid.read(tmp_path / "searched.yaml")
    assert story.pool_sizes(searched, Ledger(folder)) == "", "not chosen yet"
    first, second = searched.trials("topk")
    kept = {"seeds": [100], "chosen": 1, "trials": [{"settings": first}, {"settings": second}]}
    write_json(Experiment(searched, "world", "topk").trials_file(Ledger(folder)), kept)
    said, size = story.pool_sizes(searched, Ledger(folder)), second["negatives.k"]
    assert said == f"The pool holds K = {size} of 201 items on World: chosen on validation out of 5 and 20."


def test_the_ranks_that_are_drawn_from(folder, tmp_path):
    more = (
        "  window: {tier: A, reference: base, set: {negatives.name: rank_window, negatives.skip: 3, negatives.k: 7}}\n"
    )
    (tmp_path / "more.yaml").write_text(tiny_ledger.DECLARED + more)
    said = story.ranks_drawn(Grid.read(tmp_path / "more.yaml"), Ledger(folder), ("topk", "window"))
    assert said == "On World, what is rejected is drawn in `topk` from ranks 1 to 20 and `window` from ranks 4 to 10"


def test_where_pushes_went(grid, folder):
    table = Ledger(folder).records.assign(suppression=1.0, future_rate=0.001, planted_rate=0.001)
    table.loc[table["strategy"] == "topk", "suppression"] = 4.0
    said = story.pushed(grid, with_records(folder, table)).replace("\xa0", " ")
    share, amount = (float(part.replace("−", "-")) for part in re.findall(r"by ([+−]\d+) %", said))
    assert share == pytest.approx(-50, abs=3) and amount == pytest.approx(100, abs=12), "it pushes four times as hard"
    assert said.endswith("these reject the user's validation item: 10 and 10 on World.")


def test_who_sinks_further_though_it_hits_less_often():
    rows = [
        ("hard", 60.0, -0.01),
        ("topk", 10.0, 0.02),
        ("static", 12.0, -0.07),
        ("window", 6.0, -0.03),
        ("soft", 80.0, -0.5),
    ]
    counted = pd.DataFrame(rows, columns=["row", "hidden", "drift"])
    said = story.against_the_trend(counted)
    assert "under `window` and `static` than under `hard`, though these hit them 10 and 5 times" in said
    assert "`static` than under `hard`, though this hits them 5 times" in story.against_the_trend(counted.drop(3))
    assert story.against_the_trend(counted.head(2)) == "" == story.against_the_trend(counted.tail(2)), "none, no `hard`"


def test_changes_of_pairs_that_both_have_runs(grid, folder):
    (folder / "world-align-hard2.json").unlink()
    pairs = [("topk", "hard"), ("hard", "base")]
    found = comparison.changes(grid, pairs, Ledger(folder), ["world"])
    assert found["protocol"].tolist() == ["all items", "history dropped"] * 2
    assert found["seeds"].tolist() == [2] * 4, "only seeds that both have"
    assert (found.loc[found["after"] == "topk", "low"] > 0).all()
    nothing = comparison.changes(grid, pairs, with_records(folder, Ledger(folder).records.iloc[:0]), ["world"])
    assert nothing.empty


def test_what_selection_did_is_a_row_for_each_run(grid, folder):
    found = comparison.mechanism(grid, Ledger(folder))
    rows = [(d, r) for d in ("world", "world-planted") for r in ("hard", "topk")]
    assert list(found.groupby(["dataset", "row"], sort=False).groups) == rows, "not the reference"
    run = Ledger(folder).record("world-align-topk2.json")
    of_run = found.set_index(["dataset", "row", "seed"]).loc[("world", "topk", 2)]
    assert of_run["on_hidden"] == pytest.approx(1e4 * run.curve[0]["planted_share"])
    assert of_run.drift == pytest.approx(run.drift["planted"]["difference"])
    assert found["past"].isna().all() and found["validation_drift"].isna().all(), "what no run recorded is missing"


def test_means_over_seeds_with_student_s_interval(grid, folder):
    counted = comparison.mechanism(grid, Ledger(folder))
    found = comparison.over_seeds(counted, "on_hidden").set_index(["dataset", "row"])
    runs = [Ledger(folder).record(f"world-align-topk{seed}.json") for seed in (1, 2, 3)]
    values = [1e4 * run.curve[0]["planted_share"] for run in runs]
    one, half = found.loc[("world", "topk")], 4.302653 * np.std(values, ddof=1) / 3**0.5
    assert one["seeds"] == 3 and one["mean"] == pytest.approx(np.mean(values))
    assert (one["low"], one["high"]) == pytest.approx((one["mean"] - half, one["mean"] + half))
    assert comparison.over_seeds(counted, "past").empty
    single = comparison.over_seeds(counted[counted["seed"] == 1], "on_hidden")
    assert single["low"].isna().all() and (single["seeds"] == 1).all()


@pytest.mark.parametrize(("by", "groups"), [("popularity", 10), ("history", 4)])
def test_contributions_add_up_to_the_whole_change(grid, ledger, by, groups):
    experiments = Experiment(grid, "world", "topk"), Experiment(grid, "world", "hard")
    found = contributions(*experiments, ledger, by, groups)
    assert len(found) == groups and found["users"].sum() == tiny_ledger.USERS
    assert found["change %"].sum() == pytest.approx(comparison.change(*experiments, ledger).estimate)
    assert (found["low"] < found["change %"]).all() and (found["to"].shift() < found["from"])[1:].all()


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
        comparison.changes(grid, pairs, ledger, ["world"], allowed).set_index(["after", "protocol"])["change %"]
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
    found = story.where_the_reference_may_stay(grid, ledger)["World"]
    assert found["`hard` validates no better in"] == "3 of 3 seeds"
    assert found["`topk` validates no better in"] == "0 of 3 seeds"
    assert found["what is left of `topk` over `hard`, %"].startswith("+")
    table = ledger.records
    never = table.assign(**{"valid.ndcg@5": table["valid.ndcg@5"].where(table["strategy"] != "topk", 0.0)})
    found = story.where_the_reference_may_stay(grid, with_records(folder, never))["World"]
    assert found["what is left of `topk` over `hard`, %"] == "the reference on both sides"


def test_no_words_before_every_seed_is_there(grid, folder):
    table = Ledger(folder).records
    part = with_records(folder, table[~table["file"].eq("world-align-topk2.json")])
    assert story.with_history_dropped(grid, part) == ""
    assert story.where_the_reference_may_stay(grid, part).empty
    found = story.against_the_reference(grid, part)
    assert found.index.tolist() == ["the hardest item (`hard`)"]


def test_later_purchases_are_counted_as_the_validation_item_only_where_they_are_nothing_else(grid, folder):
    table = Ledger(folder).records.assign(future_rate=0.01)
    table.loc[table["strategy"] == "hard", "exclude"] = "past"
    counted = comparison.mechanism(grid, with_records(folder, table)).groupby("row")["validation"].mean()
    assert counted["topk"] == pytest.approx(100) and np.isnan(counted["hard"])


def test_a_page_names_the_run_that_it_lacks(grid, folder):
    counted = comparison.mechanism(grid, Ledger(folder))
    assert set(comparison.of_rows(counted, "world-planted", ("hard", "topk"))["row"]) == {"hard", "topk"}
    with pytest.raises(InputError, match=r"no run of uniform on world-planted, .* --rows uniform` first"):
        comparison.of_rows(counted, "world-planted", ("hard", "uniform"))
