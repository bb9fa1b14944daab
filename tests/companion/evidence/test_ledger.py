"""The ledger: finished and evaluated runs only, never changed."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from companion.evidence import ledger
from rodpo_lite.config import KINDS, AlignmentConfig, ReferenceConfig
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.files import write_json
from rodpo_lite.settings import build
from rodpo_lite.training import results, runs


@pytest.fixture
def run(reference_folder, tmp_path):
    return shutil.copytree(reference_folder, tmp_path / "run", ignore=shutil.ignore_patterns("metrics*", "ranks*"))


def test_a_run_enters_with_its_ranks_and_reads_back(world, run, tmp_path):
    results.evaluate(world, run)
    path = ledger.record(run, tmp_path / "ledger")
    assert ledger.record(run, tmp_path / "ledger") == path, "recording twice changes nothing"
    (row,) = ledger.records(tmp_path / "ledger").itertuples()
    assert (row.dataset, row.stage, row.strategy, row.seed) == ("synthetic", "reference", "reference", 0)
    found = metrics.from_ranks(ledger.ranks(row.file, tmp_path / "ledger")["rank"].to_numpy())
    entry = ledger.entry(row.file, tmp_path / "ledger")
    assert entry["test"] == found
    for key in ("config", "config_hash", "versions", "commit", "device", "seconds", "dataset", "curve"):
        assert key in entry


def test_changes_of_a_record_against_itself_and_another(world, run, tmp_path):
    """Against itself nothing changes; with every target at the top, NDCG@5 is 1 and the change is what is missing."""
    results.evaluate(world, run)
    folder = tmp_path / "ledger"
    file = ledger.record(run, folder).name
    users = np.arange(world.n_users)  # ranks of which every resample has some among the best five
    known = pd.DataFrame({"rank": users % 10, "own_above": users % 10 // 3})
    known.to_parquet(folder / "ranks" / file.replace(".json", ".parquet"))
    same = ledger.changes(file, file, folder)
    assert same["protocol"].tolist() == ["all items", "history dropped"]
    assert (same[["change %", "low", "high"]] == 0).all(axis=None)
    (known * 0).to_parquet(folder / "ranks" / "perfect.parquet")
    found = ledger.changes(file, "perfect.json", folder)
    assert found["NDCG@5"].tolist() == [1, 1]
    assert found["change %"].tolist() == pytest.approx((100 * (1 / same["NDCG@5"] - 1)).tolist())
    assert (found["low"] < found["change %"]).all() and (found["change %"] < found["high"]).all()


def test_several_records_before_are_averaged_user_by_user(world, run, tmp_path):
    results.evaluate(world, run)
    folder = tmp_path / "ledger"
    file = ledger.record(run, folder).name
    perfect = pd.DataFrame({"rank": 0, "own_above": 0}, index=range(world.n_users))
    perfect.to_parquet(folder / "ranks" / "perfect.parquet")
    one, other = ledger.ranks(file, folder)["rank"], ledger.ranks("perfect.json", folder)["rank"]
    middle = (metrics.ndcg(one.to_numpy()) + metrics.ndcg(other.to_numpy())).mean() / 2
    found = ledger.changes([file, "perfect.json"], "perfect.json", folder)
    assert found["change %"].iloc[0] == pytest.approx(100 * (1 / middle - 1))


def test_differences_from_the_defaults():
    config = build(ReferenceConfig, {"seed": 4, "encoder": {"base": "towers"}, "training": {"epochs": 12}})
    found = ledger.differences(config.model_dump(mode="json"), "reference")
    assert found == {"encoder.base": "towers", "training.epochs": 12}


def test_runs_are_found_by_configuration_whatever_the_seed(world, small_config, run, tmp_path):
    results.evaluate(world, run)
    ledger.record(run, tmp_path / "ledger")
    table = ledger.records(tmp_path / "ledger")
    assert len(ledger.of(table, small_config.model_copy(update={"seed": 7}))) == 1
    assert ledger.of(table, ReferenceConfig()).empty and ledger.of(table, AlignmentConfig()).empty


def test_an_alignment_is_found_with_the_encoder_of_its_reference(world, small_config, reference_folder, tmp_path):
    config = build(AlignmentConfig, {"training": {"epochs": 1, "batches_per_epoch": 2}})
    runs.align(world, reference_folder, config, tmp_path / "run")
    results.evaluate(world, tmp_path / "run")
    ledger.record(tmp_path / "run", tmp_path / "ledger")
    table = ledger.records(tmp_path / "ledger")
    assert len(ledger.of(table, config, small_config.encoder)) == 1 and ledger.of(table, config).empty


def test_an_experiment_enters_once_even_if_a_later_key_gave_it_another_id(world, run, tmp_path):
    results.evaluate(world, run)
    path = ledger.record(run, tmp_path / "ledger")
    entry = json.loads((run / "run.json").read_text())
    del entry["config"]["encoder"]["placeholder"], entry["encoder"]["placeholder"]
    (run / "run.json").write_text(json.dumps(entry | {"config_hash": "0123456789ab"}))
    evaluated = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(evaluated | {"config_hash": "0123456789ab"}))
    assert ledger.record(run, tmp_path / "ledger") == path
    assert len(list((tmp_path / "ledger").glob("*.json"))) == 1


def test_drift_enters_with_the_run(world, reference_folder, tmp_path):
    config = build(AlignmentConfig, {"training": {"epochs": 1, "batches_per_epoch": 2}})
    runs.align(world, reference_folder, config, tmp_path / "run")
    found = results.drift(world, tmp_path / "run", reference_folder)
    assert found["exclude"] == "train" and found["future"]["users"] > 10
    results.evaluate(world, tmp_path / "run")
    path = ledger.record(tmp_path / "run", tmp_path / "ledger")
    assert json.loads(path.read_text())["drift"] == {key: found[key] for key in found if key != "weights"}
    (tmp_path / "run" / "drift.json").unlink()
    assert ledger.record(tmp_path / "run", tmp_path / "ledger") == path, "it has what it needs"
    write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "drift"})
    results.drift(world, tmp_path / "run", reference_folder)
    with pytest.raises(InputError, match="another drift for the same run, or none"):
        ledger.record(tmp_path / "run", tmp_path / "ledger")
    with pytest.raises(InputError, match="is a reference"):
        results.drift(world, reference_folder, reference_folder)


def test_a_folder_without_records_is_no_ledger(tmp_path):
    assert ledger.locate(None) == ledger.FOLDER
    with pytest.raises(InputError, match=f"no run ledger in {tmp_path}"):
        ledger.locate(str(tmp_path))


def test_unfinished_and_unevaluated_runs_stay_out(run, tmp_path):
    with pytest.raises(InputError, match="was not evaluated on test"):
        ledger.record(run, tmp_path / "ledger")
    (run / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has not finished"):
        ledger.record(run, tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_the_ledger_is_append_only(world, run, tmp_path):
    results.evaluate(world, run)
    path = ledger.record(run, tmp_path / "ledger")
    before = path.read_bytes()
    found = json.loads((run / "metrics.json").read_text())
    found["unmasked"]["ndcg@5"] += 0.1
    (run / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="append-only"):
        ledger.record(run, tmp_path / "ledger")
    assert path.read_bytes() == before


@pytest.mark.parametrize("column", ["rank", "own_above"])
def test_ranks_that_cannot_be_are_refused(tmp_path, column):
    (tmp_path / "ranks").mkdir()
    table = pd.DataFrame({"rank": [3, 0], "own_above": [3, 0]})
    table.to_parquet(tmp_path / "ranks" / "run.parquet")
    assert ledger.ranks("run.json", tmp_path)["rank_masked"].tolist() == [0, 0]
    table[column] = [0, 4] if column == "own_above" else [-1, 0]
    table.to_parquet(tmp_path / "ranks" / "run.parquet")
    with pytest.raises(InputError, match=r"run.parquet is damaged"):
        ledger.ranks("run.json", tmp_path)


def test_a_record_that_lacks_a_metric_is_none(world, run, tmp_path):
    results.evaluate(world, run)
    path = ledger.record(run, tmp_path / "ledger")
    entry = json.loads(path.read_text())
    for wrong in ({}, entry["test"] | {"ndcg@5": float("nan")}):
        path.write_text(json.dumps(entry | {"test": wrong}))
        with pytest.raises(InputError, match=r"test(\.ndcg@5)? is missing or damaged"):
            ledger.records(tmp_path / "ledger")


@pytest.mark.parametrize("folder", ["results", "replication"])
def test_the_committed_ledgers_are_consistent(folder):
    """Every committed record's metrics follow from its committed ranks, and its reference is there too."""
    folder = ledger.FOLDER.parent / folder
    table = ledger.records(folder)
    assert len(table) > 0
    for row in table.itertuples():
        entry, ranks = ledger.entry(row.file, folder), ledger.ranks(row.file, folder)
        assert isinstance(ranks, pd.DataFrame) and entry["config_hash"] in row.file
        assert metrics.from_ranks(ranks["rank"].to_numpy()) == pytest.approx(entry["test"])
        assert metrics.from_ranks(ranks["rank_masked"].to_numpy()) == pytest.approx(entry["test_masked"])
        kind = KINDS[entry["stage"]]
        today = build(kind, entry["config"]).model_dump(mode="json")
        assert _restrict(today, entry["config"]) == entry["config"], "today's code can repeat it"
        assert not entry["commit"].endswith("+"), "recorded from committed code"
        if entry["stage"] == "align":
            assert entry["reference"] in set(table["id"])


def _restrict(config: dict, keys: dict) -> dict:
    """What a configuration says of the keys that another one has: later code may have added keys."""
    return {
        key: _restrict(config[key], value) if isinstance(value, dict) else config[key] for key, value in keys.items()
    }
