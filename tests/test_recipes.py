"""The recipes of the README run as they are written there."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import SMALL, rodpo

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the dataset and the run that the recipes name."""
    folder = tmp_path_factory.mktemp("recipes")
    assert rodpo("data", "synth", "--out", "data/mine", "--users", 400, "--items", 300, cwd=folder).returncode == 0
    train = ["train", "--data", "data/mine", "--out", "runs/topk", *SMALL, "-o", "training.epochs=5"]
    assert rodpo(*train, cwd=folder).returncode == 0
    return folder


def test_python_writes_what_the_command_writes(place, monkeypatch):
    monkeypatch.chdir(place)
    assert len(RECIPES[0].split("\n\n")[1].splitlines()) == 3, "three lines"
    exec(RECIPES[0], {})
    command = ["recommend", "--data", "data/mine", "--run", "runs/topk", "--all", "--out", "command.parquet"]
    assert rodpo(*command, cwd=place).returncode == 0
    by_python, by_command = pd.read_parquet("recommendations.parquet"), pd.read_parquet("command.parquet")
    assert len(by_python) == 4000 and by_python.drop(columns="score").equals(by_command.drop(columns="score"))


def test_the_index_finds_nearly_what_a_full_search_finds(place, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(place)
    names = {}
    exec(RECIPES[0] + RECIPES[1], names)
    users, items, nearest, dataset = (names[name] for name in ("users", "items", "nearest", "dataset"))
    hits = []
    for user in range(100):
        taken = dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]]
        found = nearest(user, 10)
        assert len(found) == 10 and not np.isin(found, taken).any()
        scores = items @ users[user]
        scores[taken] = -np.inf
        hits.append(np.isin(found, np.argsort(-scores)[:10]).mean())
    assert np.mean(hits) > 0.9
