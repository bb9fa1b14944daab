"""A ledger of made-up runs whose effects are known: three rows, three seeds, a dataset and its planted twin."""

from pathlib import Path

import numpy as np
import pandas as pd

from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from rodpo_lite.evaluation import metrics
from rodpo_lite.files import write_json
from rodpo_lite.model.config import EncoderConfig

USERS = 400
DECLARED = """
datasets: [world, world-planted]
planted: {world-planted: {source: world, share: 0.1}}
seeds: [1, 2, 3]
tuning: {seeds: [100], trials: 1}
rows:
  base: {tier: A, planted: true}
  hard: {tier: A, planted: true, reference: base, set: {negatives.name: hard}}
  topk: {tier: A, planted: true, reference: base, set: {negatives.name: topk}}
"""
# Of each row: the share of users whose item is found, share of suppression on what is hidden, drift of it.
WORLD = {"base": (0.3, None, None), "hard": (0.3, 0.02, -0.5), "topk": (0.6, 0.01, -0.1)}


def declare(folder: Path) -> Grid:
    (folder / "grid.yaml").write_text(DECLARED)
    return Grid.read(folder / "grid.yaml")


def fill(grid: Grid, folder: Path) -> Path:
    """A record of each run, named <dataset>-<stage>-<row><seed>, as far as comparisons read it, with its ranks."""
    random = np.random.default_rng(0)
    (folder / "ranks").mkdir(parents=True)
    (folder / "users").mkdir()
    for dataset in grid.datasets:
        about = pd.DataFrame({"history": np.arange(USERS) % 20, "popularity": np.arange(USERS)})
        about.to_parquet(folder / "users" / f"{dataset}.parquet")
    for experiment in grid.experiments():
        found, share, drift = WORLD[experiment.name]
        for seed in experiment.seeds:
            config = experiment.config(experiment.chosen(Ledger(folder)), seed)
            name, noise = f"{experiment.dataset}-{config.stage}-{experiment.name}{seed}", random.normal(0, 0.02)
            ranks = np.where(random.random(USERS) < found, 0, 200)
            pd.DataFrame({"rank": ranks, "own_above": 0}).to_parquet(folder / "ranks" / f"{name}.parquet")
            line = {"epoch": 1, **({"planted_share": share * (1 + noise)} if share else {})}
            entry = {"config_hash": name, "stage": config.stage, "seed": seed, "config": config.model_dump(mode="json")}
            entry |= {"encoder": EncoderConfig().model_dump(mode="json"), "curve": [line], "seconds": 60.0}
            entry["precision"] = "fp32"
            entry |= {"dataset": {"name": experiment.dataset, "n_users": USERS, "n_items": 201, "n_interactions": 2000}}
            entry |= dict.fromkeys(("valid", "valid_masked", "test", "test_masked"), metrics.from_ranks(ranks))
            if experiment.reference:
                entry["reference"] = f"{experiment.dataset}-reference-base{seed}"
            if drift:
                entry["drift"] = {"planted": {"difference": drift + noise}}
            write_json(folder / f"{name}.json", entry | {"parameters": 1, "best_epoch": 1, "commit": "0"})
    return folder


def with_records(folder: Path, records: pd.DataFrame) -> Ledger:
    """The ledger in a folder, as if its records were these."""
    ledger = Ledger(folder)
    ledger.records = records
    return ledger
