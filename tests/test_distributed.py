"""Two processes over gloo give what one process gives on the same global batches."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from rodpo_lite import runs
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.errors import InputError

KEYS = ["encoder.width=16", "encoder.max_length=12", "encoder.dropout=0", "training.batches_per_epoch=4",
        "training.learning_rate=5e-3", "training.precision=fp32", "training.device=cpu"]  # fmt: skip


def train(data, out, *options, processes=1, epochs=3, **environment):
    command = ["-m", "rodpo_lite", "train", "--data", str(data), "--out", str(out)]
    for key in [*KEYS, f"training.epochs={epochs}", *options]:
        command += [key] if key.startswith("--") else ["-o", key]
    launcher = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    else:
        environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        [sys.executable, *launcher, *command], capture_output=True, text=True, env=os.environ | environment
    )


@pytest.mark.parametrize("options", [(), ("encoder.fusion=moe", "encoder.experts=4")])
def test_two_processes_train_what_one_trains(options, world_folder, tmp_path):
    alone = train(world_folder, tmp_path / "one", *options)
    together = train(world_folder, tmp_path / "two", *options, processes=2)
    assert alone.returncode == together.returncode == 0, together.stderr
    assert together.stdout.count("epoch   3") == 1, "one of the processes reports"
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in one:
        if name.endswith("qkv.bias"):  # a key's bias changes no softmax: its gradient is rounding, which Adam blows up
            one[name], two[name] = (torch.cat([bias.chunk(3)[0], bias.chunk(3)[2]]) for bias in (one[name], two[name]))
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
    lines = [[json.loads(line) for line in (tmp_path / n / "history.jsonl").open()] for n in ("one", "two")]
    for single, shared in zip(*lines, strict=True):
        assert shared["loss"] == pytest.approx(single["loss"], rel=1e-4)
    assert json.loads((tmp_path / "two/run.json").read_text())["processes"] == 2


def test_a_sampled_loss_trains_in_two_processes(world_folder, tmp_path):
    found = train(world_folder, tmp_path / "two", "training.loss=sampled", "training.sampled=40", processes=2)
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in (tmp_path / "two/history.jsonl").open()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_refusal_reaches_every_process(world_folder, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/something").write_text("else")
    found = train(world_folder, tmp_path / "taken", processes=2)
    assert found.returncode != 0 and "not empty and not a run folder" in found.stderr
    found = train(world_folder, tmp_path / "run", "training.batches_per_epoch=200", processes=2)
    assert found.returncode != 0 and "fewer users than there are processes (2)" in found.stderr


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
