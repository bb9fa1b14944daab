"""The command line as a user meets it."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from command_line import SMALL, assert_refused, rodpo


def test_a_users_own_folder_goes_all_the_way(plain_folder, tmp_path):
    """No timestamps, no image, float16 text: train, align, evaluate and recommend by command, with the ids of users."""
    pd.DataFrame({"user": range(60), "id": [f"u{n}" for n in range(60)]}).to_parquet(plain_folder / "users.parquet")
    reference, aligned = tmp_path / "reference", tmp_path / "aligned"
    steps = [
        ["train", "--data", plain_folder, "--out", reference, *SMALL],
        ["align", "--data", plain_folder, "--reference", reference, "--out", aligned, "-o", "training.epochs=1"],
        ["evaluate", "--data", plain_folder, "--run", aligned],
        ["recommend", "--data", plain_folder, "--run", aligned, "--user", "u1"],
    ]
    for step in steps:
        result = rodpo(*step)
        assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 10


def test_towers_without_timestamps_print_one_notice(plain_folder, tmp_path):
    result = rodpo("train", "--data", plain_folder, "--out", tmp_path / "run", *SMALL, "-o", "encoder.base=towers")
    assert result.returncode == 0
    assert result.stderr == "rodpo: own has no timestamps, so the towers go without the temporal mixture.\n"


def test_litter_of_a_killed_write_does_not_block_a_run(world_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json-x1y2").write_text("half")
    assert rodpo("train", "--data", world_folder, "--out", tmp_path / "run", *SMALL).returncode == 0
    assert not list((tmp_path / "run").glob(".*"))


def test_from_data_to_recommendation(tmp_path):
    """The whole path by command, and metrics confirmed by an independent computation from ranks.parquet."""
    data, reference, aligned = tmp_path / "data", tmp_path / "reference", tmp_path / "aligned"
    made = rodpo("data", "synth", "--out", data, "--users", 150, "--items", 120)
    assert made.returncode == 0 and "150 users, 120 items" in made.stdout
    assert rodpo("data", "check", data).stdout == made.stdout
    trained = rodpo("train", "--data", data, "--out", reference, *SMALL)
    assert trained.returncode == 0 and trained.stderr == "" and "epoch   1" in trained.stdout
    again = rodpo("train", "--data", data, "--out", reference, *SMALL)
    assert again.returncode == 0 and "epoch   1" not in again.stdout, "a finished run is not repeated"
    assert_refused(rodpo("train", "--data", data, "--out", reference, *SMALL, "-o", "seed=4"), "holds another run")
    options = ["-o", "negatives.name=topk", "-o", "negatives.k=10", "-o", "training.epochs=1"]
    assert rodpo("align", "--data", data, "--reference", reference, "--out", aligned, *options).returncode == 0
    evaluated = rodpo("evaluate", "--data", data, "--run", aligned, "--record", "--ledger", tmp_path / "ledger")
    assert evaluated.returncode == 0 and "ndcg@5" in evaluated.stdout
    assert rodpo("evaluate", "--data", data, "--run", aligned, "--split", "valid").returncode == 0

    for suffix in ("", "_valid"):
        found = json.loads((aligned / f"metrics{suffix}.json").read_text())
        table = pd.read_parquet(aligned / f"ranks{suffix}.parquet")
        assert list(table.columns) == ["user", "rank", "rank_masked"] and table.user.tolist() == list(range(150))
        for name, column in (("unmasked", "rank"), ("masked", "rank_masked")):
            rank = table[column].to_numpy()
            for k in (5, 10, 20):
                hits = rank[rank < k]
                assert np.isclose(found[name][f"hr@{k}"], len(hits) / 150)
                assert np.isclose(found[name][f"ndcg@{k}"], np.sum(1 / np.log2(hits + 2)) / 150)
                assert np.isclose(found[name][f"mrr@{k}"], np.sum(1 / (hits + 1)) / 150)
    assert (table["rank_masked"] <= table["rank"]).all()

    run = json.loads((aligned / "run.json").read_text())
    assert run["config"]["negatives"]["k"] == 10 and run["versions"]["torch"] and run["dataset"]["checksums"]
    recommended = rodpo("recommend", "--data", data, "--run", aligned, "--user", 5, "--top", 3)
    assert recommended.returncode == 0 and len(recommended.stdout.splitlines()) == 3
    assert "model" in recommended.stdout, "titles are printed"


def test_a_diverged_run_exits_1_in_one_sentence(world_folder, tmp_path):
    result = rodpo(
        "train", "--data", world_folder, "--out", tmp_path / "run", *SMALL, "-o", "training.learning_rate=1e30"
    )
    assert result.returncode == 1 and "not finite at epoch 1" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["train"],
        ["align"],
        ["evaluate"],
        ["drift"],
        ["recommend"],
        ["book"],
        ["check"],
        ["data", "synth"],
        ["data", "fetch"],
    ],
)
def test_help_shows_an_example(command):
    result = rodpo(*command, "--help")
    assert result.returncode == 0 and f"rodpo {' '.join(command)}" in result.stdout


def test_help_loads_nothing_that_takes_long():
    code = "import sys, rodpo_lite.cli; print({'torch', 'numpy', 'pandas', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_training_and_recommending_load_no_compiler_no_widgets_and_no_pandas(world_folder, tmp_path, loss):
    places = ["--data", str(world_folder), "--out", str(tmp_path / "run")]
    train = ["train", *places, "-o", f"training.loss={loss}", *SMALL]
    code = f"import sys; from rodpo_lite.cli import main; sys.argv[1:] = {train!r}; main(); sys.argv[1:] = "
    code += f"{['recommend', *places[:2], '--run', places[3], '--user', '3']!r}; main(); "
    code += "print({'torch._dynamo', 'ipywidgets', 'scipy.sparse', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n") and len(done.stdout.splitlines()) == 13, done.stdout


def test_help_lists_every_selector_and_loss():
    from rodpo_lite.losses.preference import LOSSES
    from rodpo_lite.sampling.selectors import SELECTORS

    text = rodpo("align", "--help").stdout
    for key, names in (("negatives", SELECTORS), ("loss", LOSSES)):
        for name in names:
            assert f"{key}.name={name}:" in text.replace("\n", " "), name


def test_planted_positives_are_counted_from_the_command_line(world_folder, tmp_path):
    planted = tmp_path / "planted"
    assert rodpo("data", "plant", world_folder, "--out", planted, "--share", "0.1").returncode == 0
    train = rodpo("train", "--data", planted, "--out", tmp_path / "reference", *SMALL)
    assert train.returncode == 0, train.stderr
    small = ["-o", "training.epochs=1", "-o", "training.batches_per_epoch=4"]
    run = ["align", "--data", planted, "--reference", tmp_path / "reference", "--out", tmp_path / "hard"]
    found = rodpo(*run, *small, "-o", "negatives.name=hard")
    assert found.returncode == 0, found.stderr
    line = json.loads((tmp_path / "hard/history.jsonl").read_text())
    assert 0 < line["planted_rate"] < 0.5 and 0 < line["planted_share"] < 0.5
    refused = rodpo("data", "plant", world_folder, "--out", tmp_path / "other", "--share", "0.99")
    assert_refused(refused, "can be hidden", "--share")
    assert not (tmp_path / "other").exists()
