"""Run folders: what their records say, what is refused, and that a run computes as it was told."""

import itertools
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.synthetic import WorldSizes, synthesise
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json
from rodpo_lite.losses.sampled_softmax import Step, shortlist
from rodpo_lite.settings import build
from rodpo_lite.training import checkpoint, runs, trainer
from rodpo_lite.training.alignment import AlignmentObjective

SMALL = {"width": 16, "max_length": 12}


def _aligning(**keys):
    return build(AlignmentConfig, {"training": {"epochs": 1, "batches_per_epoch": 2}, **keys})


def test_a_record_says_which_epoch_and_how_long(world, small_config, tmp_path, monkeypatch):
    clock = itertools.count(0, 1.23456)  # seconds, by each look
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    told = []
    record = runs.train(world, small_config, tmp_path / "run", report=told.append)
    lines = checkpoint.read_history(tmp_path / "run")
    assert [line["epoch_seconds"] for line in lines] == [1.235] * 3, "thousandths"
    best = max(lines, key=lambda line: line["valid"]["ndcg@5"])
    assert (record["best_epoch"], record["epochs_run"], record["seconds"]) == (best["epoch"], 3, 3.705)
    assert record["valid_masked"] == best["valid_masked"]
    assert [(line["epoch"], line["epochs"]) for line in told] == [(1, 3), (2, 3), (3, 3)]


def test_what_stands_in_the_way_is_named(world, small_config, reference_folder):
    other = small_config.model_copy(update={"seed": 7})
    there = read_json(reference_folder / "run.json")["config_hash"]
    with pytest.raises(InputError, match=rf"holds another run \({there}\); choose another folder"):
        runs.train(world, other, reference_folder)


@pytest.mark.parametrize(("key", "name"), [("k", "topk"), ("skip", "rank_window"), ("candidates", "dns")])
def test_what_is_counted_must_fit_into_the_catalogue(key, name, world, reference_folder, tmp_path):
    def align(value):
        config = _aligning(negatives={"name": name, key: value})
        return runs.align(world, reference_folder, config, tmp_path / f"{value}")

    with pytest.raises(InputError, match=rf"negatives\.{key} = {world.n_items + 1} is larger than the catalogue"):
        align(world.n_items + 1)
    assert align(world.n_items)["best_epoch"] == 1, "the whole catalogue fits"


def test_a_run_multiplies_in_the_precision_that_it_was_given(world, small_config, reference_folder, tmp_path):
    found = {}
    for precision in ("fp32", "bf16"):
        training = small_config.training.model_copy(update={"precision": precision, "epochs": 1})
        runs.train(world, small_config.model_copy(update={"training": training}), tmp_path / precision)
        config = _aligning(training={"epochs": 1, "batches_per_epoch": 2, "precision": precision})
        runs.align(world, reference_folder, config, tmp_path / f"aligned-{precision}")
        for name in (precision, f"aligned-{precision}"):
            weights, _ = checkpoint.read_tensors(tmp_path / name / checkpoint.MODEL)  # the state names the run
            found[name] = torch.cat([weight.flatten() for weight in weights.values()])
    assert not torch.equal(found["fp32"], found["bf16"])
    assert not torch.equal(found["aligned-fp32"], found["aligned-bf16"])


def test_initial_weights_leave_other_random_numbers_alone(world, small_config):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (runs._initial(world, small_config).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_several_negatives_have_the_scores_of_the_policy(world, reference_folder):
    policy, reference = (runs.load(reference_folder, world).model for _ in range(2))
    config = _aligning(negatives={"n": 3})
    objective = AlignmentObjective(policy, reference, world, config, torch.Generator().manual_seed(0))
    batch = next(PackedSequences.for_training(world, 12).epoch(200))
    encoding = policy(batch)
    negatives = torch.randint(world.n_items, (len(batch.items), 3), generator=torch.Generator().manual_seed(0))
    targets = torch.as_tensor(world.items)[batch.rows + 1]
    found = objective._scores(Step(batch, targets), encoding, negatives)
    expected = (encoding.hidden @ encoding.vectors.T).gather(1, negatives)
    torch.testing.assert_close(found, expected)
    short = shortlist(batch.items, targets, negatives[:, 0].unique(), targets.new_empty(0))
    step = Step(batch, targets, short)
    encoding = policy(step.inputs, step.items)
    torch.testing.assert_close(objective._scores(step, encoding, negatives), expected)


def test_a_checkpoint_of_an_older_version_began_at_the_first_epoch(world, small_config, tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(world, small_config, tmp_path / "run", report=stop)
    tensors, state = checkpoint.read_checkpoint(tmp_path / "run")
    checkpoint.write_checkpoint(tmp_path / "run", tensors, {key: state[key] for key in state if key != "stretches"})
    record = runs.train(world, small_config, tmp_path / "run", resume=True)
    assert [entry["from_epoch"] for entry in record["stretches"]] == [1, 2]


def test_what_is_drawn_where_a_sample_holds_nothing_follows_from_its_generator(world, reference_folder):
    config = _aligning(negatives={"name": "topk", "pool": "sample", "k": 2}, training={"loss": "sampled", "sampled": 1})
    policy, reference = (runs.load(reference_folder, world).model for _ in range(2))
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        objective = AlignmentObjective(policy, reference, world, config, torch.Generator().manual_seed(0))
        step = objective.prepare(next(PackedSequences.for_training(world, 12).epoch(500)))
        objective.losses(step, policy.eval()(step.inputs, step.items))["loss"].backward()  # which notes what was drawn
        drawn.append(objective.state["last_negative"].clone())
    assert torch.equal(*drawn) and (drawn[0] >= 0).any(), "the same, and something"


def test_the_same_settings_on_other_data_are_another_run(world, small_config, reference_folder, tmp_path):
    other = read_dataset(synthesise(tmp_path / "other", seed=9, sizes=WorldSizes(users=60, items=100)))
    with pytest.raises(InputError, match="holds another run"):
        runs.train(other, small_config, reference_folder)


@pytest.mark.parametrize("stage", ["train", "align"])
def test_several_unfinished_runs_go_on_only_where_that_is_asked_for(stage, world, reference_folder, tmp_path):
    seeds, outs = (1, 2), [tmp_path / "1", tmp_path / "2"]
    training = {"epochs": 2, "batches_per_epoch": 2, "precision": "fp32"}
    if stage == "train":
        configs = [build(ReferenceConfig, {"seed": seed, "encoder": SMALL, "training": training}) for seed in seeds]
        start = partial(runs.train_seeds, world, configs, outs)
    else:
        configs = [_aligning(seed=seed, training=training) for seed in seeds]
        start = partial(runs.align_seeds, world, [reference_folder] * 2, configs, outs)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(report=stop)
    with pytest.raises(InputError, match="holds this run, unfinished; continue it with --resume"):
        start()
    assert [record["epochs_run"] for record in start(resume=True)] == [2, 2]


def test_seeds_are_trained_side_by_side(world, tmp_path, monkeypatch):
    together, fit = [], runs.fit_together
    monkeypatch.setattr(runs, "fit_together", lambda jobs, resume: together.append(len(jobs)) or fit(jobs, resume))
    training = {"epochs": 1, "batches_per_epoch": 2, "precision": "fp32"}
    configs = [build(ReferenceConfig, {"seed": seed, "encoder": SMALL, "training": training}) for seed in (1, 2)]
    runs.train_seeds(world, configs, [tmp_path / "1", tmp_path / "2"])
    runs.train(world, configs[0], tmp_path / "alone")
    assert together == [2]


def test_what_torchrun_may_not_start(world, small_config, reference_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "processes", lambda: 2)
    with pytest.raises(InputError, match=r"^Several seeds run in one process"):
        runs.train_seeds(world, [small_config] * 2, [tmp_path / "1", tmp_path / "2"])
    with pytest.raises(InputError, match=r"^An alignment runs in one process"):
        runs.align(world, reference_folder, _aligning(), tmp_path / "aligned")
