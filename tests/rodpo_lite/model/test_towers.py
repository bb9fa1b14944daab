"""HM4SR-like towers: scores, mixtures, times, missing modalities, and the way through every command."""

import itertools
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from companion.demonstrations.experts import expert_load
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.evaluation.ranking import encode_histories, rank_dataset
from rodpo_lite.evaluation.recommend import recommend
from rodpo_lite.losses.auxiliary import id_contrast
from rodpo_lite.model.attention import Layout
from rodpo_lite.model.capacity import dense_twin, parameter_counts
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.model.sequence import SequenceEncoder
from rodpo_lite.model.towers import InteractiveMixture, TemporalMixture, interval_rows
from rodpo_lite.settings import build
from rodpo_lite.training import results, runs
from rodpo_lite.training.reference import ReferenceObjective

DAY = 86_400
FUSIONS = ["linear", "mlp", "moe", "interactive"]


def towers(dataset, **parts) -> Recommender:
    torch.manual_seed(0)
    small = {"width": 8, "max_length": 12, "experts": 4, "expert_width": 8}
    return Recommender.for_dataset(EncoderConfig(base="towers", **small | parts), dataset).eval()


def batch_of(dataset, positions: float = 500) -> PackedBatch:
    split = leave_one_out(dataset)
    window = (split.start, split.train_end - 1)
    return next(PackedSequences(dataset.items, *window, 12, times=dataset.timestamps).epoch(positions))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_score_is_the_sum_over_towers(fusion, world):
    model, batch = towers(world, fusion=fusion), batch_of(world)
    catalogue = model.items()
    hidden, vectors, *_ = model(batch)
    inputs = model.sequence.time(catalogue.inputs[batch.items], batch)
    total = 0
    for number in range(3):
        part, tower = slice(8 * number, 8 * number + 8), SequenceEncoder(EncoderConfig(width=8, max_length=12)).eval()
        weights = model.sequence.encoder.state_dict()
        position = weights.pop("position.weight")[:, part]
        own = {name: weight[number : number + 1] for name, weight in weights.items()}
        tower.load_state_dict(own | {"position.weight": position})
        total = total + tower(inputs[:, part], batch, Layout.of(batch.lengths))[0] @ catalogue.vectors[:, part].T
    torch.testing.assert_close(hidden @ vectors.T, total)
    assert model.sequence.names == ["id", "image", "text"]
    assert torch.equal(vectors[:, :8], model.items.id.weight)
    assert torch.equal(vectors[:, 16:], model.items.modalities["text"]())
    assert torch.equal(catalogue.inputs, vectors) == (fusion == "linear")


def test_the_interactive_mixture_equals_its_definition():
    torch.manual_seed(0)
    mixture, rows = InteractiveMixture(3, 4), torch.randn(5, 12)
    torch.nn.init.normal_(mixture.gates[1].weight)
    for number in range(3):
        part = slice(4 * number, 4 * number + 4)
        gate = mixture.gates[number](rows[:, part]).softmax(1)
        expected = sum(gate[:, e, None] * expert(rows)[:, part] for e, expert in enumerate(mixture.experts))
        torch.testing.assert_close(mixture(rows)[:, part], expected)


def test_the_residual_starts_with_the_id_as_it_is(world):
    model = towers(world, fusion="interactive")
    inputs, vectors, _ = model.items()
    assert model.items.mixing.residual.tolist() == [0, 1, 1]
    assert torch.equal(inputs[:, :8], vectors[:, :8]) and not torch.equal(inputs[:, 8:16], vectors[:, 8:16])


@pytest.mark.parametrize("feedforward", ["dense", "moe"])
@pytest.mark.parametrize("fusion", ["interactive", "moe"])
def test_every_expert_is_saved_and_receives_gradient(fusion, feedforward, world):
    config = build(
        ReferenceConfig,
        {"encoder": {"base": "towers", "fusion": fusion, "feedforward": feedforward, "width": 8, "experts": 4}},
    )
    torch.manual_seed(0)
    model = Recommender.for_dataset(config.encoder, world)
    with torch.no_grad():
        model.items.mixing.residual.fill_(0.5)  # at 0 the ID's part of the mixture is out of the loss
    ReferenceObjective(model, world, config)(batch_of(world, 10_000))["loss"].backward()
    saved = model.state_dict()
    for name, parameter in model.named_parameters():
        assert name in saved
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert saved["sequence.time.experts"].shape == (4, 24)
    assert (model.sequence.time.experts.grad.abs().amax(1) > 0).all()


def test_no_position_sees_the_item_or_the_time_of_its_future(world):
    model, batch = towers(world, fusion="moe", feedforward="moe"), batch_of(world)
    last = int(batch.lengths[0]) - 1
    items, times = batch.items.clone(), batch.times.clone()
    items[last] = (items[last] + 1) % world.n_items
    times[last] += 50 * DAY
    with torch.no_grad():
        before = model(batch).hidden
        for changed in (replace(batch, items=items), replace(batch, times=times)):
            same = (before - model(changed).hidden).abs().amax(1) < 1e-6
            assert not same[last] and same.sum() == len(same) - 1


@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_time_of_the_target_is_never_used(part, world):
    start, end = leave_one_out(world).history(part)
    later = world.timestamps.copy()
    later[end] += 1000 * DAY
    other = replace(world, timestamps=later)
    model = towers(world)
    for one, two in zip(
        encode_histories(model, world, start, end, 12), encode_histories(model, other, start, end, 12), strict=True
    ):
        assert torch.equal(one[1], two[1])


def test_interval_rows_by_hand():
    """Two sequences of 4 and 2: the first input has no interval, a day is 100 log2 86401 = 1639, no time is row 0."""
    nan = float("nan")
    times = torch.tensor([0, DAY, DAY, nan, 7 * DAY, 3e9], dtype=torch.float64)
    steps, lengths = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([4, 2])
    batch = PackedBatch(steps, steps, steps, lengths, lengths, times)
    assert interval_rows(batch).tolist() == [0, 1640, 1, 0, 0, 3001]


def test_the_temporal_gate_mixes_vectors_of_its_experts():
    torch.manual_seed(0)
    mixture = TemporalMixture(4, 2, 0.0)
    times = torch.tensor([0.0, float("nan"), 5 * DAY], dtype=torch.float64)
    steps = torch.arange(3)
    batch = PackedBatch(steps, steps, steps, torch.tensor([3]), torch.tensor([0]), times)
    embedded = mixture.embed(batch)
    assert torch.equal(embedded[0, 4:], torch.ones(4)) and torch.equal(embedded[1, 4:], torch.zeros(4))
    assert torch.equal(embedded[1, :4], mixture.interval.weight[0])
    torch.testing.assert_close(embedded[2, 4:], torch.cos(5 * 1e4 ** -(torch.arange(4) / 4)))
    gates = mixture.gate(embedded).softmax(1)
    mixed = mixture(torch.full((3, 8), 2.0), batch)
    torch.testing.assert_close(mixed, 2 * sum(gates[:, e, None] * mixture.experts[e] for e in range(4)))


def test_a_model_that_reads_times_refuses_a_batch_without(world):
    with pytest.raises(ValueError, match="reads the times"):
        towers(world)(replace(batch_of(world), times=None))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("features", [[], ["text"]])
def test_missing_modalities_are_normal(fusion, features, world):
    kept = {m: world.features[m] for m in features}
    poorer = replace(world, features=kept, present={m: world.present[m] for m in features})
    model = towers(poorer, fusion=fusion)
    assert model(batch_of(poorer)).hidden.shape[1] == 8 * (1 + len(features))
    if not features:
        assert torch.equal(model.items().inputs, model.items.id.weight)


def test_without_timestamps_there_is_no_temporal_mixture_and_one_notice(plain_folder, tmp_path):
    dataset = read_dataset(plain_folder)
    config = build(ReferenceConfig, {"encoder": {"base": "towers", "width": 8}, "training": {"epochs": 1}})
    with pytest.warns(Notice, match="own has no timestamps") as seen:
        runs.train(dataset, config, tmp_path / "run")
    assert len(seen) == 1
    assert runs.load(tmp_path / "run", dataset).model.sequence.time is None
    assert batch_of(dataset).times is None
    assert len(recommend(runs.load(tmp_path / "run", dataset).model, dataset, user=1, top=3)) == 3


def test_times_known_in_part_are_enough(world):
    holes = np.where(np.arange(len(world.timestamps)) % 3 == 0, np.nan, world.timestamps)
    partly = replace(world, timestamps=holes)
    assert torch.isfinite(towers(partly)(batch_of(partly)).hidden).all()


def test_catalogue_vectors_are_computed_once_for_all_users(world):
    """More positions than one inference batch holds, and still one pass over the items."""
    model, calls = towers(world, fusion="moe"), []
    model.items.register_forward_hook(lambda *_: calls.append("items"))
    model.items.mixing.fusion.register_forward_hook(lambda *_: calls.append("mixture"))
    model.sequence.register_forward_hook(lambda *_: calls.append("sequence"))
    copies = 30
    many = replace(
        world,
        offsets=np.concatenate([[0], np.cumsum(np.tile(world.lengths, copies))]),
        items=np.tile(world.items, copies),
        timestamps=np.tile(world.timestamps, copies),
    )
    rank_dataset(model, many, "test", 12)
    assert calls.count("items") == calls.count("mixture") == 1 and calls.count("sequence") > 1


@pytest.mark.parametrize("fusion", ["linear", "moe"])
def test_the_dense_twin_of_towers(fusion, world):
    model = towers(world, fusion=fusion, feedforward="moe")
    config = EncoderConfig(
        base="towers", width=8, max_length=12, experts=4, expert_width=8, fusion=fusion, feedforward="moe"
    )
    twin = parameter_counts(Recommender.for_dataset(dense_twin(config), world))
    sparse = parameter_counts(model)
    assert twin.total == sparse.active - sparse.routers < sparse.total
    layers = [f"{m}.feedforward.{block}" for block in (0, 1) for m in ("id", "image", "text")]
    assert list(expert_load(model, world, 12)["layer"].unique()) == ["fusion"] * (fusion == "moe") + layers


def test_the_interactive_mixture_needs_towers():
    with pytest.raises(ValidationError, match=r"encoder.base = towers; with fused, allowed are linear, mlp, moe"):
        EncoderConfig(fusion="interactive")


def test_the_objective_adds_the_contrast_of_the_id_tower(world):
    encoder = {"base": "towers", "width": 8, "dropout": 0.0}
    config = build(ReferenceConfig, {"encoder": encoder, "id_contrast": {"weight": 0.5}})
    torch.manual_seed(0)
    model, batch = Recommender.for_dataset(config.encoder, world), batch_of(world)
    losses = ReferenceObjective(model, world, config)(batch)
    plain = ReferenceObjective(model, world, build(ReferenceConfig, {"encoder": encoder}))(batch)
    assert set(plain) == {"loss"}
    torch.testing.assert_close(losses["loss_ce"], plain["loss"])
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.5 * losses["loss_id_contrast"])
    hidden, vectors, *_ = model(batch)
    targets = torch.as_tensor(world.items)[batch.rows + 1]
    torch.testing.assert_close(losses["loss_id_contrast"], id_contrast(hidden[:, :8], vectors[:, :8], targets, 0.2, 99))
    with pytest.raises(InputError, match=r"needs encoder\.base = towers"):
        build(ReferenceConfig, {"id_contrast": {"weight": 0.5}})


def test_masked_towers_read_placeholders_and_nothing_else_changes(world):
    model, batch = towers(world, fusion="interactive", placeholder=True), batch_of(world)
    inputs, whole = model.items().inputs[batch.items], model(batch).hidden[:, 8:]
    nothing = torch.zeros(len(batch.rows), dtype=torch.bool)
    torch.testing.assert_close(model.sequence.masked(inputs, batch, nothing), whole)
    mask = nothing.clone()
    mask[3] = True
    changed = (model.sequence.masked(inputs, batch, mask) - whole).abs().amax(1) > 1e-6
    assert changed.nonzero()[:, 0].tolist() == list(range(3, int(batch.lengths[0])))
    other = model.items().inputs[(batch.items + mask) % world.n_items]
    same = model.sequence.masked(inputs, batch, mask), model.sequence.masked(other, batch, mask)
    torch.testing.assert_close(*same)
    with pytest.raises(ValueError, match="no placeholders"):
        towers(world).sequence.masked(inputs, batch, mask)


def test_the_objective_adds_the_placeholder_contrast_and_trains_it(world):
    encoder = {"base": "towers", "width": 8, "dropout": 0.0, "placeholder": True}
    config = build(ReferenceConfig, {"encoder": encoder, "placeholder_contrast": {"weight": 0.5}})
    torch.manual_seed(0)
    model = Recommender.for_dataset(config.encoder, world)
    losses = ReferenceObjective(model, world, config)(batch_of(world))
    total = losses["loss_ce"] + 0.5 * losses["loss_placeholder_contrast"]
    torch.testing.assert_close(losses["loss"], total)
    losses["loss"].backward()
    assert model.sequence.placeholder.weight.grad.abs().max() > 0
    with pytest.raises(InputError, match=r"needs encoder\.placeholder = true"):
        build(ReferenceConfig, {"placeholder_contrast": {"weight": 0.5}})
    with pytest.raises(InputError, match=r"encoder\.base = towers"):
        build(ReferenceConfig, {"encoder": {"placeholder": True}})


def test_placeholders_need_times(plain_folder, tmp_path):
    config = build(ReferenceConfig, {"encoder": {"base": "towers", "placeholder": True}})
    with pytest.raises(InputError, match="own has no timestamps"):
        runs.train(read_dataset(plain_folder), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_placeholders_need_features(world, tmp_path):
    config = build(ReferenceConfig, {"encoder": {"base": "towers", "placeholder": True}})
    with pytest.raises(InputError, match=r"but synthetic has no item features; leave it out"):
        runs.train(replace(world, features={}, present={}), config, tmp_path / "run")


COMBINATIONS = [
    (base, fusion, feedforward)
    for base, fusion, feedforward in itertools.product(["fused", "towers"], FUSIONS, ["dense", "moe"])
    if (base, fusion) != ("fused", "interactive")
]


@pytest.mark.parametrize(("base", "fusion", "feedforward"), COMBINATIONS)
def test_every_encoder_goes_all_the_way(base, fusion, feedforward, world, tmp_path):
    encoder = {"base": base, "fusion": fusion, "feedforward": feedforward, "width": 8, "max_length": 12, "experts": 4}
    training = {"epochs": 1, "batches_per_epoch": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.train(world, build(ReferenceConfig, {"encoder": encoder, "training": training}), tmp_path / "a")
    runs.align(world, tmp_path / "a", build(AlignmentConfig, {"training": training}), tmp_path / "b")
    record = json.loads((tmp_path / "b/run.json").read_text())
    line = json.loads((tmp_path / "b/history.jsonl").read_text())
    assert record["encoder"]["base"] == base
    assert ("loss_balance" in line) == ("moe" in (fusion, feedforward)) == ("loss_z" in line)
    assert results.evaluate(world, tmp_path / "b", "valid")["unmasked"] == record["valid"]
    assert len(recommend(runs.load(tmp_path / "b", world).model, world, user=3, top=5)) == 5


class Killed(BaseException):
    pass


def test_towers_with_mixtures_resume_to_identical_weights(world, tmp_path):
    encoder = {"base": "towers", "fusion": "moe", "feedforward": "moe", "width": 8, "max_length": 12, "experts": 4}
    config = build(
        ReferenceConfig,
        {
            "encoder": encoder | {"router_noise": 0.5, "placeholder": True},
            "training": {"epochs": 3, "batches_per_epoch": 2},
            "placeholder_contrast": {"weight": 1.0},
        },
    )
    runs.train(world, config, tmp_path / "whole")

    def kill(line):
        raise Killed

    with pytest.raises(Killed):
        runs.train(world, config, tmp_path / "killed", report=kill)
    runs.train(world, config, tmp_path / "killed", resume=True)
    whole, resumed = (runs.load(tmp_path / name, world).model.state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
