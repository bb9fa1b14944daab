"""The lab computes in the browser what `rodpo_lite` computes in Python: compared in Chromium, on random inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from tiny_book import PROJECT

from companion.demonstrations import lab
from companion.demonstrations.lab_world import World
from companion.findings import power
from companion.site import scripts
from rodpo_lite.data.synthetic import WorldSizes
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.statistics import crossed_change
from rodpo_lite.losses.preference import LOSSES, LossConfig, Pairs

pytestmark = pytest.mark.browser

SOURCES = {path.name: path.read_text(encoding="utf-8") for path in (PROJECT / "book" / "_static" / "lab").glob("*.js")}
PROBE = """
import { draw, law, margin, mulberry32, ndcg, sigmoid, softmax, step, suppression } from "./mathematics.js";
import { Alignment, readWorld, eligibleItems } from "./alignment.js";
import { readRuns, repetition } from "./resampling.js";
import { crossedChange, studentLimit } from "./statistics.js";

const plain = (value) => {
  if (ArrayBuffer.isView(value)) return [...value];
  if (!(value instanceof Object)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
};

const walk = ({ scores, reference, positive, eligible, selector, settings, seed, steps }) => {
  const [policy, luck, rejected] = [Float64Array.from(scores), mulberry32(seed), []];
  for (let n = 0; n < steps; n++) {
    rejected.push(step(policy, reference, positive, eligible, selector, settings, luck()));
  }
  return { policy: [...policy], rejected };
};

const race = ({ world, reference, selector, settings, seed, steps }) => {
  const run = new Alignment(readWorld(world), reference, selector, settings, seed);
  for (let n = 0; n < steps; n++) run.step();
  return { vectors: [...run.vectors], wrong: run.wrong, right: run.right, ndcg: run.ndcg() };
};

globalThis.lab = {
  draw, margin, ndcg, sigmoid, suppression, walk, race,
  law: (...given) => [...law(...given)],
  softmax: (scores) => [...softmax(scores)],
  luck: (seed, count) => Array.from({ length: count }, mulberry32(seed)),
  world: (world) => plain(readWorld(world)),
  studentLimit,
  repeat: (runs, settings, seed, count) => {
    const [known, random] = [readRuns(runs), mulberry32(seed)];
    return Array.from({ length: count }, () => repetition(known, settings, random));
  },
  crossed: (...arms) => crossedChange(...arms.splice(0, 2).map((arm) => Float64Array.from(arm)), ...arms),
  eligible: (world, hidden) => [...eligibleItems(readWorld(world), hidden)],
};
"""
SELECTORS = ("hard", "topk", "uniform")


@pytest.fixture
def page(browser, tmp_path) -> Callable[..., Any]:
    """Open a page with the mathematics, some text of it replaced; call its functions by name."""

    def opened(old: str = "", new: str = "") -> Callable[..., Any]:
        assert not old or any(old in text for text in SOURCES.values()), old
        modules = {name: text.replace(old, new) if old else text for name, text in SOURCES.items()}
        (tmp_path / "lab.js").write_text(scripts.script(modules | {"probe.js": PROBE}, "probe.js"), encoding="utf-8")
        (tmp_path / "lab.html").write_text('<!doctype html><meta charset="utf-8"><script src="lab.js"></script>')
        browser.open(tmp_path / "lab.html")
        return lambda name, *given: browser.run(f"return lab.{name}(...arguments)", *given)

    return opened


@pytest.fixture
def call(page) -> Callable[..., Any]:
    return page()


class Case:
    """A random position: scores, reference, who may be rejected, and settings."""

    def __init__(self, number: int):
        rng = np.random.default_rng(number)
        n_items = int(rng.integers(3, 60))
        self.scores, self.reference = 3 * rng.normal(size=(2, n_items))
        self.positive = int(rng.integers(n_items))
        self.eligible = rng.random(n_items) < 0.8
        self.eligible[(self.positive + 1) % n_items] = True
        self.eligible[self.positive] = False
        self.wanted = rng.random(n_items) < 0.3
        self.k, self.u, self.seed = int(rng.integers(1, 12)), float(rng.random()), int(rng.integers(2**32))
        beta, lambda_ce, rate = rng.uniform([0.05, 0.0, 0.1], [5.0, 1.0, 2.0])
        self.settings = lab.Settings(self.k, float(beta), float(lambda_ce), float(rate))

    @property
    def torch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return tuple(map(torch.from_numpy, (self.scores, self.reference, self.eligible)))


def as_json(settings: lab.Settings) -> dict[str, float]:
    named = {"k": settings.k, "beta": settings.beta, "lambda": settings.lambda_ce, "rate": settings.rate}
    return named | {"hidden": settings.hidden, "batch": settings.batch}


CASES = [Case(number) for number in range(20)]


def position(case: Case, selector: str) -> dict[str, Any]:
    tables = {"scores": case.scores, "reference": case.reference, "eligible": case.eligible}
    chosen = {"positive": case.positive, "selector": selector, "settings": as_json(case.settings), "seed": case.seed}
    return {name: values.tolist() for name, values in tables.items()} | chosen


def walk(case: Case, selector: str, steps: int) -> dict[str, Any]:
    """What `lab.walk` of the page does, by the Python twin."""
    (policy, reference, eligible), luck, rejected = case.torch, lab.mulberry32(case.seed), []
    for _ in range(steps):
        policy, negative, push = lab.step(
            policy, reference, case.positive, eligible, selector, case.settings, next(luck)
        )
        rejected.append({"negative": negative, "push": push})
    return {"policy": policy.tolist(), "rejected": rejected}


def assert_same_walk(call, steps: int, cases: list[Case] = CASES) -> None:
    for case in cases:
        for selector in SELECTORS:
            here, there = walk(case, selector, steps), call("walk", position(case, selector) | {"steps": steps})
            assert [one["negative"] for one in there["rejected"]] == [one["negative"] for one in here["rejected"]]
            pushes = ([one["push"] for one in walked["rejected"]] for walked in (there, here))
            np.testing.assert_allclose(*pushes, atol=1e-6)
            np.testing.assert_allclose(there["policy"], here["policy"], atol=1e-6)


def test_luck_is_the_same(call):
    for seed in (0, 1, 7, 2**32 - 1):
        luck = lab.mulberry32(seed)
        assert call("luck", seed, 500) == [next(luck) for _ in range(500)]


def test_policy_margin_and_suppression(call):
    for case in CASES:
        scores, reference, eligible = case.torch
        np.testing.assert_allclose(call("softmax", case.scores.tolist()), scores.softmax(0), atol=1e-6)
        negative = int(eligible.nonzero()[0])
        at = torch.tensor([case.positive, negative])
        pairs = Pairs(scores[at[:1]], scores[at[1:]][None], reference[at[:1]], reference[at[1:]][None])
        h = call("margin", *scores[at].tolist(), *reference[at].tolist())
        assert h == pytest.approx(pairs.margin.item(), abs=1e-6)
        w = LOSSES["dpo"].suppression(pairs, LossConfig(beta=case.settings.beta)).item()
        assert call("suppression", case.settings.beta, h) == pytest.approx(w, abs=1e-6)
    for far in (-800.0, 800.0):
        assert call("sigmoid", far) == pytest.approx(torch.tensor(far, dtype=torch.double).sigmoid().item(), abs=1e-300)


def test_law_of_the_draw_and_the_draws(call):
    for case in CASES:
        scores, _, eligible = case.torch
        for selector in SELECTORS:
            given = case.scores.tolist(), case.eligible.tolist(), case.k
            law = lab.law(selector, scores[None], eligible[None], case.k)[0]
            np.testing.assert_allclose(call("law", selector, *given), law, atol=1e-6)
            for u in (0.0, case.u, 1 - 2**-32):
                drawn = lab.draw(selector, scores[None], eligible[None], case.k, torch.tensor([u], dtype=torch.double))
                assert call("draw", selector, *given, u) == int(drawn)
        assert call("draw", "none", case.scores.tolist(), case.eligible.tolist(), case.k, case.u) == -1
        assert not any(call("law", "none", case.scores.tolist(), case.eligible.tolist(), case.k))


def test_among_equal_scores_the_earlier_item_comes_first(call):
    scores, eligible = [1, 2, 2, 1, 2], [True] * 5
    assert [call("draw", "topk", scores, eligible, 5, n / 5) for n in range(5)] == [1, 2, 4, 0, 3]
    assert call("draw", "hard", scores, eligible, 5, 0.9) == 1
    assert call("law", "topk", scores, eligible, 2) == [0, 0.5, 0.5, 0, 0]


def test_gradient_and_one_step(call):
    assert_same_walk(call, steps=1)


def test_a_hundred_steps(call):
    assert_same_walk(call, steps=100, cases=CASES[:8])


def test_ndcg_of_all_that_is_wanted(call):
    for case in CASES:
        expected = lab.ndcg(case.scores, case.wanted, ~case.eligible)
        given = case.scores.tolist(), case.wanted.tolist(), (~case.eligible).tolist()
        found = call("ndcg", *given)  # NaN arrives as null
        assert found is None if np.isnan(expected) else found == pytest.approx(expected, abs=1e-6)
    assert call("ndcg", [3, 2, 1], [True, False, True]) == pytest.approx(1.5 / (1 + 1 / np.log2(3)))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    sizes = WorldSizes(users=24, items=100, latent=4, phases=1, slate=40, relevant_share=0.2)
    return World.train(tmp_path_factory.mktemp("race"), 0, sizes, epochs=(1, 2))


def test_the_world_arrives_as_it_was_written(call, world):
    arrived = call("world", world.payload())
    for name in ("user", "positive", "liked", "owned"):
        assert arrived[name] == getattr(world, name).astype(int).ravel().tolist()
    for place, here in enumerate(world.references):
        for name in ("vectors", "states", "last"):
            there = arrived["references"][str(place)][name]
            np.testing.assert_allclose(there, getattr(here, name).ravel(), atol=1e-9)
    for hidden in (0.0, 0.4, 1.0):
        assert (
            call("eligible", world.payload(), hidden) == lab.eligible_items(world, hidden).astype(int).ravel().tolist()
        )


@pytest.mark.parametrize("selector", lab.RACERS)
def test_a_hundred_steps_of_the_race(call, world, selector):
    settings = lab.Settings(k=7, beta=2.0, lambda_ce=0.3, rate=1.0, hidden=0.7, batch=12)
    run = lab.Race(world, 1, selector, settings, seed=5)
    for _ in range(100):
        run.step()
    given = {"world": world.payload(), "reference": 1, "selector": selector, "settings": as_json(settings)}
    found = call("race", given | {"seed": 5, "steps": 100})
    np.testing.assert_allclose(found["vectors"], run.vectors.ravel(), atol=1e-6)
    assert [found["wrong"], found["right"]] == pytest.approx([run.wrong, run.right], abs=1e-6)
    assert found["ndcg"] == pytest.approx(run.ndcg(), abs=1e-6)
    assert (run.wrong > 0) == (selector != "none")


def test_students_limit(call):
    for freedom in (0.6, 1.0, 1.7, 3.2, 4.0, 12.5, 180.0, 2e4, 1e6):
        assert call("studentLimit", freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), abs=1e-6)


def test_the_interval_of_a_change(call):
    for number, (seeds, users, more) in enumerate([(1, 30, 0), (3, 50, 200), (5, 400, 3000), (2, 9, 1)]):
        rng = np.random.default_rng(number)
        before = rng.choice(power.LEVELS, size=(seeds, users))
        after = np.where(rng.random(before.shape) < 0.7, before, rng.choice(power.LEVELS, size=before.shape))
        after += 0.05 * rng.normal(size=(seeds, 1)) * (number == 1)
        expected = crossed_change(*(np.pad(arm, ((0, 0), (0, more))) for arm in (before, after)))
        found = call("crossed", before.ravel().tolist(), after.ravel().tolist(), seeds, more)
        assert found == pytest.approx(
            {"change": expected.estimate, "low": expected.low, "high": expected.high}, abs=1e-6
        )


def test_what_is_drawn_again_has_the_change_that_is_put_in(call):
    rng = np.random.default_rng(1)
    ranks = np.where(rng.random((2, 3, 2000)) < 0.2, rng.integers(0, 5, size=(2, 3, 2000)), 9)
    before, after = metrics.ndcg(ranks)
    runs = power.packed(before, after)
    for effect in (0, 40):
        settings = {"users": 1000, "seeds": 3, "effect": effect}
        repeated = call("repeat", runs, settings, 2, 200)
        assert np.mean([one["change"] for one in repeated]) == pytest.approx(effect, abs=1.5)
        covered = np.mean([one["low"] <= effect <= one["high"] for one in repeated])
        assert covered >= 0.93, "Student's interval of three seeds, drawn from three, is on the safe side"
    halves = [(one["high"] - one["low"]) / 2 for one in call("repeat", runs, settings | {"effect": 0}, 2, 100)]
    expected = power.reach(before, after, [1000], [3], repeats=100)["± %"].item()
    assert np.mean(halves) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("beta * sigmoid(-beta * h)", "beta * sigmoid(beta * h)"),
        ("- (referencePositive - referenceNegative)", "+ (referencePositive - referenceNegative)"),
        ("scores[negative] += push", "scores[negative] -= push"),
        ("scores[positive] -= lambda + push", "scores[positive] -= lambda - push"),
        ("policy[j] -= settings.rate * slope[j]", "policy[j] += settings.rate * slope[j]"),
    ],
)
def test_a_wrong_sign_is_seen(page, right, wrong):
    with pytest.raises(AssertionError):
        assert_same_walk(page(right, wrong), steps=2)
