"""The claims: declared, decided by their rule, and undecided while runs are missing."""

import pandas as pd
import pytest
import tiny_ledger
from tiny_ledger import with_records

from companion.evidence import claims
from companion.evidence.claims import NOT_RUN, assess, conclusion
from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import PROTOCOLS
from companion.evidence.plan import GRID
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import Comparison

CLAIMS = """
better: {says: more, source: paper, pairs: [[topk, hard], [topk, base]]}
fewer: {says: less, source: paper, measure: planted_share, better: lower, pairs: [[topk, hard]]}
drift: {says: less far, source: paper, measure: planted_drift, pairs: [[topk, hard]]}
"""


@pytest.fixture
def declared(grid, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS)
    return claims.read(grid, path)


def test_the_committed_claims_can_be_read():
    found = claims.read(Grid.read(GRID))
    assert {"stochastic_over_hard", "fewer_wrong_pushes", "gain", "mixture"} <= found.keys()
    ((after, before),) = found["fewer_wrong_pushes"].members(Grid.read(GRID))
    assert (after.dataset, after.name, before.dataset, before.name) == ("toys-planted", "topk", "toys-planted", "hard")


def test_the_second_edition_asks_both_protocols_on_the_likely_base():
    grid = Grid.read(GRID)
    found = claims.read(grid, claims.SECOND)
    assert all(claim.protocols == tuple(PROTOCOLS) for claim in found.values())
    assert [name for name, claim in found.items() if not claim.reference_may_stay] == ["hardest_hurts"]
    on = {(after.dataset, after.base) for after, _ in found["pool_over_hardest"].members(grid)}
    assert on == {(name, "hm4sr") for name in ("toys-timed", "sports", "beauty")} | {
        (name, "fused") for name in ("toys", "sports", "beauty", "games")
    }
    as_recorded = found["pool_over_hardest"].otherwise
    assert as_recorded.protocols == tuple(PROTOCOLS) and not as_recorded.reference_may_stay


def test_a_gain_that_is_there_is_found(grid, declared, ledger):
    found = assess(declared["better"], grid, ledger)
    assert found[["dataset", "after", "before"]].values.tolist() == [
        ["world", "topk", "hard"],
        ["world", "topk", "base"],
    ]
    assert (found["low"] > 0).all() and (found["Holm's p"] < 0.05).all() and (found["estimate"] > 50).all()
    assert found["verdict"].tolist() == ["reproduced", "reproduced"]


def test_what_is_better_when_lower_counts_by_its_sign(grid, declared, ledger):
    (row,) = assess(declared["fewer"], grid, ledger).itertuples()
    assert (row.dataset, row.verdict) == ("world-planted", "reproduced")
    assert row.estimate == pytest.approx(-50, abs=3) and row.high < 0
    (row,) = assess(declared["drift"], grid, ledger).itertuples()
    assert row.verdict == "reproduced" and row.estimate == pytest.approx(0.4, abs=0.1)


def test_members_are_judged_by_the_corrected_p(grid, declared, ledger, monkeypatch):
    """One p below .05 of a family of two: Holm doubles it."""
    found = {("topk", "hard"): Comparison(1.2, 0.1, 2.3, 0.5, 20.0, 0.03), ("topk", "base"): None}
    monkeypatch.setattr(claims, "change", lambda after, before, *_: found[after.name, before.name])
    found["topk", "base"] = Comparison(0.1, -1.5, 1.7, 0.8, 20.0, 0.9)
    both = assess(declared["better"], grid, ledger)
    assert both["Holm's p"].tolist() == pytest.approx([0.06, 0.9])
    assert both["verdict"].tolist() == ["inconclusive", "inconclusive"]


def test_each_protocol_is_a_member(grid, declared, ledger, monkeypatch):
    """A family of four: two pairs under two protocols, of which one shows nothing."""
    found = {"all items": Comparison(1.2, 0.1, 2.3, 0.5, 20.0, 0.004)}
    found["history dropped"] = Comparison(0.1, -1.5, 1.7, 0.8, 20.0, 0.9)
    monkeypatch.setattr(claims, "change", lambda after, before, ledger, measure, protocol, stays: found[protocol])
    claim = declared["better"].model_copy(update={"protocols": tuple(PROTOCOLS)})
    table = assess(claim, grid, ledger)
    assert table["protocol"].tolist() == ["all items"] * 2 + ["history dropped"] * 2
    assert table["verdict"].tolist() == ["reproduced"] * 2 + ["inconclusive"] * 2
    assert table["Holm's p"].tolist()[:2] == pytest.approx([0.016, 0.016]) and table["base"].unique() == ["base"]


def test_where_the_reference_may_stay_a_harmful_alignment_gives_way_to_it(grid, declared, ledger):
    records = ledger.records
    records.loc[records["strategy"] == "hard", "valid.ndcg@5"] = 0.0
    refused = with_records(ledger.folder, records)
    claim = declared["better"].model_copy(update={"reference_may_stay": True})
    over_hard, over_base = assess(claim, grid, refused)["estimate"]
    assert over_hard == pytest.approx(over_base)
    assert assess(declared["better"], grid, refused)["estimate"][0] != pytest.approx(over_base)
    (summary,) = claims.summaries({"better": declared["better"]}, grid, ledger)
    assert {row["protocol"] for row in summary["members"]} == {"all items"}
    assert [row["protocol"] for row in summary["others"]] == ["history dropped"] * 2


def test_a_missing_member_counts_as_a_test(grid, declared, ledger, monkeypatch):
    kept = Experiment.recorded
    monkeypatch.setattr(
        Experiment, "recorded", lambda experiment, *rest: {} if experiment.name == "hard" else kept(experiment, *rest)
    )
    monkeypatch.setattr(claims, "change", lambda *_: Comparison(1.2, 0.1, 2.3, 0.5, 20.0, 0.03))
    missing, found = assess(declared["better"], grid, ledger).to_dict("records")
    assert found["Holm's p"] == pytest.approx(0.06) and found["verdict"] == "inconclusive"
    assert missing["verdict"] == NOT_RUN


def test_a_drift_within_one_logit_is_not_no_effect(grid, declared, ledger, monkeypatch):
    monkeypatch.setattr(claims, "change", lambda *_: Comparison(0.01, -0.01, 0.03, 0.01, 4.0, 0.4))
    assert assess(declared["drift"], grid, ledger)["verdict"].tolist() == ["inconclusive"]
    assert assess(declared["fewer"], grid, ledger)["verdict"].tolist() == ["no effect"]


def test_pairs_that_differ_are_counted(grid, declared, ledger, monkeypatch):
    found = {"hard": Comparison(2.0, 1.0, 3.0, 0.5, 20.0, 0.001), "base": Comparison(0.1, -0.5, 0.7, 0.3, 20.0, 0.9)}
    monkeypatch.setattr(claims, "change", lambda after, before, *_: found[before.name])
    (row,) = claims.summaries({"better": declared["better"]}, grid, ledger)
    assert (row["verdict"], row["tally"]) == ("reproduced in part", {"reproduced": 1, "no effect": 1})


def test_pairs_beside_a_claim_have_no_verdict(grid, declared, ledger):
    claim = declared["better"].model_copy(update={"beside": (("hard", "base"),)})
    (row,) = claims.assess_beside(claim, grid, ledger).to_dict("records")
    assert (row["after"], row["before"], row["seeds"]) == ("hard", "base", 3) and "verdict" not in row
    assert claims.assess_beside(declared["better"], grid, ledger).empty
    twice = declared["better"].model_copy(update={"beside": (("topk", "hard"),)})
    assert claims.assess_beside(twice, grid, ledger).empty, "it is a member"


def test_a_measure_that_was_not_taken_is_named(grid, declared, folder, ledger):
    table = ledger.records
    file = "world-planted-align-topk2.json"
    table.loc[table["file"] == file, "planted_share"] = None
    with pytest.raises(InputError, match=f"{file} lacks planted_share"):
        assess(declared["fewer"], grid, with_records(folder, table))
    with pytest.raises(InputError, match="lacks planted_share"):
        assess(declared["fewer"], grid, with_records(folder, table.drop(columns="planted_share")))
    table.loc[table["file"] == file, "planted_drift"] = None
    with pytest.raises(InputError, match=f"{file} lacks planted_drift"):
        assess(declared["drift"], grid, with_records(folder, table))


def test_other_data_cannot_be_compared(grid, declared, folder, ledger):
    table = ledger.records
    table.loc[table["file"] == "world-align-topk2.json", "checksums"] = "other"
    with pytest.raises(InputError, match="different editions of one dataset"):
        assess(declared["better"], grid, with_records(folder, table))
    again = table[table["file"] == "world-reference-base1.json"].assign(file="world-reference-more.json", id="more")
    with pytest.raises(InputError, match="different editions of one dataset"):
        both = pd.concat([table, again.assign(checksums="other")])
        Experiment(grid, "world", "base").recorded(with_records(folder, both))


def test_of_two_references_the_one_with_the_very_configuration_counts(grid, folder, ledger):
    table = ledger.records
    other = table[table["file"] == "world-reference-base1.json"].assign(file="world-reference-more.json", id="more")
    (config,) = other["config"]
    other["config"] = [config | {"training": config["training"] | {"precision": "fp32"}}]
    for order in ([table, other], [other, table]):
        recorded = Experiment(grid, "world", "base").recorded(with_records(folder, pd.concat(order, ignore_index=True)))
        assert recorded[1] == "world-reference-base1.json"


def test_an_alignment_belongs_to_the_reference_of_its_seed(grid, folder, ledger):
    table = ledger.records
    table.loc[table["file"] == "world-align-topk1.json", "reference"] = "world-reference-base2"
    assert sorted(Experiment(grid, "world", "topk").recorded(with_records(folder, table))) == [2, 3]


def test_a_claim_waits_for_all_of_its_runs(grid, declared, ledger):
    (ledger.folder / "world-align-topk3.json").unlink()
    found = assess(declared["better"], grid, ledger)
    assert found["verdict"].tolist() == [NOT_RUN, NOT_RUN] and found["seeds"].tolist() == [2, 2]
    assert found["estimate"].isna().all()


def test_a_summary_of_each_claim_of_a_source(grid, declared, ledger):
    (ledger.folder / "world-align-topk3.json").unlink()
    declared["own"] = declared["better"].model_copy(update={"source": "control"})
    better, fewer, drift = claims.summaries(declared, grid, ledger)
    assert [claim["says"] for claim in (better, fewer, drift)] == ["more", "less", "less far"]
    assert [claim["verdict"] for claim in (better, fewer, drift)] == [NOT_RUN, "reproduced", "reproduced"]
    assert better["first"] == [] == better["smallest"] and better["tally"] == {}, "it waits for a run"
    (first,) = fewer["first"]
    assert first["dataset"] == "World, 10 % hidden" and first["estimate"] == pytest.approx(-50, abs=3)
    assert fewer["tally"] == {"reproduced": 1} and len(better["members"]) == 2
    assert (fewer["measure"], fewer["beside"]) == ("planted_share", [])
    (effect,) = assess(declared["fewer"], grid, ledger).to_dict("records")
    assert fewer["smallest"] == [effect["smallest"]] and effect["smallest"] > 0
    assert [claim["name"] for claim in claims.summaries(declared, grid, ledger, "control")] == ["own"]


def test_effects_under_both_protocols(grid, declared, ledger):
    assessed = claims.assess_all(declared, grid, ledger)
    assert set(assessed["claim"]) == {"better", "fewer", "drift"}
    effects = claims.effects(assessed, grid, ledger)
    assert effects[["pair", "protocol"]].values.tolist() == [
        ["topk over hard", "all items"], ["topk over base", "all items"],
        ["topk over hard", "history dropped"], ["topk over base", "history dropped"],
    ]  # fmt: skip
    assert effects["verdict"].notna().tolist() == [True, True, False, False]
    assert (effects["low"] <= effects["estimate"]).all(), "an estimate in both"
    assert effects["smallest effect shown with power .8, %"].notna().tolist() == [True, True, False, False]
    some = assessed.assign(**{"Holm's p": [0.0123, 0.00009, 1, 1]})
    assert claims.effects(some, grid, ledger)["Holm's p"].tolist()[:2] == ["0.0123", "< .0001"]


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
        ("source: paper", "source: rumour", "better: source"),
        ("says: more, ", "", "better: says"),
        ("[topk, base]]", "[topk, base]], beside: [[topk, bass]]", "no row bass"),
    ],
)
def test_a_wrong_list_is_refused(grid, tmp_path, wrong, right, sentence):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.replace(wrong, right, 1))
    with pytest.raises(InputError, match=sentence):
        claims.read(grid, path)


def test_a_claim_needs_every_seed_of_the_grid(tmp_path):
    (tmp_path / "few.yaml").write_text(tiny_ledger.DECLARED.replace("topk: {", "topk: {seeds: [1], "))
    (tmp_path / "claims.yaml").write_text(CLAIMS)
    with pytest.raises(InputError, match="better: topk has not all seeds of the grid on world"):
        claims.read(Grid.read(tmp_path / "few.yaml"), tmp_path / "claims.yaml")


def test_a_record_that_started_from_the_recorded_reference_comes_first(grid, folder, ledger):
    """Two records of one experiment, from references that were trained on different machines."""
    path = folder / "world-align-hard1.json"
    table = ledger.records
    table["weights"], table["reference_weights"] = "known", "known"
    other = table[table["file"] == path.name].assign(file="world-align-other.json", reference_weights="unknown")
    for order in ([table, other], [other, table]):
        recorded = Experiment(grid, "world", "hard").recorded(with_records(folder, pd.concat(order, ignore_index=True)))
        assert recorded[1] == path.name
    assert Experiment(grid, "world", "hard").recorded(with_records(folder, table[table["seed"] > 3])) == {}
    apart = table.assign(seed=table["seed"] + 100)
    assert Experiment(grid, "world", "hard").recorded(with_records(folder, apart)) == {}, (
        "right settings, no reported seed"
    )


def test_an_alignment_from_another_reference_is_another_experiment(grid, folder, ledger):
    """The same alignment of a reference that was trained otherwise does not count for this row."""
    table = ledger.records
    table.loc[table["file"] == "world-align-hard1.json", "reference"] = "elsewhere"
    assert sorted(Experiment(grid, "world", "hard").recorded(with_records(folder, table))) == [2, 3]
