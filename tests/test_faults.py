"""Jobs that are killed, disks that are full, files that were cut short: nothing is lost."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import SMALL
from trust.faults import kill_all

from companion.evidence.ledger import Ledger
from companion.site import build as site
from rodpo_lite import files
from rodpo_lite.cli import main, train
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.engine import stream_seed
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.settings import build
from rodpo_lite.training import checkpoint, optimizers, results, runs, trainer


def test_killed_runs_end_like_one_that_was_not(tmp_path):
    """A sample; `make trust` kills more often, and evaluations, grids and builds of a book as well."""
    found = kill_all({"train": 2, "align": 1}, tmp_path, cold_share=0)
    assert found["kills"] == 3 and found["different"] == 0


def command(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """Exit code of the command line, run here, and what it says on the way out."""
    monkeypatch.setattr("sys.argv", ["rodpo", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code, capsys.readouterr().err
    return 0, capsys.readouterr().err


def raising(error: BaseException):
    def call(*arguments, **options):
        raise error

    return call


@pytest.fixture
def run(reference_folder, tmp_path):
    return shutil.copytree(reference_folder, tmp_path / "run")


@pytest.fixture
def unfinished(world, small_config, tmp_path):
    """A run that was stopped after its first epoch."""
    with pytest.raises(Stopped):
        runs.train(world, small_config, tmp_path / "run", report=raising(Stopped()))
    return tmp_path / "run"


class Stopped(BaseException):
    pass


def weights(folder) -> bytes:
    return (folder / checkpoint.MODEL).read_bytes()


def losses(folder) -> list[float]:
    """Of each epoch; other than the weights, which are the best epoch's, they tell whether the later ones differed."""
    return [json.loads(line)["loss"] for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_full_disk_is_named_and_leaves_what_was_there(world_folder, run, monkeypatch, capsys):
    evaluate = ("evaluate", "--data", world_folder, "--run", run)
    assert command(monkeypatch, capsys, *evaluate)[0] == 0
    before = {path: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setattr(os, "fsync", raising(OSError(errno.ENOSPC, "No space left on device")))
    assert command(monkeypatch, capsys, *evaluate) == (
        2, f"rodpo: No space left on device: {run / 'ranks.parquet'}.\n"
    )  # fmt: skip
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_named(world_folder, run, tmp_path, monkeypatch, capsys):
    locked = raising(OSError(errno.EROFS, "Read-only file system", f"{run}/.ranks.parquet-x1y2"))
    monkeypatch.setattr(files, "open", locked, raising=False)
    code, said = command(monkeypatch, capsys, "evaluate", "--data", world_folder, "--run", run)
    assert (code, said) == (2, f"rodpo: Read-only file system: {run / 'ranks.parquet'}.\n")


def test_a_full_disk_leaves_no_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "save", raising(OSError("64 requested and 0 written")))
    with pytest.raises(OSError, match="No space left on device") as caught:
        synthesise(tmp_path / "world", 3, WorldSizes(users=20, items=100, slate=20))
    assert caught.value.filename == str(tmp_path / "world") and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_damaged_checkpoint_is_refused_and_what_is_said_helps(how, world, small_config, unfinished, reference_folder):
    path = unfinished / checkpoint.CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if how == "cut" else whole[:-7] + bytes([whole[-7] ^ 64]) + whole[-6:])
    with pytest.raises(InputError, match=r"checkpoint.safetensors .* remove it and train again with --resume\.$"):
        runs.train(world, small_config, unfinished, resume=True)
    path.unlink()
    runs.train(world, small_config, unfinished, resume=True)
    assert weights(unfinished) == weights(reference_folder)


def test_a_model_that_was_cut_is_refused_and_what_is_said_helps(world, small_config, run, reference_folder):
    (run / checkpoint.MODEL).write_bytes(weights(run)[:-9])
    with pytest.raises(InputError, match=r"model.safetensors .* remove it and train again with --resume\.$"):
        runs.load(run, world)
    (run / checkpoint.MODEL).unlink()
    runs.train(world, small_config, run, resume=True)
    assert weights(run) == weights(reference_folder)


def test_a_history_that_was_cut(world, small_config, unfinished, reference_folder, tmp_path):
    """A run that goes on writes it again; of a finished one it is refused."""
    path = unfinished / checkpoint.HISTORY
    path.write_text(path.read_text()[:-40])
    runs.train(world, small_config, unfinished, resume=True)
    assert weights(unfinished) == weights(reference_folder)
    assert len(checkpoint.read_history(unfinished)) == small_config.training.epochs
    results.evaluate(world, unfinished)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match=r"history.jsonl must hold one JSON object for each epoch"):
        Ledger(tmp_path / "ledger").enter_run(unfinished)
    assert not (tmp_path / "ledger").exists()


def test_a_ledger_says_which_file_was_cut(world, run, tmp_path):
    results.evaluate(world, run)
    path = Ledger(tmp_path / "ledger").enter_run(run)
    stored = path.parent / "ranks" / f"{path.stem}.parquet"
    broken = ((stored, Ledger.differing), (path, lambda ledger: ledger.records), (path, Ledger.differing))
    for file, read in broken:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(InputError, match=file.name):
            read(Ledger(tmp_path / "ledger"))


def move_weights(folder) -> None:
    """Change the weights of a finished run, as training it again on another machine would."""
    tensors, state = checkpoint.read_tensors(folder / checkpoint.MODEL)
    tensors["items.id.weight"] += 0.01
    checkpoint.write_tensors(folder / checkpoint.MODEL, tensors, state)


def test_results_of_other_weights_do_not_enter_the_ledger(world, reference_folder, tmp_path):
    run, folder = tmp_path / "run", tmp_path / "ledger"
    runs.align(world, reference_folder, build(AlignmentConfig, {"training": {"epochs": 1}}), run)
    results.evaluate(world, run)
    measured = results.drift(world, run, reference_folder)
    move_weights(run)
    with pytest.raises(InputError, match=r"metrics.json is of .* other weights; run `rodpo evaluate` again\.$"):
        Ledger(folder).enter_run(run)
    results.evaluate(world, run)
    with pytest.raises(InputError, match=r"drift.json was measured on other weights; run `rodpo drift` again\.$"):
        Ledger(folder).enter_run(run)
    assert not folder.exists()
    again = results.drift(world, run, reference_folder)
    entry = files.read_json(Ledger(folder).enter_run(run))
    assert entry["drift"]["items"] == again["items"] != measured["items"]
    assert "weights" not in entry["drift"], "records are compared by what was measured"


@pytest.mark.parametrize(
    ("changes", "enters"), [({"config_hash": "0123456789ab"}, False), ({}, True)], ids=["of another run", "of its own"]
)
def test_results_that_do_not_name_their_weights(changes, enters, world, run, tmp_path):
    """As they were written before; that they are those of this run they say."""
    written = results.evaluate(world, run) | changes
    del written["weights"]
    files.write_json(run / "metrics.json", written)
    if enters:
        assert Ledger(tmp_path / "ledger").enter_run(run).is_file()
    else:
        with pytest.raises(InputError, match=r"metrics.json is of another run"):
            Ledger(tmp_path / "ledger").enter_run(run)


def test_a_run_folder_has_one_process_at_a_time(world, small_config, unfinished, reference_folder, tmp_path):
    with (
        files.exclusive(unfinished),
        pytest.raises(InputError, match=f"Another process trains in {unfinished}; wait for it"),
    ):
        runs.train(world, small_config, unfinished, resume=True)
    runs.train(world, small_config, unfinished, resume=True)
    assert weights(unfinished) == weights(reference_folder)
    with files.exclusive(tmp_path / "empty"):
        pass
    assert not (tmp_path / "empty").exists()


def as_on_a_gpu(unfinished) -> None:
    """Change the checkpoint into one that a GPU would have left, whose generators have states of 16 bytes."""
    tensors, state = checkpoint.read_checkpoint(unfinished)
    tensors["generator"] |= {name: torch.arange(16, dtype=torch.uint8) for name in ("order", "selection", "cuda")}
    state["stretches"][0] |= {"device": "cuda:0", "precision": "bf16", "commit": "0123456789ab"}
    checkpoint.write_checkpoint(unfinished, tensors, state)


def test_a_run_goes_on_on_another_device(world, reference_folder, tmp_path, monkeypatch):
    """What was drawn on the GPU is not known here; what is drawn instead follows from seed, use and epoch."""
    streams = []
    monkeypatch.setattr(trainer, "stream_seed", lambda *stream: streams.append(stream) or stream_seed(*stream))
    config = build(AlignmentConfig, {"training": {"epochs": 3, "batches_per_epoch": 4, "precision": "fp32"}})

    def align(name, **options):
        return runs.align(world, reference_folder, config, tmp_path / name, **options)

    align("whole")
    with pytest.raises(Stopped):
        align("first", report=raising(Stopped()))
    as_on_a_gpu(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    for name in ("first", "second"):
        with pytest.warns(Notice, match=r"another kind of device: from epoch 2 on, .* \(order, selection\) than there"):
            record = align(name, resume=True)
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    first, second, whole = (losses(tmp_path / name) for name in ("first", "second", "whole"))
    assert first == second and first[0] == whole[0] and first[1] != whole[1]
    assert [stream for stream in streams if 2 in stream] == [(0, "order", 2), (0, "selection", 2)] * 2
    assert (record["device"], record["precision"]) == ("cuda:0, cpu", "bf16, fp32")
    assert [(entry["from_epoch"], entry["device"]) for entry in record["stretches"]] == [(1, "cuda:0"), (2, "cpu")]


def test_each_stretch_of_a_run_says_what_computed_it(world, small_config, unfinished, reference_folder):
    """A stretch counts if it reached the end of an epoch."""
    begun = files.read_json(unfinished / "run.json")
    tensors, state = checkpoint.read_checkpoint(unfinished)
    state["stretches"][0]["commit"] = "0123456789ab"
    checkpoint.write_checkpoint(unfinished, tensors, state)
    with pytest.raises(Stopped):
        runs.train(world, small_config, unfinished, resume=True, progress=raising(Stopped()))
    record = runs.train(world, small_config, unfinished, resume=True)
    assert record == files.read_json(unfinished / "run.json") and record["commit"] == begun["commit"]
    made_by = {key: begun[key] for key in ("versions", "commit", "device", "precision", "machine")}
    first = made_by | {"from_epoch": 1, "commit": "0123456789ab"}
    assert record["stretches"] == [first, made_by | {"from_epoch": 2}]
    assert record["precision"] == begun["precision"], "which was the same in both"
    assert "stretches" not in files.read_json(reference_folder / "run.json")


def test_a_run_that_had_only_to_be_closed_is_not_computed_by_who_closes_it(world, small_config, tmp_path):
    last = small_config.training.epochs
    with pytest.raises(Stopped):
        runs.train(
            world, small_config, tmp_path / "run", report=lambda line: line["epoch"] < last or raising(Stopped())()
        )
    tensors, state = checkpoint.read_checkpoint(tmp_path / "run")
    state["stretches"][0]["commit"] = "0123456789ab"
    checkpoint.write_checkpoint(tmp_path / "run", tensors, state)
    record = runs.train(world, small_config, tmp_path / "run", resume=True)
    assert record["commit"] == "0123456789ab" and "stretches" not in record


# Waits between opening what it locks and locking it, and says whether it got the folder.
SLOW = """
import fcntl, sys, time
from pathlib import Path
from rodpo_lite import files
folder, opened, go = map(Path, sys.argv[1:])
flock = fcntl.flock

def slow(*arguments):
    opened.touch()
    while not go.exists():
        time.sleep(0.01)
    return flock(*arguments)

fcntl.flock = slow
try:
    with files.exclusive(folder):
        print("holds it" if (folder / files.LOCK).exists() else "holds nothing")
except files.InputError:
    print("refused")
"""


@pytest.mark.parametrize(("third", "expected"), [(False, "holds it"), (True, "refused")])
def test_a_process_that_opens_a_folder_as_another_leaves_it(third, expected, tmp_path):
    folder, opened, go = (tmp_path / name for name in ("run", "opened", "go"))
    with ExitStack() as held:
        with files.exclusive(folder):
            command = [sys.executable, "-c", SLOW, *map(str, (folder, opened, go))]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            while not opened.exists():
                assert process.poll() is None, "it has ended before it locks anything"
                time.sleep(0.01)
        if third:
            held.enter_context(files.exclusive(folder))
        go.touch()
        assert process.communicate(timeout=60)[0].strip() == expected
    assert not (folder / files.LOCK).exists()


def test_the_lock_of_a_killed_process_does_not_block_a_run(world, small_config, reference_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / files.LOCK).touch()
    runs.train(world, small_config, tmp_path / "run")
    assert weights(tmp_path / "run") == weights(reference_folder)
    assert not (tmp_path / "run" / files.LOCK).exists()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_what_is_written_is_as_private_as_the_user_wants(mask, tmp_path):
    before = os.umask(mask)
    try:
        files.write_bytes(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


OPENED = """
import sys
from pathlib import Path
from rodpo_lite.data.checks import read_parquet
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
print(len(read_parquet(Path(sys.argv[1]), "items.parquet")), [name for name in opened if name.endswith(".parquet")])
"""


def test_no_thread_of_pyarrow_holds_a_file_of_python(world, world_folder):
    """Two of 300 short commands aborted at their end, as such a thread let go of one that was no more."""
    done = subprocess.run([sys.executable, "-c", OPENED, str(world_folder)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{world.n_items} []\n"


def test_a_clock_that_goes_backwards(world, small_config, tmp_path, monkeypatch):
    clock = itertools.count(2e9, -1000)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    assert runs.train(world, small_config, tmp_path / "run")["seconds"] >= 0
    assert results.evaluate(world, tmp_path / "run")["seconds"] >= 0
    assert all(line["epoch_seconds"] >= 0 for line in checkpoint.read_history(tmp_path / "run"))


def test_a_diverging_run_names_its_configuration_and_what_is_kept(world, small_config, tmp_path, monkeypatch):
    monkeypatch.setitem(optimizers.SCHEDULES, "cosine", lambda *_: lambda step: 1 if step < 4 else 1e30)
    folder = tmp_path / "run"
    with pytest.raises(trainer.TrainingDiverged) as caught:
        runs.train(world, small_config, folder)
    said = str(caught.value)
    assert "epoch 2, step 2" in said and f"{folder / 'run.json'}" in said and "0.005" in said
    assert f"epoch 1 is kept in {folder / 'checkpoint.safetensors'}" in said
    assert (folder / "checkpoint.safetensors").exists()


@pytest.fixture
def heeded():
    """Ctrl-C is heeded; under a shell in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stops_in_a_sentence_and_the_run_goes_on(world_folder, tmp_path, monkeypatch, capsys, heeded):
    def training(out):
        return ("train", "--data", world_folder, "--out", out, *SMALL, "-o", "training.epochs=3", "--resume")

    assert command(monkeypatch, capsys, *training(tmp_path / "whole"))[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(train, "report", lambda line: signal.raise_signal(signal.SIGINT))
        code, said = command(monkeypatch, capsys, *training(tmp_path / "run"))
    assert code == 130 and said.startswith("rodpo: Stopped;") and said.count("\n") == 1
    assert len(checkpoint.read_history(tmp_path / "run")) == 1 and not (tmp_path / "run" / checkpoint.MODEL).exists()
    assert command(monkeypatch, capsys, *training(tmp_path / "run"))[0] == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_site_that_was_being_replaced_is_there_again(tmp_path):
    (tmp_path / "_build" / ".html.old").mkdir(parents=True)
    with pytest.raises(InputError, match="run this in the project"):
        site.build(tmp_path)
    assert (tmp_path / "_build" / "html").is_dir()


def test_a_site_that_was_being_written_is_written_whole(tmp_path, monkeypatch):
    """Sphinx goes by the age of a page, so it would keep one that is half-written."""
    monkeypatch.setattr(site.subprocess, "run", raising(Stopped()))
    page = tmp_path / "sphinx" / "half.html"
    page.parent.mkdir()
    page.write_text("ha")
    with pytest.raises(Stopped):
        site._render(tmp_path)
    assert page.exists()
    monkeypatch.setattr(site.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    site._render(tmp_path)
    assert not page.exists() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("log", "builds"), [("KeyError: 'toc'", 2), ("page.md: WARNING: no such file", 1)])
def test_a_build_that_stumbles_over_older_state_starts_anew_but_a_warning_stands(tmp_path, monkeypatch, log, builds):
    found = []

    def stumble(*_, **__):
        found.append((tmp_path / "sphinx" / "older").exists())
        return SimpleNamespace(returncode=len(found) == 1, stdout="", stderr=log)

    monkeypatch.setattr(site.subprocess, "run", stumble)
    (tmp_path / "sphinx").mkdir()
    (tmp_path / "sphinx" / "older").touch()
    if builds == 1:
        with pytest.raises(site.BookError, match="no such file"):
            site._render(tmp_path)
    else:
        site._render(tmp_path)
    assert found == [True, False][:builds]
