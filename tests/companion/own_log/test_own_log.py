"""A trial on one's own log: every stage once, test ranks for whom they are asked, and tables that follow from ranks."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from companion.evidence.grid import Experiment, Grid
from companion.evidence.ledger import Ledger
from companion.evidence.plan import GRID
from companion.findings.sentences import render
from companion.own_log import tables
from companion.own_log.decision import Decision, compare, decide
from companion.own_log.trial import REFERENCE, ROWS, SMOOTHED, SMOOTHING, Trial, recommended
from rodpo_lite import files
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.evaluation import metrics
from rodpo_lite.training import checkpoint

SMALL = {"epochs": 1, "batches_per_epoch": 4, "select_by": "masked.ndcg@5", "precision": "fp32"}


def small_trial(dataset, folder) -> Trial:
    alignment = recommended(dataset) | {"training": SMALL}
    return Trial(dataset, folder / "data", folder, (1, 2), {"encoder": {"width": 8}, "training": SMALL}, alignment)


@pytest.fixture(scope="module")
def trial(world_folder, tmp_path_factory):
    done = small_trial(read_dataset(world_folder), tmp_path_factory.mktemp("trial"))
    assert list(done.run()) == tables.models(done)
    return done


def kept(trial) -> dict:
    return {path: path.stat().st_mtime_ns for path in trial.folder.rglob("*") if path.is_file()}


def test_what_is_done_is_not_done_again_and_takes_no_time(trial):
    before = kept(trial)
    assert list(trial.run()) == tables.models(trial) and kept(trial) == before
    assert trial.left() == 0
    new = small_trial(trial.dataset, trial.folder / "new")
    assert new.left() == 2 * (1 + 2 + 4 * 1.5) and new.epoch_seconds() > 0


def test_an_interrupted_trial_goes_on(trial, tmp_path):
    interrupted = small_trial(trial.dataset, tmp_path)
    stages = interrupted.run()
    for _ in range(6):
        next(stages)
    before = kept(interrupted)
    assert list(interrupted.run()) == tables.models(interrupted)
    assert before.items() <= kept(interrupted).items()
    for name in ("reference", "topk"):
        assert (interrupted.ndcg(name, "valid") == trial.ndcg(name, "valid")).all()


def test_smoothed_differs_from_the_reference_in_its_labels_and_in_having_all_epochs(trial):
    def settings(name: str) -> dict:
        return files.read_json(trial.run_folders(name)[0] / "run.json")["config"]

    plain, smoothed = settings(REFERENCE), settings(SMOOTHED)
    both = plain["training"]["epochs"] + settings("topk")["training"]["epochs"]
    assert smoothed == plain | {"label_smoothing": SMOOTHING, "training": plain["training"] | {"epochs": both}}


def test_ndcg_follows_from_ranks_and_test_is_read_for_whom_it_is_asked(trial):
    users = trial.dataset.n_users
    assert trial.ndcg("item_knn", "valid").shape == (1, users) and trial.ndcg("hard", "valid").shape == (2, users)
    assert not list(trial.folder.glob("uniform-*/ranks.parquet"))
    trial.ndcg("uniform", "test")
    assert len(list(trial.folder.glob("uniform-*/ranks.parquet"))) == 2
    assert not list(trial.folder.glob("hard-*/ranks.parquet"))
    ranks = pd.read_parquet(trial.folder / "hard-2" / "ranks_valid.parquet")
    assert (trial.ndcg("hard", "valid")[1] == metrics.ndcg(ranks["rank_masked"].to_numpy())).all()
    assert (trial.ndcg("hard", "valid", history=True)[1] == metrics.ndcg(ranks["rank"].to_numpy())).all()
    best = trial.ndcg("hard", "valid").mean(1).argmax()
    assert trial.best_run("hard") == trial.folder / f"hard-{best + 1}"


@pytest.mark.parametrize(("items", "k"), [(7, 1), (19, 1), (1000, 50), (4000, 200), (10**6, 200)])
def test_the_pool_is_a_share_of_a_small_catalogue(items, k, world):
    about = dataclasses.replace(world, titles=["i"] * items, items=world.items % items)
    assert recommended(about)["negatives"] == {"k": k, "exclude": "none" if items == 7 else "train"}


def test_models_side_by_side(trial):
    table = tables.comparison(trial, "none").set_index("model")
    assert list(table.index) == ["popularity", "item_knn", "content_knn", REFERENCE, SMOOTHED, *ROWS]
    assert np.isnan(table.loc["none", "change %"]) and table.drop("none")["change %"].notna().all()
    expected = compare(trial.ndcg("none", "valid"), trial.ndcg("topk", "valid"))
    assert table.loc["topk", ["change %", "low", "high"]].tolist() == [expected.estimate, expected.low, expected.high]
    assert table.loc["topk", "NDCG@5, history dropped"] == pytest.approx(trial.ndcg("topk", "valid").mean())
    assert (table["seconds a seed"] > 0).tolist() == [False] * 3 + [True] * 6


def test_seconds_are_of_one_seed(trial):
    """Two seeds train side by side, so that an epoch's seconds are of both."""
    histories = map(checkpoint.read_history, trial.run_folders("topk"))
    each = [sum(line["epoch_seconds"] for line in history) for history in histories]
    assert 2 * trial.seconds("topk") == pytest.approx(np.mean(each), abs=0.003) and min(each) > 0.01


def test_what_is_taken_later_is_ranked_high_and_pushed_most_by_hard(trial):
    ranks, push = tables.taken_later(trial)
    assert ranks["rank"].tolist() == list(range(1, len(ranks) + 1)) and len(ranks) == min(200, trial.dataset.n_items)
    assert ranks["taken later, %"].between(0, 100).all()
    assert push["model"].tolist() == ["uniform", "hard", "topk"]
    assert push.iloc[1, 1] == pytest.approx(ranks["taken later, %"][0], rel=0.2), "hard pushes what stands at rank one"


def test_groups_of_users_are_all_users_with_their_own_change(trial):
    decision = Decision("too small", "topk", "popularity", None)
    table, lengths = tables.for_whom(trial, decision), trial.dataset.lengths
    assert table["users"].sum() == trial.dataset.n_users and len(table) > 1
    first, last = (int(end) for end in table["interactions"].iloc[-1].split(" to "))
    group = (lengths >= first) & (lengths <= last)
    expected = compare(*(trial.ndcg(name, "valid")[:, group] for name in ("popularity", "topk")))
    assert table["change %"].iloc[-1] == pytest.approx(expected.estimate) and last == lengths.max()


def test_how_many_users_would_be_enough(trial):
    decision = decide({name: trial.ndcg(name, "valid") for name in tables.models(trial)}, None)
    needed = tables.enough(trial, decision)
    assert needed.index.tolist() == [20, 10, 5, 2] and needed.is_monotonic_increasing
    assert tables.enough(trial, Decision("too small", "topk", "none", None)).empty


def test_the_card_names_the_settings_of_the_preset_and_what_is_on_record():
    facts = tables.card(Grid.read(GRID), Ledger.open())
    chosen = Experiment(Grid.read(GRID), "toys", "rival.smoothing").chosen(Ledger.open())
    assert chosen["label_smoothing"] == SMOOTHING
    assert (facts["k"], facts["beta"], facts["rate"], facts["anchor"]) == (200, 2, 3.7e-4, 1) and facts["cost"] > 1
    assert facts["pool"]["least"] < facts["pool"]["mean"] < facts["pool"]["most"]
    said = render("card", **facts)
    assert "K = 200, or of one item in 20 where the catalogue has fewer than 4,000" in said
    losing = facts["pool"] | {"above": 0, "below": 3}
    assert "**Try it?** No:" in render("card", **facts | {"pool": losing}) and "**Try it?** Yes," in said
