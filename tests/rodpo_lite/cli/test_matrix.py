"""Every selector with every loss, on both bases, dense and with sparse mixtures, from the command line."""

import json
import math
import sys
import warnings

import pytest

from rodpo_lite import cli
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.losses.preference import LOSSES
from rodpo_lite.sampling.selectors import SELECTORS

SMALL = ["-o", "training.epochs=1", "-o", "training.batches_per_epoch=1"]
MIXTURES = ["-o", "encoder.fusion=moe", "-o", "encoder.feedforward=moe", "-o", "encoder.experts=3"]
ENCODERS = {
    "fused": [],
    "fused with mixtures": MIXTURES,
    "towers": ["-o", "encoder.base=towers", "-o", "encoder.fusion=interactive"],
    "towers with mixtures": ["-o", "encoder.base=towers", *MIXTURES],
}


@pytest.fixture(scope="module")
def tiny_world(tmp_path_factory):
    """A world so small that 480 alignments of it take a minute."""
    return synthesise(tmp_path_factory.mktemp("worlds") / "tiny", 0, WorldSizes(users=20, items=100, slate=30))


def rodpo(monkeypatch, *arguments) -> None:
    """The command line as `rodpo` starts it, in this process: a fresh one would import torch 480 times."""
    monkeypatch.setattr(sys, "argv", ["rodpo", *map(str, arguments)])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    cli.main()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_selector_runs_with_every_loss(encoder, tiny_world, tmp_path, monkeypatch, capsys):
    sizes = ["-o", "encoder.width=8", "-o", "encoder.blocks=1", "-o", "encoder.expert_width=4"]
    reference = tmp_path / "reference"
    rodpo(monkeypatch, "train", "--data", tiny_world, "--out", reference, *SMALL, *sizes, *ENCODERS[encoder])
    run = ["align", "--data", tiny_world, "--reference", reference]
    for selector in SELECTORS:
        for loss in LOSSES:
            out = tmp_path / f"{selector}-{loss}"
            chosen = ["-o", f"negatives.name={selector}", "-o", f"loss.name={loss}", "-o", "negatives.n=2"]
            rodpo(monkeypatch, *run, "--out", out, *SMALL, *chosen, "-o", "negatives.candidates=10")
            record, line = (json.loads((out / name).read_text()) for name in ("run.json", "history.jsonl"))
            assert (record["config"]["negatives"]["name"], record["config"]["loss"]["name"]) == (selector, loss)
            assert math.isfinite(line["loss_preference"]) and line["loss_preference"] != 0
            assert ("loss_balance" in line) == ("mixtures" in encoder)
    assert capsys.readouterr().err == ""
