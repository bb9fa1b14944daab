"""Seeds trained side by side are the seeds trained one after the other."""

import itertools
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from command_line import SMALL, assert_refused, rodpo

from rodpo_lite import files
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.settings import build
from rodpo_lite.training import runs
from rodpo_lite.training.alignment import AlignmentObjective
from rodpo_lite.training.checkpoint import read_history
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.replicas import Stack, can_stack, fit_together
from rodpo_lite.training.trainer import Trainer, TrainingDiverged

SEEDS = (3, 1, 4)
ENCODER = {"width": 8, "max_length": 12, "dropout": 0.3}
TOWERS = {"base": "towers", "fusion": "mlp", "placeholder": True}


def initial(world, encoder, seed) -> Recommender:
    torch.manual_seed(seed)
    return Recommender.for_dataset(EncoderConfig(**encoder), world)


def references(
    world, folder: Path, encoder=ENCODER, contrasts=None, dtype=torch.float64, **training
) -> list[Trainer]:  # fmt: skip
    """A trainer for each seed."""
    training = {"epochs": 3, "batches_per_epoch": 4, "precision": "fp32", "device": "cpu", **training}
    found = []
    for seed in SEEDS:
        config = build(ReferenceConfig, {"seed": seed, "encoder": encoder, "training": training, **(contrasts or {})})
        model = initial(world, encoder, seed).to(dtype)
        objective = ReferenceObjective(model, world, config, config.training.engine())
        found.append(trainer(objective, world, config, folder))
    return found


def alignments(world, folder: Path) -> list[Trainer]:
    """A trainer for each seed that aligns an untrained model with a top-K pool, in float64."""
    found = []
    for seed in SEEDS:
        training = {"epochs": 2, "batches_per_epoch": 4, "precision": "fp32", "device": "cpu"}
        config = build(AlignmentConfig, {"seed": seed, "training": training, "negatives": {"k": 5}})
        generator = torch.Generator().manual_seed(seed)
        policy, reference = (initial(world, ENCODER, seed).double() for _ in range(2))
        objective = AlignmentObjective(policy, reference, world, config, generator)
        found.append(trainer(objective, world, config, folder, generator))
    return found


def trainer(objective, world, config, folder, generator=None) -> Trainer:
    own = folder / str(config.seed)
    own.mkdir(parents=True, exist_ok=True)
    generator = generator or torch.Generator().manual_seed(config.seed)
    return Trainer(objective, world, config, own, generator)


def assert_same(apart: list[Trainer], together: list[Trainer]) -> None:
    for one, other in zip(apart, together, strict=True):
        for key, value in one.model.state_dict().items():
            torch.testing.assert_close(other.model.state_dict()[key], value, rtol=1e-6, atol=1e-9, msg=key)
        for of_one, of_other in zip(one.history, other.history, strict=True):
            assert of_one["valid"] == of_other["valid"]
            assert of_one["loss"] == pytest.approx(of_other["loss"], rel=1e-9)


@pytest.mark.parametrize("kind", ["fused", "towers", "contrasts", "long", "aligned"])
def test_together_is_apart(world, tmp_path, kind):
    def make(folder: Path) -> list[Trainer]:
        if kind == "aligned":
            return alignments(world, folder)
        if kind == "contrasts":
            weights = {"id_contrast": {"weight": 0.1}, "placeholder_contrast": {"weight": 0.1}}
            return references(world, folder, ENCODER | TOWERS, weights)
        if kind == "long":  # sequences longer than a bin
            return references(world, folder, ENCODER | {"max_length": 200})
        return references(world, folder, ENCODER | (TOWERS if kind == "towers" else {}))

    apart, together = make(tmp_path / "apart"), make(tmp_path / "together")
    found = [one.fit(resume=False) for one in apart]
    for best, other in zip(found, fit_together(together, resume=False), strict=True):
        assert best["epoch"] == other["epoch"]
    assert_same(apart, together)
    assert len({one.history[-1]["loss"] for one in together}) == len(SEEDS), "the seeds differ"


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.01)])
def test_losses_agree_as_far_as_is_promised(precision, tolerance, world, tmp_path):
    options = {"dtype": torch.float32, "precision": precision}
    apart, together = (references(world, tmp_path / name, **options) for name in ("apart", "together"))
    for one in apart:
        one.fit(resume=False)
    fit_together(together, resume=False)
    for one, other in zip(apart, together, strict=True):
        losses = [[line["loss"] for line in trainer.history] for trainer in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=tolerance)


def test_one_whose_patience_runs_out_leaves_the_others_alone(world, tmp_path):
    options = {"patience": 1, "epochs": 8, "learning_rate": 0.3}
    apart, together = (references(world, tmp_path / name, **options) for name in ("apart", "together"))
    for one in apart:
        one.fit(resume=False)
    assert len({len(one.history) for one in apart}) > 1, "they stop at different epochs"
    fit_together(together, resume=False)
    assert_same(apart, together)


def test_a_killed_run_of_several_goes_on_to_the_same_weights(world, tmp_path):
    whole, cut = (references(world, tmp_path / name) for name in ("whole", "cut"))
    fit_together(whole, resume=False)

    class Killed(Exception):
        pass

    def kill(line) -> None:
        if line["epoch"] == 2:
            raise Killed

    cut[1].report = kill  # after the first has saved its second epoch, and before the third has
    with pytest.raises(Killed):
        fit_together(cut, resume=False)
    resumed = references(world, tmp_path / "cut")
    fit_together(resumed, resume=True)
    assert_same(whole, resumed)


def test_one_that_diverges_stops_them_all_with_a_clear_sentence(world, tmp_path):
    several = references(world, tmp_path)
    with torch.no_grad():
        several[1].model.items.id.weight.fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="not finite"):
        fit_together(several, resume=False)


def test_a_stack_computes_what_its_models_do_also_after_they_have_changed(world):
    models = [initial(world, ENCODER, seed).double().eval() for seed in SEEDS]
    batches = [*itertools.islice(PackedSequences.for_training(world, ENCODER["max_length"]).epoch(300), len(SEEDS))]

    def alone():
        return [model(batch).hidden.detach() for model, batch in zip(models, batches, strict=True)]

    def together():
        return [encoding.hidden.detach() for encoding in stack.encode(batches, [nullcontext()] * len(SEEDS))]

    before = alone()
    stack = Stack(models)
    torch.testing.assert_close(together(), before)
    for model in models:
        move(model)
    torch.testing.assert_close(together(), alone())
    assert all((one - other).abs().max() > 0.1 for one, other in zip(alone(), before, strict=True))


def move(model: Recommender) -> None:
    """Change every weight in its place, as an optimizer does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=parameter.dtype))


def test_runs_that_share_their_time_state_a_share_of_it(world, tmp_path):
    """Their steps take turns, so that each epoch takes what all of them take."""
    training = {"epochs": 2, "batches_per_epoch": 2, "device": "cpu"}
    configs = [build(ReferenceConfig, {"seed": seed, "encoder": ENCODER, "training": training}) for seed in (1, 2)]
    folders = [tmp_path / "1", tmp_path / "2"]

    def slow(batches, **_):
        for batch in batches:
            time.sleep(0.15)
            yield batch

    for record, folder in zip(runs.train_seeds(world, configs, folders, progress=slow), folders, strict=True):
        seconds = sum(line["epoch_seconds"] for line in read_history(folder))
        assert seconds > 0.5 and record["seconds"] == round(seconds / 2, 3)


@pytest.mark.parametrize(
    ("encoder", "training", "possible"),
    [({}, {}, True), ({"fusion": "moe"}, {}, False), ({"feedforward": "moe"}, {}, False), ({}, {"loss": "bce"}, False)],
)
def test_what_can_be_stacked(world, tmp_path, encoder, training, possible):
    several = references(world, tmp_path, ENCODER | encoder, **training)
    assert [can_stack(one) for one in several] == [possible] * len(SEEDS)


def test_seeds_by_command_are_those_trained_alone(world_folder, tmp_path):
    """Three seeds side by side, one of them there already; then aligned side by side."""
    common = ["--data", world_folder, *SMALL, "-o", "training.precision=fp32"]
    assert rodpo("train", *common, "-o", "seed=2", "--out", tmp_path / "alone").returncode == 0
    assert rodpo("train", *common, "-o", "seed=1", "--out", tmp_path / "several-1").returncode == 0
    result = rodpo("train", *common, "--seeds", "1,2,3", "--out", tmp_path / "several-{seed}")
    assert result.returncode == 0, result.stderr
    assert [line.split(":")[0][-1] for line in result.stdout.splitlines() if "best epoch" in line] == ["1", "2", "3"]
    alone, together = (files.read_json(tmp_path / name / "run.json") for name in ("alone", "several-2"))
    assert alone["config_hash"] == together["config_hash"]
    assert alone["valid"]["ndcg@5"] == pytest.approx(together["valid"]["ndcg@5"], abs=0.01)
    command = ["align", "--data", world_folder, "--seeds", "2,3", "-o", "training.epochs=1"]
    folders = ["--reference", tmp_path / "several-{seed}", "--out", tmp_path / "aligned-{seed}"]
    result = rodpo(*command, *folders)
    assert result.returncode == 0, result.stderr
    for seed in (2, 3):
        record = files.read_json(tmp_path / f"aligned-{seed}" / "run.json")
        of_reference = files.read_json(tmp_path / f"several-{seed}" / "run.json")
        assert (record["seed"], record["reference"]) == (seed, of_reference["config_hash"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", "1,x", "--out", "run-{seed}"], "not a list of different whole numbers"),
        (["--seeds", "1,1", "--out", "run-{seed}"], "not a list of different whole numbers"),
        (["--seeds", "1,2", "--out", "run"], "put {seed} into run"),
        (["--seeds", "1,2", "--out", "run-{seed}", "-o", "seed=3"], "leave one out"),
    ],
)
def test_bad_seeds(arguments, expected, world_folder, tmp_path):
    arguments = [str(tmp_path / part) if part.startswith("run") else part for part in arguments]
    expected = expected.replace("into run", f"into {tmp_path / 'run'}")
    assert_refused(rodpo("train", "--data", world_folder, *arguments), expected)
    assert not list(tmp_path.iterdir())
