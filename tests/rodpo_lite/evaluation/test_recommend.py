"""Recommendations at the edges: more items than there are, users with nothing left, catalogues of a few items."""

import pandas as pd
import pytest
from command_line import SMALL, assert_refused, rodpo
from importing import table, write

from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.recommend import recommend
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender


def small(folder, items: int):
    """Users u0, u1, … of whom each has taken one item more than the one before, up to all of them."""
    rows = [(f"u{user}", f"i{n % (user + 1)}", n) for user in range(items) for n in range(5)]
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
