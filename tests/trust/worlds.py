"""Whole trials on small synthetic worlds: how often the rule of `rodpo report` says what is not so.

In each world all models are trained. As it is, alignment brings nothing there that one would keep. An effect is planted
in what `topk` does on validation and on test: some users who had no hit get one, the same for all seeds. A log that is
too small is the first users of the world.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from companion.own_log.decision import Decision, compare, decide
from companion.own_log.tables import models
from companion.own_log.trial import SEEDS, Trial, recommended
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.evaluation import metrics

WORLDS, SIZES = 50, WorldSizes(users=800, items=150, mean_length=8.0)
SMALL, PLANTED = 200, 0.25  # users of a log that is too small; the relative gain in NDCG@5
TRAINING = {"batches_per_epoch": 12, "precision": "fp32", "select_by": "masked.ndcg@5"}
Parts = dict[str, dict[str, np.ndarray]]  # NDCG@5 [S, U], or [1, U] of a baseline, by part and model


def judge_all(place: Path, worlds: int = WORLDS, sizes: WorldSizes = SIZES) -> dict[str, Any]:
    """Count the verdicts of each kind of log over so many worlds."""
    verdicts: dict[str, Counter] = {"as it is": Counter(), "planted": Counter(), "small": Counter()}
    changes, gains = [], []
    for seed in range(worlds):
        parts = train(place / str(seed), seed, sizes)
        incumbent = judged(parts).incumbent
        changes.append(compare(parts["test"][incumbent], parts["test"]["topk"]).estimate)
        better = plant(parts, incumbent, np.random.default_rng(seed))
        few = {part: {name: values[:, :SMALL] for name, values in of.items()} for part, of in parts.items()}
        for kind, log in (("as it is", parts), ("planted", better), ("small", few)):
            verdicts[kind][judged(log).verdict] += 1
        gains.append(compare(better["test"][incumbent], better["test"]["topk"]).estimate)
    return {
        "worlds": worlds,
        "users": sizes.users,
        "change_of_topk": {"as it is": round(float(np.mean(changes)), 1), "planted": round(float(np.mean(gains)), 1)},
        "verdicts": {kind: dict(counts) for kind, counts in verdicts.items()},
        "wrongly_kept": verdicts["as it is"]["keep"] + verdicts["small"]["keep"],
    }


def train(place: Path, seed: int, sizes: WorldSizes) -> Parts:
    """All models of a trial on a new world."""
    data = synthesise(place / "world", seed, sizes)
    dataset = read_dataset(data)
    alignment = recommended(dataset)
    alignment["training"] |= TRAINING | {"epochs": 4}
    reference = {"encoder": {"width": 16}, "training": TRAINING | {"epochs": 10}}
    trial = Trial(dataset, data, place / "trial", SEEDS, reference, alignment)
    for _ in trial.run():
        pass
    return {part: {name: trial.ndcg(name, part) for name in models(trial)} for part in ("valid", "test")}


def judged(parts: Parts) -> Decision:
    return decide(parts["valid"], parts["test"].__getitem__)


def plant(parts: Parts, incumbent: str, chance: np.random.Generator) -> Parts:
    """The same with `topk` above the incumbent by PLANTED: users without a hit get one at the last place, by chance."""
    found = {}
    for part, of in parts.items():
        missed = of["topk"] == 0
        wanted = (1 + PLANTED) * of[incumbent].mean() - of["topk"].mean()
        share = wanted / (metrics.ndcg(np.array([4])).item() * missed.mean())
        lucky = chance.random(missed.shape[1]) < share
        found[part] = of | {"topk": np.where(missed & lucky, metrics.ndcg(np.array([4])), of["topk"])}
    return found
