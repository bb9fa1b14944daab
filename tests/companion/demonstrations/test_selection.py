"""What selectors push, as the chapters on gradients and selection sum it up."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from companion.demonstrations import selection
from companion.findings.sentences import render
from rodpo_lite.data.synthetic import Oracle
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism.relevance import oracle_relevance
from rodpo_lite.sampling.selectors import NegativesConfig
from rodpo_lite.training import checkpoint, runs

TABLE = pd.DataFrame({"erroneous": [3.0, 1.0, 2.0], "informative": [1.0, 1.0, 0.0]}, index=[7, 7, 8])


def test_a_summary_averages_over_positions_and_shares_over_all_of_them():
    (row,) = selection.summary({"hard": TABLE}).itertuples()
    assert row == ("hard", 2.0, 2 / 3, 0.75)


def test_a_change_averages_within_users_first():
    before = TABLE.assign(informative=1.0)
    change = selection.change(before, before.assign(erroneous=[3.0, 1.0, 4.0]))
    assert change["erroneous"].estimate == pytest.approx(100 * (3 / 2 - 1)), "user 7 keeps 2, user 8 goes from 2 to 4"
    assert change["informative"].estimate == 0


@pytest.mark.parametrize(
    ("relative", "expected"),
    [([0, 5, -1, 2, -3, -4], 5), ([0, -1, -2], 2), ([0, 1, 2], None), ([0, -1, 0], None)],
)
def test_the_turning_point_is_the_first_pool_from_which_all_are_below_hard(relative, expected):
    assert selection.turning_point(np.array(relative)) == expected


def test_distances_are_read_at_equal_erroneous_suppression():
    rows = [("pool", 0, 0), ("pool", -10, 20), ("near", -5, 12), ("near", -20, 99), ("far", -5, 3)]
    table = pd.DataFrame(rows, columns=["dial", "erroneous", "informative"])
    assert selection.distances(table, "pool") == {"near": pytest.approx(2), "far": pytest.approx(7)}


@pytest.fixture(scope="module")
def small(world, world_folder, reference_folder):
    """A world whose policy is still its reference, so that every push is β/2."""
    relevance = oracle_relevance(world, Oracle.of(world, world_folder))
    reference = runs.load(reference_folder, world)
    return selection.SmallWorld(world, relevance, reference_folder.parent, 0, reference)


@pytest.fixture(scope="module")
def profile(small):
    return small.profile(small.reference.model, positions=300)


def test_at_the_reference_the_pushes_are_known(profile):
    loss = LossConfig(beta=0.5)
    for name in ("topk", "srns"):  # one with probabilities, and one that draws
        table = selection.suppression(profile, NegativesConfig(name=name, k=5), loss, draws=2)
        assert table.sum(axis=1).to_numpy() == pytest.approx(np.full(len(table), 0.25))
    assert selection.noise(profile, NegativesConfig(name="topk", k=5), loss) == pytest.approx(4)
    assert np.isnan(selection.noise(profile, NegativesConfig(name="srns"), loss))
    relative = selection.relative_informative(profile, [0.1, 5.0])
    np.testing.assert_allclose(relative[0], relative[1], err_msg="β plays no part", atol=1e-9)
    assert relative[0, 0] == 0


def test_dials_are_read_against_hard(profile):
    settings = {"topk, K": ("k", [1, 5], {"name": "topk"}), "dns, M": ("candidates", [1], {"name": "dns", "k": 1})}
    table = selection.dials(profile, settings, [0.1, 1.0])
    assert len(table) == 6
    hard = table[(table["dial"] == "topk, K") & (table["value"] == 1)]
    assert (hard[["erroneous", "informative"]].abs() < 1e-9).all(axis=None)
    half = table[table["β"] == 1.0].set_index(["dial", "value"])
    wrong = profile.expected(NegativesConfig(name="topk", k=5), LossConfig(beta=1.0))[0].mean()
    at_hard = profile.expected(NegativesConfig(name="hard"), LossConfig(beta=1.0))[0].mean()
    assert half.loc[("topk, K", 5), "erroneous"] == pytest.approx(100 * (wrong / at_hard - 1))


def test_nothing_has_moved_at_the_reference(small, profile):
    row = selection.drift(profile, small.reference.model, small.reference.model, profile)
    moved = [value for name, value in row.items() if name != "± 95 %"]
    assert moved == pytest.approx([0] * 5, abs=1e-6)


def test_what_a_loss_believes_stands_beside_what_is_wrong(small, tmp_path):
    """`folder` of the world is where policies are written: a copy keeps those of other tests apart."""
    (tmp_path / "reference").symlink_to(small.folder / "reference")
    world = replace(small, folder=tmp_path)
    (row,) = world.believed([NegativesConfig(name="uniform", k=5)], beta=0.5, epochs=2).to_dict("records")
    history = checkpoint.read_history(tmp_path / "uniform-rpo")
    assert [row[f"believed, epoch {n}"] for n in (1, 2)] == [100 * (1 - line["right_share"]) for line in history]
    same = small.profile(small.reference.model)
    chance = 100 * (same.false_negative.sum(1) / same.eligible).mean()
    assert row["wrong"] == pytest.approx(chance), "a uniform draw does not care where the policy ranks what is wanted"
    assert row["margin"] == history[0]["margin"] and 0 < row["believed, epoch 2"] < 100


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"hard": 20, "topk": 7}, "It finds out**"),
        ({"hard": 20, "topk": 10}, "It finds out for `hard` alone**"),  # stood still
        ({"hard": 90, "topk": 80}, "It does not find out**"),
    ],
)
def test_the_sentence_on_what_a_loss_believes_follows_the_numbers(last, said):
    facts = {"start": 10.0, "wrong": {"hard": 24.0, "topk": 7.0}, "margin": {"hard": -0.5, "topk": 0.25}, "epochs": 4}
    text = render("believed", last=last, **facts).replace("\xa0", " ")
    assert said in text.splitlines()[0].replace(".**", "**") and f"{last['topk']} % of the pairs of `topk`" in text
    assert ("−0.50 for `hard`, +0.25" in text) == ("finds out**" not in said)
