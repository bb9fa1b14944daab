"""The same seed gives the same bits on one machine, and nearly the same numbers with other threads or processors."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

# A reference of 24 steps and an alignment of 24, in 32 bits, with dropout, mixtures and a pool.
JOB = """
import sys
from pathlib import Path
import torch
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.settings import build
from rodpo_lite.training import runs

world, folder = read_dataset(Path(sys.argv[1])), Path(sys.argv[2])
training = {"precision": "fp32", "epochs": 3, "batches_per_epoch": 8, "learning_rate": 2e-3}
encoder = {"width": 32, "dropout": 0.2, "fusion": "moe", "experts": 4}
runs.train(world, build(ReferenceConfig, {"encoder": encoder, "training": training}), folder / "reference")
settings = {"training": training | {"dropout": True}, "negatives": {"name": "topk", "k": 10, "n": 2}}
runs.align(world, folder / "reference", build(AlignmentConfig, settings), folder / "aligned")
print(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
"""
LOSSES = 1e-5  # how far losses may be apart, relative to themselves
WEIGHTS = 1e-3  # and weights, relative to the largest of their tensor


def run(world_folder, folder, **environment) -> tuple[str, list[dict], dict[str, torch.Tensor]]:
    """What it ran on, the lines of both histories, and the weights of both runs."""
    command = [sys.executable, "-c", JOB, str(world_folder), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    history, weights = [], {}
    for stage in ("reference", "aligned"):
        history += map(json.loads, (folder / stage / "history.jsonl").read_text().splitlines())
        tensors = load_file(folder / stage / "model.safetensors")
        for name, value in tensors.items():
            if name.endswith("qkv.bias"):  # the keys' part cancels in the softmax: what moves it is rounding alone
                value.chunk(3, -1)[1].zero_()
            weights[f"{stage}.{name}"] = value
    return done.stdout.strip(), history, weights


@pytest.fixture(scope="module")
def once(world_folder, tmp_path_factory):
    return run(world_folder, tmp_path_factory.mktemp("determinism"))


def test_the_same_bits_in_another_process(once, world_folder, tmp_path):
    _, _, weights = run(world_folder, tmp_path)
    assert list(weights) == list(once[2])
    assert all(torch.equal(value, once[2][name]) for name, value in weights.items())


@pytest.mark.parametrize(
    "environment", [{"OMP_NUM_THREADS": "2"}, {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}],
    ids=["two threads", "another processor"],
)  # fmt: skip
def test_nearly_the_same_elsewhere(environment, once, world_folder, tmp_path):
    """More threads, or a processor without vector units, add in another order: within tolerance after 48 steps."""
    where, history, weights = run(world_folder, tmp_path, **environment)
    assert where != once[0], "it ran in the same way"
    for line, other in zip(once[1], history, strict=True):
        losses = [name for name in line if name.startswith("loss")]
        assert [line[name] for name in losses] == pytest.approx([other[name] for name in losses], rel=LOSSES)
    far = {name: ((value - once[2][name]).abs().max() / value.abs().max()).item() for name, value in weights.items()}
    assert max(far.values()) < WEIGHTS, far
