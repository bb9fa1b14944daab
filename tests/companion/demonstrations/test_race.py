"""The Python twin of the lab: worked by hand where it is small, and what it says of the record follows the numbers."""

import json
from dataclasses import replace
from math import exp, log

import numpy as np
import pandas as pd
import pytest
import torch

from companion.demonstrations import lab
from companion.demonstrations.lab_world import World
from companion.findings.sentences import render
from rodpo_lite.data.synthetic import WorldSizes

SHOP = pd.DataFrame({"item": list("abcd"), "score": [2.0, 1.0, 0.5, 0.0], "taken": [False, True, False, False]})
SETTINGS = lab.Settings(k=2, beta=0.5, lambda_ce=0.0, rate=2.0, batch=8)


def test_one_step_by_hand():
    after = lab.steps_of(SHOP, ["hard"], SETTINGS, seed=0, steps=1)
    assert after["hits"].tolist() == [1, 0, 0, 0] and after["pushed"].tolist() == [0.5, 0, 0, 0]
    assert after["after"].tolist() == [1.5, 1.5, 0.5, 0.0], "β/2 times the size of the step, down and up"
    anchored = lab.steps_of(SHOP, ["hard"], replace(SETTINGS, beta=1e-9, lambda_ce=1.0), seed=0, steps=1)
    total = sum(map(exp, SHOP["score"]))
    expected = [s - 2 * (exp(s) / total - taken) for s, taken in zip(SHOP["score"], SHOP["taken"])]
    assert anchored["after"].tolist() == pytest.approx(expected)


def test_the_loss_of_equal_models_is_log_2():
    scores = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.double)
    loss, push = lab.loss_and_push(scores, scores + 1, torch.tensor([0]), torch.tensor([2]), SETTINGS)
    assert loss.item() == pytest.approx(log(2)) and push.item() == pytest.approx(0.25)
    loss, push = lab.loss_and_push(scores, scores, torch.tensor([0]), None, replace(SETTINGS, lambda_ce=2.0))
    assert loss.item() == pytest.approx(-2 * scores.log_softmax(1)[0, 0].item()) and push.item() == 0


def test_the_pool_runs_from_the_hardest_to_any_item():
    scores, eligible = (table[None] for table in lab.tables_of(SHOP))
    laws = {k: lab.law("topk", scores, eligible, k)[0].tolist() for k in (1, 2, 3)}
    assert laws[1] == lab.law("hard", scores, eligible, 1)[0].tolist() == [1, 0, 0, 0]
    assert laws[2] == [0.5, 0, 0.5, 0]
    assert laws[3] == lab.law("uniform", scores, eligible, 1)[0].tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    u = torch.tensor([0.0, 0.49, 0.5, 0.99], dtype=torch.double)
    drawn = lab.draw("topk", scores.expand(4, -1), eligible.expand(4, -1), 2, u)
    assert drawn.tolist() == [0, 0, 2, 2]


def test_ndcg_of_several_items():
    scores, wanted = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False])
    nothing = np.zeros(4, bool)
    assert lab.ndcg(scores, wanted, nothing) == pytest.approx(1.5 / (1 + 1 / np.log2(3)))
    assert lab.ndcg(scores, wanted, np.array([False, True, False, False])) == 1
    assert np.isnan(lab.ndcg(scores, nothing, nothing))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    sizes = WorldSizes(users=24, items=100, latent=4, phases=1, slate=40, relevant_share=0.2)
    return World.train(tmp_path_factory.mktemp("race"), 0, sizes, epochs=(1, 2, 3))


def test_a_world_keeps_what_its_users_took_and_would_like(world):
    assert world.owned[world.user, world.positive].all()
    assert [reference.epochs for reference in world.references] == [1, 2, 3]
    for reference in world.references:
        for table in (reference.vectors, reference.states, reference.last):
            assert len(table.unique()) <= 255, "eight bits"
    assert not torch.equal(world.references[0].vectors, world.references[1].vectors)
    assert len(json.dumps(world.payload())) < 30_000


def test_what_the_log_knows_is_spared(world):
    hidden, known = lab.eligible_items(world, 1.0), lab.eligible_items(world, 0.0)
    assert (hidden == ~world.owned).all() and (known == ~(world.owned | world.liked)).all()
    half = lab.eligible_items(world, 0.5)
    assert (known <= half).all() and (half <= hidden).all()
    assert (half & world.liked).sum() == pytest.approx(0.5 * (hidden & world.liked).sum(), rel=0.2)


def test_a_race_starts_level_and_only_a_preference_pushes(world):
    curves = lab.race(world, 1, SETTINGS, looks=(0, 2, 4)).set_index(["selector", "step"])
    assert (curves.xs(0, level="step") == 0).all(axis=None)
    assert (curves.loc["none", ["wrong push", "right push"]] == 0).all(axis=None)
    assert (curves.loc[["hard", "topk", "uniform"]].xs(4, level="step")["right push"] > 0).all()
    spared = lab.race(world, 1, replace(SETTINGS, hidden=0.0), looks=(4,))
    assert (spared["wrong push"] == 0).all()


def test_what_the_answers_of_the_race_say_is_so(tmp_path):
    """Their words are fixed (book/live/race.html.j2); the numbers are those of the book's own world."""
    world = World.train(tmp_path, 0)
    ended = pd.concat({name: lab.ends(world, *scenario) for name, scenario in lab.SCENARIOS.items()})
    change, share = ended["NDCG@5 change %"], ended["wrong push"] / (ended["wrong push"] + ended["right push"])
    usual, hardest, spared = change["usual"], change["usual", "hard"], change["nothing hidden"]
    assert hardest < -5 and hardest < usual.drop("hard").min() - 3
    assert share["usual"][["hard", "topk", "uniform"]].is_monotonic_decreasing
    assert spared["hard"] > max(-1, spared.max() - 2)
    small = change["small pool", "topk"]
    assert abs(small - hardest) < abs(small - usual["uniform"]) and small < usual["topk"] - 2
    assert change["gentle", "hard"] > hardest / 2 and share["gentle", "hard"] > 0.4


HERE = {name: dict.fromkeys(lab.RACERS, -1.0) for name in lab.SCENARIOS}


def change(by: float, **more) -> dict:
    return {"change %": by, "low": by - 1, "high": by + 1, **more}


def record(**replaced) -> dict:
    facts = {
        "harmed": [change(-3.0), change(-5.0)],
        "gained": [change(0.5, dataset="Toys")],
        "apart": [change(0.2)],
        "gaps": [{}],
        "trend": {"estimate": 0.3, "low": -0.1, "high": 0.7},
        "sizes": [change(-7.0, value=1.0), change(-1.5, value=50.0), change(0.1, value=100.0)],
        "strengths": [change(-3.0, value=0.05), change(-9.0, value=5.0)],
        "short": [change(-0.9, before="none")],
    }
    return facts | replaced


def test_sentences_about_the_record_follow_it():
    text = render("lab", here=HERE, lucks=3, **record())
    assert "−5.0 to −3.0\xa0%, shown in 2 of 2 comparisons |" in text
    assert text.count("**yes**") == 4 and "**not shown**" in text and "worse up to K = 50" in text
    turned = render(
        "lab", here=HERE, lucks=3,
        **record(
            harmed=[change(-3.0), change(0.2)],
            gained=[change(3.0, dataset="Toys")],
            trend={"estimate": 0.5, "low": 0.1, "high": 0.9},
            strengths=[change(-9.0, value=0.05), change(3.0, value=5.0)],
        ),
    )  # fmt: skip
    assert [row.split("|")[2].strip(" *") for row in turned.splitlines()[4:]] == [
        "in part", "yes", "yes", "no", "in part", "open",
    ] and "(Toys)" in turned  # fmt: skip
    nothing = record(harmed=[], gained=[], gaps=[], sizes=[], strengths=[], short=[])
    empty = render("lab", here=HERE, lucks=3, **nothing).splitlines()[4:]
    assert len(empty) == 6 and all("not on record" in row and "−1.0" in row.split("|")[3] for row in empty)


def test_what_is_on_record(grid, ledger):
    facts = lab.on_record(grid, ledger)
    assert all(len(facts[name]) == 0 for name in ("harmed", "gained", "apart", "sizes", "strengths", "short"))
