"""Bad input by command: exit 2, one sentence that names it, and nothing left behind."""

import json
from pathlib import Path

import pytest
from command_line import assert_refused, rodpo


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "trainig.epochs=3"], ["Unknown key 'trainig'", "training.epochs"]),
        (["-o", "training.epoch=3"], ["Unknown key 'training.epoch'"]),
        (["-o", "seed=1:30"], ["seed = '1:30'", "integer"]),
        (["-o", "training.epochs=many"], ["training.epochs = 'many'", "integer"]),
        (["-o", "training.learning_rate=-1"], ["training.learning_rate = -1", "greater than 0"]),
        (["-o", "negatives.k=3"], ["belongs to the other stage", "`rodpo align`"]),
        (["-o", "training.lambda_ce=1"], ["belongs to the other stage", "`rodpo align`"]),
        (["-o", "encoder.heads=3"], ["encoder.heads = 3", "must divide width 64"]),
        (["-o", "encoder.fusion=interactive"], ["encoder.fusion = 'interactive'", "encoder.base = towers"]),
        (["-o", "encoder.experts_per_row=9"], ["encoder.experts_per_row = 9", "encoder.experts = 8"]),
        (["-o", "seed"], ["takes key=value"]),
        (["--config", "missing.yaml"], ["missing.yaml cannot be read"]),
        (["--preset", "hm4"], ["There is no preset 'hm4'; there is hm4sr, recommended."]),
        (["--preset", "recommended"], ["belongs to the other stage", "`rodpo align`"]),
        (["--nonsense"], ["No such option"]),
    ],
)
def test_bad_training_input(arguments, expected, world_folder, tmp_path):
    assert_refused(
        rodpo("train", "--data", world_folder, "--out", tmp_path / "run", *arguments, cwd=tmp_path), *expected
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "hm4sr"], ["encoder", "`rodpo train`"]),
        (["-o", "negatives.name=toppk"], ["negatives.name = 'toppk'", "none, uniform, popularity", "topk"]),
        (["-o", "loss.name=dop"], ["loss.name = 'dop'", "dpo"]),
        (["-o", "negatives.k=151"], ["negatives.k = 151", "larger than the catalogue", "150 items"]),
        (["-o", "negatives.k=0"], ["negatives.k = 0"]),
        (["-o", "negatives.exclude=future"], ["negatives.exclude = 'future'"]),
        (["-o", "encoder.width=8"], ["belongs to the other stage", "`rodpo train`"]),
        (["-o", "negatives.name=none", "-o", "training.lambda_ce=0"], ["leaves nothing to train on"]),
    ],
)
def test_bad_alignment_input(arguments, expected, world_folder, reference_folder, tmp_path):
    result = rodpo(
        "align", "--data", world_folder, "--reference", reference_folder, "--out", tmp_path / "run", *arguments
    )
    assert_refused(result, *expected)
    assert list(tmp_path.iterdir()) == []


def test_bad_runs_and_folders(world_folder, plain_folder, reference_folder, tmp_path):
    assert_refused(rodpo("data", "check", tmp_path / "nowhere"), "There is no dataset folder")
    assert_refused(rodpo("train", "--data", tmp_path, "--out", tmp_path / "run"), "dataset.json is missing")
    assert_refused(rodpo("evaluate", "--data", world_folder, "--run", tmp_path), "not a run folder")
    assert_refused(rodpo("evaluate", "--data", plain_folder, "--run", reference_folder), "belongs to the dataset")
    assert_refused(
        rodpo("evaluate", "--data", world_folder, "--run", reference_folder, "--split", "dev"), "test, valid"
    )
    assert_refused(
        rodpo("recommend", "--data", world_folder, "--run", reference_folder, "--user", 200), "no user '200'"
    )
    assert_refused(rodpo("data", "synth", "--out", world_folder), "exists already")
    assert_refused(rodpo("train", "--data", world_folder, "--out", world_folder), "not a run folder")
    assert_refused(rodpo("train", "--data", world_folder, "--out", reference_folder), "holds another run")
    assert_refused(rodpo("grid", "verify", "--ledger", Path(__file__)), "There is no run ledger in")
    assert_refused(rodpo("grid", "collect", "--ledger", tmp_path / "nowhere"), "There is no run ledger in")
    assert not (tmp_path / "nowhere").exists()
    assert_refused(rodpo("check", cwd=tmp_path), "run this in the project's root folder")
    assert_refused(rodpo("book", "--profile", "fast", cwd=Path(__file__).parents[3]), "fast", "smoke")


def test_a_damaged_run_is_named(world_folder, reference_folder, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_bytes((reference_folder / "run.json").read_bytes())
    assert_refused(rodpo("evaluate", "--data", world_folder, "--run", damaged), "has not finished")
    whole = (reference_folder / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert_refused(rodpo("evaluate", "--data", world_folder, "--run", damaged), "damaged or cut short")
    (damaged / "model.safetensors").write_bytes(whole)
    (damaged / "run.json").write_text("{}")
    assert_refused(rodpo("evaluate", "--data", world_folder, "--run", damaged), "not the record of a run")
    other = json.loads((reference_folder / "run.json").read_text()) | {"config_hash": "0" * 12}
    (damaged / "run.json").write_text(json.dumps(other))
    assert_refused(rodpo("evaluate", "--data", world_folder, "--run", damaged), "belongs to another run")
