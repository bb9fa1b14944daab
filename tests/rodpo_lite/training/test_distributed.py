"""Two processes over gloo give what one process gives on the same global batches."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from command_line import assert_refused, rodpo
from safetensors.torch import load_file

from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.errors import InputError
from rodpo_lite.training import runs

KEYS = ["encoder.width=16", "encoder.max_length=12", "encoder.dropout=0", "training.batches_per_epoch=4",
        "training.learning_rate=5e-3", "training.precision=fp32", "training.device=cpu"]  # fmt: skip


def arguments(data, out, *options, epochs=3):
    keys = [*KEYS, f"training.epochs={epochs}", *options]
    return ["train", "--data", data, "--out", out, *(part for key in keys for part in ("-o", key))]


def together(*command) -> list[subprocess.CompletedProcess]:
    """The command in two processes that are told of one another as torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda rank: rodpo(*command, **shared, RANK=rank, LOCAL_RANK=rank), ("0", "1")))


def test_torchrun_starts_it(world_folder, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rodpo_lite"]
    command = [sys.executable, *launcher, *map(str, arguments(world_folder, tmp_path / "run", epochs=1))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch   1") == 1, "one of the processes reports"


@pytest.mark.parametrize("options", [(), ("encoder.fusion=moe", "encoder.experts=4")])
def test_two_processes_train_what_one_trains(options, world_folder, tmp_path):
    alone = rodpo(*arguments(world_folder, tmp_path / "one", *options))
    first, second = together(*arguments(world_folder, tmp_path / "two", *options))
    assert alone.returncode == first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.count("epoch   3") == 1 and second.stdout == "", "one of the processes reports"
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in one:
        if name.endswith("qkv.bias"):  # a key's bias changes no softmax: its gradient is rounding, which Adam blows up
            one[name], two[name] = (torch.cat(bias.chunk(3, -1)[::2]) for bias in (one[name], two[name]))
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
    lines = [[json.loads(line) for line in (tmp_path / n / "history.jsonl").open()] for n in ("one", "two")]
    for single, shared in zip(*lines, strict=True):
        assert shared["loss"] == pytest.approx(single["loss"], rel=1e-4)
    assert json.loads((tmp_path / "two/run.json").read_text())["processes"] == 2


def test_a_sampled_loss_trains_in_two_processes(world_folder, tmp_path):
    for found in together(*arguments(world_folder, tmp_path / "two", "training.loss=sampled", "training.sampled=40")):
        assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in (tmp_path / "two/history.jsonl").open()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_refusal_reaches_every_process(world_folder, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/something").write_text("else")
    for found in together(*arguments(world_folder, tmp_path / "taken")):
        assert_refused(found, "not empty and not a run folder")
    for found in together(*arguments(world_folder, tmp_path / "run", "training.batches_per_epoch=200")):
        assert_refused(found, "fewer users than there are processes (2)")


def test_an_alignment_refuses_to_share(world, reference_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="in one process"):
        runs.align(world, reference_folder, AlignmentConfig(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shares_make_up_the_batch(world):
    sequences = PackedSequences.for_training(world, 12)
    for whole, *shares in zip(
        sequences.epoch(200, torch.Generator().manual_seed(1)),
        *(sequences.epoch(200, torch.Generator().manual_seed(1), part, 3) for part in range(3)),
        strict=True,
    ):
        rows = torch.cat([share.rows for share in shares])
        assert torch.equal(rows.sort().values, whole.rows.sort().values)
        sizes = [len(share.items) for share in shares]
        assert max(sizes) - min(sizes) <= int(whole.lengths[0])
