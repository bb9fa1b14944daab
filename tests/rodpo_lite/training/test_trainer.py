"""Training and alignment: what must be learnt is learnt, the same seed gives the same run, and a kill loses nothing."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.schema import read_dataset, write_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.recommend import recommend
from rodpo_lite.losses.preference import LOSSES
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.sampling.selectors import SELECTORS
from rodpo_lite.settings import build
from rodpo_lite.training import checkpoint, results, runs
from rodpo_lite.training.alignment import AlignmentObjective
from rodpo_lite.training.optimizers import constant, cosine, optimizers
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.trainer import Trainer, TrainingDiverged


def align_config(**values) -> AlignmentConfig:
    training = {"epochs": 2, "batches_per_epoch": 4, **values.pop("training", {})}
    return build(AlignmentConfig, {"training": training, **values})


@pytest.fixture(scope="module")
def checkerboard(tmp_path_factory):
    """Black and white items in a fixed cycle each: from any item, the right next item is certain."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(300):
        colour, start, length = user % 2, rng.integers(0, 10), rng.integers(5, 10)
        rows += [(user, 2 * ((start + p) % 10) + colour, p) for p in range(length)]
    interactions = pd.DataFrame(rows, columns=["user", "item", "position"])
    folder = tmp_path_factory.mktemp("worlds") / "checkerboard"
    return read_dataset(write_dataset(folder, "checkerboard", interactions, pd.DataFrame({"item": range(20)})))


def test_a_checkerboard_world_is_learnt(checkerboard, tmp_path):
    config = build(
        ReferenceConfig,
        {
            "encoder": {"width": 32, "dropout": 0.0},
            "training": {"epochs": 30, "batches_per_epoch": 6, "learning_rate": 3e-3, "patience": 30},
        },
    )
    runs.train(checkerboard, config, tmp_path / "run")
    found = results.evaluate(checkerboard, tmp_path / "run")
    assert found["unmasked"]["ndcg@5"] > 0.95
    # The items cycle through 10 per colour and a history holds at most 8, so the target is never in it.
    assert found["masked"]["ndcg@5"] >= found["unmasked"]["ndcg@5"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(world, small_config, reference_folder, tmp_path):
    again = runs.train(world, small_config, tmp_path / "again")
    other = runs.train(world, build(ReferenceConfig, small_config.model_dump() | {"seed": 1}), tmp_path / "other")
    first = load_file(reference_folder / "model.safetensors")
    assert again["config_hash"] != other["config_hash"]
    assert all(
        torch.equal(first[name], value) for name, value in load_file(tmp_path / "again/model.safetensors").items()
    )
    assert again["valid"] == json.loads((reference_folder / "run.json").read_text())["valid"] != other["valid"]


def batch_of(world, positions):
    """About so many training positions of whole users, the first ones."""
    split = leave_one_out(world)
    return next(PackedSequences(world.items, split.start, split.train_end - 1, 12).epoch(positions))


class Killed(BaseException):
    pass


def test_each_use_of_random_numbers_has_a_stream_of_its_own(world, small_config, tmp_path, monkeypatch):
    """Weights, batch order, selection and dropout of two seeds begin with eight different generators."""
    begun, manual_seed = [], torch.manual_seed

    def fit(trainer, resume):
        dropout = torch.Generator()
        dropout.set_state(trainer.random.states["global"])
        begun.extend(generator.initial_seed() for generator in (trainer.order, trainer.generator, dropout))
        raise Killed

    monkeypatch.setattr(torch, "manual_seed", lambda seed: begun.append(seed) or manual_seed(seed))
    monkeypatch.setattr(Trainer, "fit", fit)
    for seed in (0, 1):
        with pytest.raises(Killed):
            runs.train(world, build(ReferenceConfig, small_config.model_dump() | {"seed": seed}), tmp_path / str(seed))
    assert len(begun) == len(set(begun)) == 8


@pytest.mark.parametrize("stage", ["reference", "align"])
@pytest.mark.parametrize("moment", ["in an epoch", "after an epoch"])
def test_a_killed_run_resumes_to_identical_weights(
    stage, moment, world, small_config, reference_folder, tmp_path, monkeypatch
):
    def run(out, **options):
        if stage == "reference":
            return runs.train(world, small_config, out, **options)
        return runs.align(world, reference_folder, align_config(), out, **options)

    whole, calls = run(tmp_path / "whole"), []

    def kill_in_an_epoch(batches, **_):
        for step, batch in enumerate(batches):
            calls.append(step)
            if len(calls) > 4 + 2:
                raise Killed
            yield batch

    def kill_after_an_epoch(line):
        raise Killed

    lines = [json.loads(line) for line in (tmp_path / "whole/history.jsonl").read_text().splitlines()]
    hook = {"progress": kill_in_an_epoch} if moment == "in an epoch" else {"report": kill_after_an_epoch}
    with pytest.raises(Killed):
        run(tmp_path / "killed", **hook)
    assert not (tmp_path / "killed/model.safetensors").exists()
    with pytest.raises(InputError, match="--resume"):
        run(tmp_path / "killed")
    resumed = run(tmp_path / "killed", resume=True)
    assert resumed["valid"] == whole["valid"]
    assert [json.loads(line)["loss"] for line in (tmp_path / "killed/history.jsonl").read_text().splitlines()] == [
        line["loss"] for line in lines
    ]
    expected = load_file(tmp_path / "whole/model.safetensors")
    found = load_file(tmp_path / "killed/model.safetensors")
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (tmp_path / "killed/checkpoint.safetensors").exists()


def test_the_best_validation_epoch_is_kept(world, reference_folder):
    record = json.loads((reference_folder / "run.json").read_text())
    lines = checkpoint.read_history(reference_folder)
    best = max(lines, key=lambda line: line["valid"]["ndcg@5"])
    assert record["best_epoch"] == best["epoch"] and record["valid"] == best["valid"]
    assert results.evaluate(world, reference_folder, "valid")["unmasked"] == best["valid"]


def test_the_history_of_a_run(world, reference_folder):
    history = runs.load(reference_folder, world).history
    assert history.index.tolist() == [1, 2, 3] and (history["loss"].diff().dropna() < 0).all()


@pytest.mark.parametrize("name", ["none", *SELECTORS])
def test_every_strategy_aligns(name, world, reference_folder, tmp_path):
    negatives = {"name": name, "candidates": 20}
    record = runs.align(world, reference_folder, align_config(negatives=negatives), tmp_path / "run")
    line = json.loads((tmp_path / "run/history.jsonl").read_text().splitlines()[-1])
    assert record["reference"] == json.loads((reference_folder / "run.json").read_text())["config_hash"]
    if name == "none":
        assert "loss_preference" not in line and line["loss"] == pytest.approx(line["loss_ce"])
    else:
        assert line["loss"] == pytest.approx(line["loss_preference"] + line["loss_ce"], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "srns"])
def test_a_sample_that_holds_nothing_to_reject(name, world, reference_folder):
    """A sample of one item may be the positive, or the user's own: then any other item is rejected."""
    negatives = {"name": name, "pool": "sample", "k": 2, "candidates": 5}
    config = align_config(negatives=negatives, training={"loss": "sampled", "sampled": 1, "device": "cpu"})
    policy, reference = (runs.load(reference_folder, world).model for _ in range(2))
    objective = AlignmentObjective(policy, reference, world, config, torch.Generator().manual_seed(0))
    batch, split, within = batch_of(world, 10_000), leave_one_out(world), set()
    users = batch.user_of_position.tolist()
    owned = {user: {*world.items[split.start[user] : split.train_end[user]].tolist()} for user in users}
    for _ in range(3):
        step = objective.prepare(batch)
        losses = objective.losses(step, policy(step.inputs, step.items))
        losses["loss"].backward()
        assert torch.isfinite(losses["loss"])
        sample = {*step.shortlist.items[step.shortlist.candidates].tolist()}
        for user, item in zip(users, objective.state["last_negative"][batch.rows].tolist(), strict=True):
            assert 0 <= item < world.n_items and item not in owned[user]
            assert item in sample or not sample - owned[user]
            within.add(item in sample)
    assert within == {False, True}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_aligns(name, world, reference_folder, tmp_path):
    config = align_config(loss={"name": name}, negatives={"n": 3, "candidates": 20})
    runs.align(world, reference_folder, config, tmp_path / "run")
    line = json.loads((tmp_path / "run/history.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["loss_preference"]) and line["loss_preference"] != 0


@pytest.mark.parametrize("name", ["uniform", "hard", "topk"])
def test_alignment_moves_the_positive_away_from_the_rejected(name, world, reference_folder, tmp_path):
    """In eval mode, against the reference's five best candidates (`uniform`: against all items).

    The training margin would not do: dropout blurs it, and a negative picked for its blurred score looks better than it
    is.
    """
    config = align_config(negatives={"name": name}, training={"lambda_ce": 0.0, "learning_rate": 1e-3, "epochs": 3})
    runs.align(world, reference_folder, config, tmp_path / "run")
    policy, reference = runs.load(tmp_path / "run", world).model, runs.load(reference_folder, world).model
    batch = batch_of(world, 10_000)
    positives = torch.as_tensor(world.items)[batch.rows + 1]
    with torch.no_grad():
        after, before = ((hidden @ vectors.T) for hidden, vectors, *_ in (policy(batch), reference(batch)))
    negatives = before.scatter(1, positives[:, None], -torch.inf).topk(149 if name == "uniform" else 5).indices
    change = after - before
    assert (change.gather(1, positives[:, None]) - change.gather(1, negatives)).mean() > 0


def test_alignment_starts_at_log_2_and_never_touches_the_reference(world, reference_folder, tmp_path):
    reference = runs.load(reference_folder, world)
    policy = runs.load(reference_folder, world).model.eval()
    before = {name: value.clone() for name, value in reference.model.state_dict().items()}
    config = align_config(training={"lambda_ce": 0.0})
    generator = torch.Generator().manual_seed(0)
    reference.model.train()  # whatever mode it comes in, its states are those of eval mode
    objective = AlignmentObjective(policy, reference.model, world, config, generator)
    trainer = Trainer(objective, world, config, tmp_path, generator)
    batch = next(trainer.sequences.epoch(300))
    losses = objective(batch)
    assert losses["loss"].item() == pytest.approx(np.log(2), rel=1e-6)
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in reference.model.parameters())
    trainer.fit(resume=False)
    assert all(torch.equal(before[name], value) for name, value in reference.model.state_dict().items())


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_can_be_left_out_of_the_alignment(dropout, world, reference_folder, tmp_path):
    """Without it the first step starts exactly at the reference, so the loss is log 2; with it the margin is noise."""
    training = {"epochs": 1, "batches_per_epoch": 1, "lambda_ce": 0.0, "dropout": dropout}
    runs.align(world, reference_folder, align_config(training=training), tmp_path / "run")
    line = json.loads((tmp_path / "run/history.jsonl").read_text())
    assert (abs(line["margin"]) > 1e-3) == dropout
    assert (line["loss"] == pytest.approx(np.log(2), rel=1e-6)) != dropout


def test_an_alignment_is_named_after_the_weights_it_starts_from(world, small_config, reference_folder, tmp_path):
    """Two machines may train the same configuration to different weights: what follows is not the same run."""
    twin = shutil.copytree(reference_folder, tmp_path / "twin")
    weights, state = checkpoint.read_tensors(twin / checkpoint.MODEL)
    weights["items.id.weight"][0, 0] += 1e-3
    checkpoint.write_tensors(twin / checkpoint.MODEL, weights, state)
    one = runs.align(world, reference_folder, align_config(), tmp_path / "one")
    other = runs.align(world, twin, align_config(), tmp_path / "other")
    assert one["reference"] == other["reference"]
    assert one["reference_weights"] != other["reference_weights"] and one["config_hash"] != other["config_hash"]


def selecting(policy, reference, world, **negatives) -> AlignmentObjective:
    """An objective whose negatives are looked at."""
    config = align_config(training={"lambda_ce": 0.0}, negatives={"exclude": "none", **negatives})
    return AlignmentObjective(policy, reference, world, config, torch.Generator().manual_seed(0))


def rejected_by(objective, batch):
    """The items that a step rejects, [P]."""
    objective(batch)["loss"].backward()
    return objective.state["last_negative"][batch.rows]


def scores_without_positives(model, world, batch):
    with torch.no_grad():
        hidden, vectors, *_ = model(batch)
    positives = torch.as_tensor(world.items)[batch.rows + 1]
    return (hidden @ vectors.T).scatter(1, positives[:, None], -torch.inf)


def assert_hardest(items, scores):
    torch.testing.assert_close(scores.gather(1, items[:, None])[:, 0], scores.amax(1))


def move(policy) -> None:
    """Give a model weights that have nothing to do with those before."""
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(7))


def test_static_pools_follow_the_reference_and_dynamic_ones_the_policy(world, reference_folder):
    reference, policy = (runs.load(reference_folder, world).model for _ in range(2))
    move(policy)
    batch = batch_of(world, 100)
    for name, model in (("hard", policy), ("static_hard", reference)):
        items = rejected_by(selecting(policy, reference, world, name=name), batch)
        assert_hardest(items, scores_without_positives(model, world, batch))


def test_a_pool_refreshed_per_epoch_is_uniform_first_and_then_that_of_the_epochs_start(world, reference_folder):
    reference, policy = (runs.load(reference_folder, world).model for _ in range(2))
    batch = batch_of(world, 300)
    objective = selecting(policy, reference, world, name="hard", refresh="epoch")
    before = scores_without_positives(policy, world, batch)
    objective.start_epoch(1)
    first = rejected_by(objective, batch)
    assert (before.gather(1, first[:, None])[:, 0] < before.amax(1)).float().mean() > 0.9
    objective.start_epoch(2)
    move(policy)
    assert_hardest(rejected_by(objective, batch), before)
    objective.start_epoch(3)
    now = scores_without_positives(policy, world, batch)
    assert (now.argmax(1) != before.argmax(1)).float().mean() > 0.9, "the policy has moved"
    assert_hardest(rejected_by(objective, batch), now)


def test_the_validation_item_counts_as_what_the_user_takes_later(world, reference_folder, tmp_path):
    """Of what the user takes later, nothing else is eligible: that is drawn as often as any other item."""
    config = align_config(negatives={"name": "uniform", "n": 800}, training={"epochs": 1})
    runs.align(world, reference_folder, config, tmp_path / "run")
    (line,) = checkpoint.read_history(tmp_path / "run")
    split, chances = leave_one_out(world), []
    for user in range(world.n_users):
        owned = {*world.items[split.start[user] : split.train_end[user]].tolist()}
        later = world.items[split.train_end[user]] not in owned
        length = min(split.train_end[user] - split.start[user] - 1, 12)
        chances += [later / (world.n_items - len(owned))] * length
    assert line["future_rate"] == pytest.approx(np.mean(chances), rel=0.05) and line["past_rate"] == 0


def test_alignment_pushes_apart_exactly_the_selected_pairs(world, reference_folder):
    """At policy = reference each pair's gradient on the scores is ±β/2 over the number of positions."""
    reference = runs.load(reference_folder, world)
    policy = runs.load(reference_folder, world).model.eval()
    config = align_config(
        training={"lambda_ce": 0.0}, loss={"beta": 0.8}, negatives={"name": "hard", "exclude": "none"}
    )
    objective = AlignmentObjective(policy, reference.model, world, config, torch.Generator())
    batch = batch_of(world, 50)
    objective(batch)["loss"].backward()
    hidden, vectors = (tensor.detach() for tensor in policy(batch)[:2])
    positives = torch.as_tensor(world.items)[batch.rows + 1]
    scores = hidden @ vectors.T
    scores.scatter_(1, positives[:, None], -torch.inf)
    hardest = scores.argmax(1)
    twin = runs.load(reference_folder, world).model.eval()
    h, v, *_ = twin(batch)
    push = 0.8 / 2 / len(positives)
    (push * ((h * v[hardest]).sum() - (h * v[positives]).sum())).backward()
    for one, other in zip(policy.parameters(), twin.parameters()):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-7)


def test_a_diverging_run_says_where(world, small_config, tmp_path):
    training = small_config.training.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 2, .* which is 1e\+30 \(no epoch was finished\)"):
        runs.train(world, small_config.model_copy(update={"training": training}), tmp_path / "run")


def test_a_run_that_diverges_in_its_last_step_says_so_too(world, small_config, tmp_path):
    training = small_config.training.model_copy(
        update={"learning_rate": 1e30, "warmup": 0.0, "batches_per_epoch": 1, "epochs": 2}
    )
    with pytest.raises(TrainingDiverged, match="After epoch 1"):
        runs.train(world, small_config.model_copy(update={"training": training}), tmp_path / "run")


def test_one_user_with_two_training_items_is_enough(tmp_path):
    rows = [(user, item, item) for user, length in enumerate((3, 4, 3)) for item in range(length)]
    interactions = pd.DataFrame(rows, columns=["user", "item", "position"])
    folder = write_dataset(tmp_path / "least", "least", interactions, pd.DataFrame({"item": range(4)}))
    config = build(ReferenceConfig, {"encoder": {"width": 8}, "training": {"epochs": 1}})
    assert runs.train(read_dataset(folder), config, tmp_path / "run")["epochs_run"] == 1


def test_a_user_who_owns_everything_leaves_nothing_to_reject(tmp_path):
    rows = [(0, i % 5, i) for i in range(9)] + [(1, i, i) for i in range(5)]
    interactions = pd.DataFrame(rows, columns=["user", "item", "position"])
    dataset = read_dataset(write_dataset(tmp_path / "d", "full", interactions, pd.DataFrame({"item": range(5)})))
    config = build(ReferenceConfig, {"encoder": {"width": 8}, "training": {"epochs": 1}})
    runs.train(dataset, config, tmp_path / "reference")
    with pytest.raises(InputError, match="User 0 has the whole catalogue"):
        runs.align(dataset, tmp_path / "reference", align_config(negatives={"k": 2}), tmp_path / "a")
    # K is not asked for where it is not used.
    runs.align(dataset, tmp_path / "reference", align_config(negatives={"name": "none", "k": 20}), tmp_path / "b")


def test_every_epoch_serves_all_users_in_another_order(world, small_config, tmp_path):
    objective = ReferenceObjective(Recommender.for_dataset(small_config.encoder, world), world, small_config)
    trainer = Trainer(objective, world, small_config, tmp_path, torch.Generator())
    trainer.start(resume=False)
    first, second = ([batch.users.tolist() for batch in trainer.batches()] for _ in range(2))
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == trainer.sequences.users.tolist()
    assert all(set(one) != set(other) for one, other in zip(first, second, strict=True)), (
        "batches differ by their users"
    )


@pytest.mark.parametrize("sparse", [False, True])
def test_weights_without_a_gradient_decay(sparse, world, small_config):
    model = Recommender.for_dataset(small_config.encoder, world)
    model.items.id.sparse = sparse
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    training = small_config.training.model_copy(update={"weight_decay": 0.5, "id_learning_rate": 3.0})
    adam, *_ = optimizers(model, training)
    for group in adam.param_groups:
        group["lr"] = group["initial_lr"]
    adam.step()
    for name, value in model.named_parameters():
        of_id = name == "items.id.weight"
        kept = 1 if of_id and sparse else 1 - 0.5 * training.learning_rate * (3 if of_id else 1)
        torch.testing.assert_close(value, before[name] * kept, msg=name)


def test_the_schedule_rises_then_decays_to_zero():
    rate = cosine(100, 0.1)
    values = [rate(step) for step in range(101)]
    assert values[0] == pytest.approx(0.1) and values[9] == values[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))
    assert values[100] == pytest.approx(0)


def test_a_constant_rate_rises_and_stays():
    rate = constant(100, 0.1)
    assert [rate(step) for step in (0, 4, 9, 10, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1])
    assert constant(100, 0.0)(0) == 1


def test_the_last_epoch_is_kept_where_that_is_asked_for(world, small_config, tmp_path):
    training = small_config.training.model_dump() | {"epochs": 6, "learning_rate": 0.03, "patience": 1}
    kept = {}
    for measure in ("last", "ndcg@5"):
        config = build(ReferenceConfig, small_config.model_dump() | {"training": training | {"select_by": measure}})
        kept[measure] = runs.train(world, config, tmp_path / measure)["best_epoch"]
    assert kept["last"] == 6 == len(checkpoint.read_history(tmp_path / "last")) and kept["ndcg@5"] < 6


@pytest.mark.parametrize("measure", ["ndcg@20", "masked.ndcg@5"])
def test_the_epoch_that_is_kept_is_best_by_the_metric_that_was_asked_for(measure, world, small_config, tmp_path):
    training = small_config.training.model_dump() | {"select_by": measure, "epochs": 6, "learning_rate": 0.03}
    record = runs.train(
        world, build(ReferenceConfig, small_config.model_dump() | {"training": training}), tmp_path / "a"
    )
    part, name = ("valid_masked", "ndcg@5") if measure.startswith("masked") else ("valid", measure)
    lines = checkpoint.read_history(tmp_path / "a")
    assert record[part][name] == max(line[part][name] for line in lines)
    with pytest.raises(
        InputError, match=r"training\.select_by = 'ndcg@6' is not valid: allowed are hr@10, hr@20, hr@5"
    ):
        build(ReferenceConfig, {"training": {"select_by": "ndcg@6"}})


def test_a_batch_can_be_given_in_positions(world, small_config, tmp_path):
    n_positions = PackedSequences.for_training(world, 12).n_positions
    training = small_config.training.model_dump() | {"batch_positions": n_positions // 7, "epochs": 1}
    served = []

    def progress(batches, total, **_):
        served.append(total)
        return batches

    config = build(ReferenceConfig, small_config.model_dump() | {"training": training})
    runs.train(world, config, tmp_path / "a", progress=progress)
    assert served == [7]


def test_a_users_own_dataset_goes_all_the_way(plain_folder, tmp_path):
    dataset = read_dataset(plain_folder)
    config = build(ReferenceConfig, {"encoder": {"width": 8}, "training": {"epochs": 2}})
    runs.train(dataset, config, tmp_path / "reference")
    align = align_config(negatives={"k": 5})
    runs.align(dataset, tmp_path / "reference", align, tmp_path / "aligned")
    assert results.evaluate(dataset, tmp_path / "aligned")["n_users"] == 60
    best = recommend(runs.load(tmp_path / "aligned", dataset).model, dataset, user=3, top=4)
    assert len(best) == 4 and best["score"].is_monotonic_decreasing
    assert not set(best["item"].astype(int)) & set(dataset.items[dataset.offsets[3] : dataset.offsets[4]])
    assert all(title.startswith(("thing", "item")) for title in best["title"])


def test_a_run_of_another_dataset_is_refused(plain_folder, reference_folder):
    with pytest.raises(InputError, match="belongs to the dataset synthetic"):
        runs.load(reference_folder, read_dataset(plain_folder))


@pytest.mark.real_data
def test_a_real_dataset_trains_and_aligns(real_data, tmp_path):
    """One short epoch of each stage on Toys: better than popularity-free chance by far."""
    toys = read_dataset(real_data / "toys")
    config = build(ReferenceConfig, {"encoder": {"width": 16, "blocks": 1}, "training": {"epochs": 1}})
    runs.train(toys, config, tmp_path / "reference")
    found = runs.align(
        toys,
        tmp_path / "reference",
        align_config(training={"epochs": 1, "batches_per_epoch": 48}),
        tmp_path / "aligned",
    )
    assert found["valid"]["hr@10"] > 20 * 10 / toys.n_items
