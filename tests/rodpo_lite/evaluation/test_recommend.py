"""Recommendations, for one and for all, and their edges: more items than there are, users with nothing left."""

import numpy as np
import pandas as pd
import pytest
from command_line import SMALL, assert_refused, rodpo
from import_cases import START
from importing import json_lines, table, write

from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.engine import Engine
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.recommend import recommend, recommend_all, vectors, write_recommendations
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.training.runs import load


def small(folder, items: int):
    """Users u0, u1, … of whom each has taken one item more than the one before, up to all of them."""
    rows = [(f"u{user}", f"i{n % (user + 1)}", START + n) for user in range(items) for n in range(max(5, items))]
    import_dataset("csv", Request(write(folder / "log.csv", table(rows))), folder / "data")
    return read_dataset(folder / "data")


@pytest.mark.parametrize("items", [2, 3, 5])
@pytest.mark.parametrize("top", [1, 3, 10, 10**6])
def test_as_many_as_are_left_and_none_that_was_taken(items, top, tmp_path):
    dataset = small(tmp_path, items)
    model = Recommender.for_dataset(EncoderConfig(width=8), dataset)
    for user in range(dataset.n_items - 1):
        best = recommend(model, dataset, user, top)
        taken = {f"i{n}" for n in range(user + 1)}
        assert len(best) == min(top, items - len(taken)) and taken.isdisjoint(best["item"])
        assert best["score"].is_monotonic_decreasing
    with pytest.raises(InputError, match=f"Nothing is left for u{items - 1}, who has every item of data"):
        recommend(model, dataset, items - 1, top)
    with pytest.raises(InputError, match="--top 0 is not valid"):
        recommend(model, dataset, 0, 0)


@pytest.mark.parametrize("items", [1, 2, 5])
def test_a_catalogue_of_a_few_items_goes_all_the_way_by_command(items, tmp_path):
    """Without features of items: what is trained and evaluated, and what is refused with the user's own id."""
    small(tmp_path, items)
    data, run = ["--data", tmp_path / "data"], tmp_path / "run"
    assert rodpo("train", *data, "--out", run, *SMALL).returncode == 0
    assert rodpo("evaluate", *data, "--run", run).returncode == 0
    assert rodpo("baseline", *data, "--name", "item_knn").returncode == 0
    answer = rodpo("recommend", *data, "--run", run, "--user", f"u{items - 1}")
    assert_refused(answer, f"Nothing is left for u{items - 1}")
    if items > 1:
        answer = rodpo("recommend", *data, "--run", run, "--user", "u0", "--top", 100)
        assert answer.returncode == 0 and len(answer.stdout.splitlines()) == items - 1
    align = ["align", *data, "--reference", run, "-o", "training.epochs=1", "-o", "negatives.name=uniform"]
    for exclude in ("train", "none"):
        answer = rodpo(*align, "--out", tmp_path / exclude, "-o", f"negatives.exclude={exclude}")
        if items == 1:
            assert_refused(answer, "has a single item")
        elif items == 2 and exclude == "train":
            assert_refused(answer, "User u1 has the whole catalogue", "use negatives.exclude=none")
        else:
            assert answer.returncode == 0, answer.stderr
    assert pd.read_parquet(run / "ranks.parquet")["rank"].between(0, items - 1).all()


def check_all(table, dataset, model, top):
    """Every user's rows are those of a full sort of all scores without what the user has taken."""
    users, items = vectors(model, dataset)
    assert users.shape == (dataset.n_users, 8) and items.shape == (dataset.n_items, 8)
    numbers = {name: number for number, name in enumerate(dataset.item_ids)}
    for user, name in enumerate(dataset.user_ids):
        scores = items @ users[user]
        taken = set(dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]].tolist())
        left = [item for item in np.argsort(-scores, kind="stable").tolist() if item not in taken][:top]
        rows = table[table["user"] == name]
        assert rows["rank"].tolist() == list(range(1, len(left) + 1))
        assert not taken.intersection(rows["item"].map(numbers))
        assert np.allclose(rows["score"], scores[left], atol=1e-5)


@pytest.mark.parametrize("top", [1, 7, 10**6])
@pytest.mark.parametrize("rows", [1, 5, 10**6])
def test_everyone_gets_the_best_of_what_is_left_however_many_at_a_time(top, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "rows", lambda self, items: rows)
    dataset = small(tmp_path, 9)
    model = Recommender.for_dataset(EncoderConfig(width=8), dataset)
    tables = list(recommend_all(model, dataset, top))
    assert len(tables) == -(-9 // rows)
    check_all(pd.concat(tables), dataset, model, top)
    assert write_recommendations(model, dataset, tmp_path / "all.parquet", top) == 8, "u8 has every item"
    assert pd.read_parquet(tmp_path / "all.parquet")["user"].unique().tolist() == [f"u{user}" for user in range(8)]
    one = recommend(model, dataset, 3, top)
    everyone = pd.read_parquet(tmp_path / "all.parquet").query("user == 'u3'")
    assert one["item"].tolist() == everyone["item"].tolist()


@pytest.mark.parametrize("fused", [True, False])
def test_recommendations_for_all_by_command_have_the_ids_of_the_log(fused, tmp_path):
    ids = ["007", "Zoë  x", "7", "a\tb", "x" * 200]
    records = [{"user": name, "item": f"ü{n}", "time": START + n} for name in ids for n in range(5)]
    records += [{"user": "8", "item": f"j{n}" * 50, "time": START + n} for n in range(30)]
    import_dataset("csv", Request(json_lines(tmp_path / "log", records)), tmp_path / "data")
    data, run, out = ["--data", tmp_path / "data"], tmp_path / "run", tmp_path / "new" / "recommendations.parquet"
    towers = [] if fused else ["-o", "encoder.base=towers"]
    assert rodpo("train", *data, "--out", run, *SMALL, *towers).returncode == 0
    answer = rodpo("recommend", *data, "--run", run, "--all", "--out", out, "--top", 4)
    assert answer.returncode == 0 and answer.stdout == f"{out}: 6 users\n"
    table, dataset = pd.read_parquet(out), read_dataset(tmp_path / "data")
    assert table.dtypes.astype(str).tolist() == ["object", "int32", "object", "float32"]
    assert table["user"].unique().tolist() == [*ids, "8"] and set(table["item"]) <= {
        record["item"] for record in records
    }
    assert len(table) == 4 * 6
    if fused:
        check_all(table, dataset, load(run, dataset).model, 4)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    "options",
    [[], ["--all"], ["--user", "u0", "--all"], ["--user", "u0", "--out", "a.parquet"], ["--out", "a.parquet"]],
)
def test_either_one_user_or_all_of_them(options, tmp_path):
    answer = rodpo("recommend", "--data", tmp_path, "--run", tmp_path, *options)
    assert_refused(answer, "Give either --user for one user, or --all and --out for every user")


def test_recommendations_are_a_parquet_file(tmp_path):
    answer = rodpo("recommend", "--data", tmp_path, "--run", tmp_path, "--all", "--out", "all.csv")
    assert_refused(answer, "--out all.csv is not valid", "its name ends in .parquet")
