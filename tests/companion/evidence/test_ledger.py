"""The ledger: finished and evaluated runs only, never changed."""

import json
import shutil
import subprocess

import pandas as pd
import pytest

from companion.evidence.ledger import FOLDER, Ledger
from companion.evidence.record import Record
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
    path = Ledger(tmp_path / "ledger").enter_run(run)
    assert Ledger(tmp_path / "ledger").enter_run(run) == path, "recording twice changes nothing"
    (row,) = Ledger(tmp_path / "ledger").records.itertuples()
    assert (row.dataset, row.stage, row.strategy, row.seed) == ("synthetic", "reference", "reference", 0)
    found = metrics.from_ranks(Ledger(tmp_path / "ledger").ranks(row.file)["rank"].to_numpy())
    entry = Record.read(tmp_path / "ledger" / row.file)
    assert entry.test == found
    for key in ("config", "config_hash", "versions", "commit", "device", "seconds", "dataset", "curve"):
        assert getattr(entry, key)


def test_a_baseline_enters_with_its_ranks(world, tmp_path):
    record, ranks = results.evaluate_baseline(world, "popularity")
    path = Ledger(tmp_path / "ledger").enter_baseline(record, ranks)
    (row,) = Ledger(tmp_path / "ledger").records.itertuples()
    assert (row.file, row.stage, row.strategy) == (path.name, "baseline", "popularity")
    kept = Ledger(tmp_path / "ledger").ranks(path.name)
    assert kept["rank"].tolist() == ranks["rank"].clip(upper=255).tolist()
    with pytest.raises(InputError, match=f"{tmp_path / 'ledger'}.*stage is missing"):
        Ledger(tmp_path / "ledger").enter_baseline({key: record[key] for key in record if key != "stage"}, ranks)


def test_users_are_described_once_by_history_and_popularity(world, tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    path = ledger.enter_users(world)
    assert path == tmp_path / "ledger" / "users" / f"{world.name}.parquet"
    users, before = ledger.users(world.name), path.stat().st_mtime_ns
    for user in range(0, world.n_users, 17):
        *known, _, target = world.items[world.offsets[user] : world.offsets[user + 1]]
        training = [world.items[first : end - 2] for first, end in zip(world.offsets, world.offsets[1:])]
        assert users.loc[user, "history"] == len(known) + 1, "what the test item is predicted from"
        assert users.loc[user, "popularity"] == sum((items == target).sum() for items in training)
    ledger.enter_users(world)
    assert path.stat().st_mtime_ns == before


def test_runs_are_found_by_configuration_whatever_the_seed(world, small_config, run, tmp_path):
    results.evaluate(world, run)
    Ledger(tmp_path / "ledger").enter_run(run)
    ledger = Ledger(tmp_path / "ledger")
    assert len(ledger.of(small_config.model_copy(update={"seed": 7}))) == 1
    assert ledger.of(ReferenceConfig()).empty and ledger.of(AlignmentConfig()).empty


def test_an_alignment_is_found_with_the_encoder_of_its_reference(world, small_config, reference_folder, tmp_path):
    config = build(AlignmentConfig, {"training": {"epochs": 1, "batches_per_epoch": 2}})
    runs.align(world, reference_folder, config, tmp_path / "run")
    results.evaluate(world, tmp_path / "run")
    Ledger(tmp_path / "ledger").enter_run(tmp_path / "run")
    ledger = Ledger(tmp_path / "ledger")
    assert len(ledger.of(config, small_config.encoder)) == 1 and ledger.of(config).empty


def test_an_experiment_enters_once_even_if_a_later_key_gave_it_another_id(world, run, tmp_path):
    results.evaluate(world, run)
    path = Ledger(tmp_path / "ledger").enter_run(run)
    entry = json.loads((run / "run.json").read_text())
    del entry["config"]["encoder"]["placeholder"], entry["encoder"]["placeholder"]
    (run / "run.json").write_text(json.dumps(entry | {"config_hash": "0123456789ab"}))
    evaluated = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(evaluated | {"config_hash": "0123456789ab"}))
    assert Ledger(tmp_path / "ledger").enter_run(run) == path
    assert len(list((tmp_path / "ledger").glob("*.json"))) == 1


def test_drift_enters_with_the_run(world, reference_folder, tmp_path):
    config = build(AlignmentConfig, {"training": {"epochs": 1, "batches_per_epoch": 2}})
    runs.align(world, reference_folder, config, tmp_path / "run")
    found = results.drift(world, tmp_path / "run", reference_folder)
    assert found["exclude"] == "train" and found["future"]["users"] > 10
    results.evaluate(world, tmp_path / "run")
    path = Ledger(tmp_path / "ledger").enter_run(tmp_path / "run")
    assert json.loads(path.read_text())["drift"] == {key: found[key] for key in found if key != "weights"}
    (tmp_path / "run" / "drift.json").unlink()
    assert Ledger(tmp_path / "ledger").enter_run(tmp_path / "run") == path, "it has what it needs"
    write_json(tmp_path / "run" / "drift.json", found | {"commit": "a later one"})
    assert Ledger(tmp_path / "ledger").enter_run(tmp_path / "run") == path, "whoever measured it"
    write_json(tmp_path / "run" / "drift.json", found | {"future": {"difference": 7.0, "users": 1}})
    with pytest.raises(InputError, match="another drift"):
        Ledger(tmp_path / "ledger").enter_run(tmp_path / "run")
    write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "drift"})
    (tmp_path / "run" / "drift.json").unlink()
    results.drift(world, tmp_path / "run", reference_folder)
    with pytest.raises(InputError, match="another drift for the same run, or none"):
        Ledger(tmp_path / "ledger").enter_run(tmp_path / "run")
    with pytest.raises(InputError, match="is a reference"):
        results.drift(world, reference_folder, reference_folder)


def test_a_folder_without_records_is_no_ledger(tmp_path):
    assert Ledger.open().folder == FOLDER
    with pytest.raises(InputError, match=f"no run ledger in {tmp_path}"):
        Ledger.open(str(tmp_path))


def test_without_a_checkout_the_folder_is_to_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr("companion.evidence.ledger.FOLDER", tmp_path / "data" / "results")
    with pytest.raises(
        InputError, match=r"^The project's run ledger is in its checkout, .* name a folder with --ledger"
    ):
        Ledger()
    assert Ledger(tmp_path).folder == tmp_path


def test_unfinished_and_unevaluated_runs_stay_out(run, tmp_path):
    with pytest.raises(InputError, match="was not evaluated on test"):
        Ledger(tmp_path / "ledger").enter_run(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has not finished"):
        Ledger(tmp_path / "ledger").enter_run(run)
    assert not (tmp_path / "ledger").exists()


@pytest.mark.parametrize("protocol", ["unmasked", "masked"])
def test_the_ledger_is_append_only(world, run, tmp_path, protocol):
    results.evaluate(world, run)
    path = Ledger(tmp_path / "ledger").enter_run(run)
    before = path.read_bytes()
    found = json.loads((run / "metrics.json").read_text())
    found[protocol]["ndcg@5"] += 0.1
    (run / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="append-only"):
        Ledger(tmp_path / "ledger").enter_run(run)
    assert path.read_bytes() == before


@pytest.mark.parametrize("column", ["rank", "own_above"])
def test_ranks_that_cannot_be_are_refused(tmp_path, column):
    (tmp_path / "ranks").mkdir()
    table = pd.DataFrame({"rank": [3, 0], "own_above": [3, 0]})
    table.to_parquet(tmp_path / "ranks" / "run.parquet")
    assert Ledger(tmp_path).ranks("run.json")["rank_masked"].tolist() == [0, 0]
    table[column] = [0, 4] if column == "own_above" else [-1, 0]
    table.to_parquet(tmp_path / "ranks" / "run.parquet")
    with pytest.raises(InputError, match=r"run.parquet is damaged"):
        Ledger(tmp_path).ranks("run.json")


def test_a_record_that_lacks_a_metric_is_none(world, run, tmp_path):
    results.evaluate(world, run)
    path = Ledger(tmp_path / "ledger").enter_run(run)
    entry = json.loads(path.read_text())
    for wrong in ({}, entry["test"] | {"ndcg@5": float("nan")}):
        path.write_text(json.dumps(entry | {"test": wrong}))
        with pytest.raises(InputError, match=r"test(\.ndcg@5)? is missing or damaged"):
            assert Ledger(tmp_path / "ledger").records is None


COMMITTED = ["results", "replication", *(f"again/{path.name}" for path in (FOLDER.parent / "again").glob("*-*-*"))]


@pytest.mark.parametrize("folder", COMMITTED)
def test_the_committed_ledgers_are_consistent(folder):
    """Every committed record's metrics follow from its committed ranks, and its reference is there too."""
    ledger = Ledger(FOLDER.parent / folder)
    table = ledger.records
    assert len(table) > 0
    for row in table.itertuples():
        entry, ranks = Record.read(ledger.folder / row.file), ledger.ranks(row.file)
        assert isinstance(ranks, pd.DataFrame) and entry.config_hash in row.file
        assert metrics.from_ranks(ranks["rank"].to_numpy()) == pytest.approx(entry.test)
        assert metrics.from_ranks(ranks["rank_masked"].to_numpy()) == pytest.approx(entry.test_masked)
        kind = KINDS[entry.stage]
        today = build(kind, entry.config).model_dump(mode="json")
        assert _restrict(today, entry.config) == entry.config, "today's code can repeat it"
        assert not entry.commit.endswith("+"), "recorded from committed code"
        if entry.stage == "align":
            assert entry.reference in set(table["id"])


@pytest.mark.parametrize("folder", ["results", "replication"])
def test_a_record_is_written_as_it_was_read(folder):
    paths = Ledger(FOLDER.parent / folder).paths()
    assert len(paths) >= 25
    for path in paths:
        values = json.loads(path.read_text())
        assert Record.read(path).model_dump(mode="json", exclude_unset=True) == values, path.name


def test_what_was_read_is_kept_until_it_is_forgotten(ledger):
    before = len(ledger.records)
    (ledger.folder / "world-align-topk1.json").unlink()
    assert len(ledger.records) == len(ledger.by_file) == before, "as it was read"
    ledger.forget()
    assert len(ledger.records) == len(ledger.by_file) == before - 1


def test_what_a_killed_write_left_is_no_record(ledger):
    left = ledger.folder / ".world-align-topk1.json-x7_k2"
    left.write_text("{")
    (ledger.folder / ".world-align-topk1-x7_k2.json").write_text("{")
    assert len(ledger.paths()) == len(ledger.records) == 18
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", FOLDER / left.name, FOLDER / "ranks" / left.name],
        cwd=FOLDER, capture_output=True, text=True,
    )  # fmt: skip
    assert len(ignored.stdout.splitlines()) == 2, "git would add it, and every chapter would be stale"


def _restrict(config: dict, keys: dict) -> dict:
    """What a configuration says of the keys that another one has: later code may have added keys."""
    return {
        key: _restrict(config[key], value) if isinstance(value, dict) else config[key] for key, value in keys.items()
    }
