"""The sparse mixture against a dense-gated twin, its router losses against numbers worked by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from companion.demonstrations.experts import against, apart, chosen_experts, costs, expert_load, preferences
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.evaluation.recommend import recommend
from rodpo_lite.model.capacity import dense_twin, parameter_counts
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.experts import SparseExperts, routing_of
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.settings import build
from rodpo_lite.training import results, runs
from rodpo_lite.training.reference import ReferenceObjective


def mixture(per_row: int = 2, shared: bool = True, noise: float = 0.0, experts: int = 5) -> SparseExperts:
    torch.manual_seed(0)
    sizes = {"experts": experts, "experts_per_row": per_row, "expert_width": 7}
    made = SparseExperts(EncoderConfig(**sizes, shared_expert=shared, router_noise=noise), 6, 4).double()
    nn.init.normal_(made.bias)
    return made


def dense_reference(mixture: SparseExperts, rows: torch.Tensor) -> torch.Tensor:
    """Every expert computes every row; gates that are not among the k largest are zero."""
    logits = mixture.router(rows)
    kept = logits >= logits.topk(mixture.per_row, 1).values[:, -1:]
    if mixture.per_row == 1:
        gates = logits.softmax(1) * kept
    else:
        gates = logits.masked_fill(~kept, -torch.inf).softmax(1)
    output = sum(gates[:, e, None] * expert(rows) for e, expert in enumerate(mixture.experts)) + mixture.bias
    return output if mixture.shared is None else output + mixture.shared(rows)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("per_row", [1, 2, 5])
def test_sparse_dispatch_equals_dense_gating(per_row, shared):
    sparse, rows = mixture(per_row, shared), torch.randn(40, 6, dtype=torch.float64, requires_grad=True)
    output, twin = sparse(rows)[0], dense_reference(sparse, rows)
    torch.testing.assert_close(output, twin, rtol=1e-10, atol=1e-10)
    weight, wanted = torch.randn_like(output), (rows, *sparse.parameters())
    found = torch.autograd.grad((output * weight).sum(), wanted)
    expected = torch.autograd.grad((twin * weight).sum(), wanted)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert all(gradient.abs().max() > 0 for gradient in found)


def test_gradients_are_those_of_finite_differences():
    sparse, rows = mixture(), torch.randn(6, 6, dtype=torch.float64, requires_grad=True)

    def outputs(rows):
        output, routing = sparse(rows)
        return output, routing.balance, routing.z

    assert torch.autograd.gradcheck(outputs, (rows,))


def test_each_expert_computes_exactly_its_rows():
    sparse, rows = mixture(experts=6), torch.randn(50, 6, dtype=torch.float64)
    with torch.no_grad():
        sparse.router.weight[3] = -100 * rows.mean(0)  # some experts get many rows, some few
        sparse.router.weight[5] = 0.0
    seen = {}
    for number, expert in enumerate(sparse.experts):
        expert.register_forward_hook(lambda _, given, __, number=number: seen.update({number: given[0]}))
    _, routing = sparse(rows)
    chosen = sparse.router(rows).topk(2, 1).indices
    assert sum(len(given) for given in seen.values()) == 50 * 2
    for number, given in seen.items():
        assert torch.equal(given, rows[(chosen == number).any(1)])
        assert routing.load[number] == pytest.approx(len(given) / 100)


def test_an_empty_expert_and_an_empty_batch_are_normal():
    sparse = mixture(shared=False)
    with torch.no_grad():
        sparse.router.weight[:] = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])[:, None]
    rows = torch.rand(9, 6, dtype=torch.float64)
    output, routing = sparse(rows)
    assert routing.load.tolist() == [0.5, 0.5, 0, 0, 0]
    torch.testing.assert_close(output, dense_reference(sparse, rows))
    output.sum().backward()
    assert sparse.experts[4][0].weight.grad.abs().max() == 0
    assert sparse(rows[:0])[0].shape == (0, 4)


def test_router_losses_by_hand():
    """Two experts, k = 1. Probabilities .75 and .25 for three rows, .25 and .75 for the fourth."""
    logits = torch.tensor([[math.log(3), 0.0]] * 3 + [[0.0, math.log(3)]])
    routing = routing_of(logits, logits.argmax(1, keepdim=True))
    assert routing.load.tolist() == [0.75, 0.25]
    assert routing.balance.item() == pytest.approx(2 * (0.75 * 0.625 + 0.25 * 0.375))
    assert routing.z.item() == pytest.approx(math.log(4) ** 2)


def test_balance_is_one_when_uniform_and_experts_over_k_when_collapsed():
    uniform = routing_of(torch.zeros(4, 4), torch.tensor([[0, 1], [2, 3], [1, 2], [3, 0]]))
    assert uniform.balance.item() == pytest.approx(1) and uniform.z.item() == pytest.approx(math.log(4) ** 2)
    collapsed = torch.tensor([[50.0, 50.0, 0.0, 0.0]] * 4)
    assert routing_of(collapsed, torch.tensor([[0, 1]] * 4)).balance.item() == pytest.approx(4 / 2)


def test_the_balance_gradient_takes_rows_from_a_crowded_expert():
    logits = torch.tensor([[2.0, 1.0, 0.0]] * 5, requires_grad=True)
    routing = routing_of(logits, logits.topk(1, 1).indices)
    assert routing.load.sum() == 1 and not routing.load.requires_grad
    (gradient,) = torch.autograd.grad(routing.balance, logits)
    assert (gradient[:, 0] > 0).all() and (gradient[:, 1:] < 0).all()


def test_noise_is_drawn_in_train_mode_only_and_from_torch_alone():
    noisy, rows = mixture(noise=1.0), torch.randn(30, 6, dtype=torch.float64)
    quiet = mixture(noise=0.0)(rows)[0]
    torch.testing.assert_close(noisy.eval()(rows)[0], quiet)
    noisy.train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(noisy(rows)[0])
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    assert not torch.allclose(outputs[0], quiet)


def test_disabling_dropout_disables_the_noise_too(world):
    torch.manual_seed(0)
    config = EncoderConfig(width=16, fusion="moe", feedforward="moe", router_noise=5.0)
    model = Recommender.for_dataset(config, world).train()
    batch = batch_of(world)
    model.disable_dropout()
    assert torch.equal(model(batch).hidden, model.eval()(batch).hidden)


@pytest.mark.parametrize("parts", [{"fusion": "moe"}, {"feedforward": "moe"}, {"fusion": "moe", "feedforward": "moe"}])
@pytest.mark.parametrize("shared", [True, False])
def test_the_dense_twin_has_the_active_parameters_without_the_router(parts, shared, world):
    config = EncoderConfig(width=16, experts=6, experts_per_row=3, expert_width=10, shared_expert=shared, **parts)
    sparse = parameter_counts(Recommender.for_dataset(config, world))
    twin = parameter_counts(Recommender.for_dataset(dense_twin(config), world))
    assert twin.total == twin.active == sparse.active - sparse.routers
    mixtures = ("fusion" in parts) * [32] + ("feedforward" in parts) * [16, 16]  # D_in: text and image, or a position
    assert sparse.routers == sum(6 * width for width in mixtures)
    assert sparse.total - sparse.active == sum(3 * (width * 10 + 10 + 10 * 16) for width in mixtures)


def test_a_dense_model_is_its_own_twin(world):
    config = EncoderConfig(width=16, fusion="mlp")
    assert dense_twin(config) == config
    counts = parameter_counts(Recommender.for_dataset(config, world))
    assert counts.total == counts.active and counts.routers == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experts": 4, "experts_per_row": 5}, "at most encoder.experts = 4"),
        ({"experts_per_row": 0}, "greater than or equal to 1"),
        ({"router_noise": -1}, "greater than or equal to 0"),
        ({"feedforward": "sparse"}, "'dense' or 'moe'"),
    ],
)
def test_impossible_mixtures_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        EncoderConfig(**values)


def batch_of(dataset, max_length: int = 12):
    split = leave_one_out(dataset)
    return next(PackedSequences(dataset.items, split.start, split.train_end - 1, max_length).epoch(500))


def test_the_objective_adds_the_router_losses(world):
    torch.manual_seed(0)
    encoder = {"width": 16, "dropout": 0.0, "fusion": "moe", "feedforward": "moe"}
    batch, losses = batch_of(world), []
    for weights in ({"balance_weight": 0.0, "z_weight": 0.0}, {"balance_weight": 0.5, "z_weight": 0.25}):
        config = build(ReferenceConfig, {"encoder": encoder, "training": weights})
        torch.manual_seed(0)
        model = Recommender.for_dataset(config.encoder, world)
        losses.append(ReferenceObjective(model, world, config)(batch))
    plain, weighted = losses
    routing = model(batch).routing
    assert set(routing) == {"fusion", "feedforward.0", "feedforward.1"}
    assert weighted["loss_balance"].item() == pytest.approx(sum(r.balance.item() for r in routing.values()))
    assert weighted["loss_z"].item() == pytest.approx(sum(r.z.item() for r in routing.values()))
    expected = plain["loss"] + 0.5 * weighted["loss_balance"] + 0.25 * weighted["loss_z"]
    torch.testing.assert_close(weighted["loss"], expected)


def test_expert_load_is_a_tidy_table_of_shares(world):
    torch.manual_seed(0)
    config = EncoderConfig(width=16, experts=4, fusion="moe", feedforward="moe")
    model = Recommender.for_dataset(config, world)
    table = expert_load(model, world, 12)
    assert model.training, "the report leaves the model in the mode it was in"
    assert list(table.columns) == ["layer", "expert", "share"]
    assert table.groupby("layer")["expert"].apply(list).to_dict() == {
        layer: [0, 1, 2, 3] for layer in ("fusion", "feedforward.0", "feedforward.1")
    }
    assert np.allclose(table.groupby("layer")["share"].sum(), 1)
    split = leave_one_out(world)
    whole = next(PackedSequences(world.items, split.start, split.train_end - 1, 12).epoch(10**9))
    for layer, routing in model.eval()(whole).routing.items():
        assert np.allclose(table.loc[table.layer == layer, "share"], routing.load.detach())
    assert expert_load(Recommender.for_dataset(EncoderConfig(width=16), world), world, 12).empty


def test_a_mixture_trains_aligns_and_evaluates(world, tmp_path):
    encoder = {"width": 8, "max_length": 12, "fusion": "moe", "feedforward": "moe", "expert_width": 8, "experts": 4}
    training = {"epochs": 1, "batches_per_epoch": 4}
    record = runs.train(world, build(ReferenceConfig, {"encoder": encoder, "training": training}), tmp_path / "a")
    assert record["active_parameters"] < record["parameters"]
    runs.align(world, tmp_path / "a", build(AlignmentConfig, {"training": training}), tmp_path / "b")
    for folder in ("a", "b"):
        (line,) = map(json.loads, (tmp_path / folder / "history.jsonl").read_text().splitlines())
        assert 2 < line["loss_balance"] < 12 and line["loss_z"] > 0
    assert results.evaluate(world, tmp_path / "b")["n_users"] == world.n_users
    assert len(recommend(runs.load(tmp_path / "b", world).model, world, user=3)) == 10


def test_chosen_experts_are_those_that_compute_each_item(world):
    torch.manual_seed(0)
    config = EncoderConfig(width=16, max_length=12, fusion="moe", experts=5, expert_width=8)
    model = Recommender.for_dataset(config, world)
    chosen = chosen_experts(model)
    assert chosen.shape == (world.n_items, 2) and model.training
    load = expert_load(model, world, 12).set_index("expert")["share"]
    assert np.bincount(chosen.ravel(), minlength=5) / chosen.size == pytest.approx(load.to_numpy())
    with pytest.raises(ValueError, match="not a sparse mixture"):
        chosen_experts(Recommender.for_dataset(EncoderConfig(width=16), world))


def test_preferences_of_kinds_by_hand():
    chosen = np.array([[0, 1], [0, 1], [1, 0], [2, 1]])  # expert 3 gets nothing; the load is 3, 4, 1 of 8
    lift = preferences(np.array(["a", "a", "a", "b"]), chosen, 4)
    assert lift.loc["a"].tolist() == pytest.approx([0.5 / 0.375, 1.0, 0.0, 1.0])
    assert lift.loc["b"].tolist() == pytest.approx([0.0, 1.0, 0.5 / 0.125, 1.0])
    assert apart(np.array(["a", "a", "a", "b"]), chosen, 4) == pytest.approx((0.125 + 0.375) / 2)
    assert apart(np.full(4, "a"), chosen, 4) == 0


def test_costs_of_one_model_against_another():
    times = {"a": [2.0, 4.0, 9.0], "b": [1.0, 1.0, 3.0]}
    rows = [(repeat, model, value[repeat]) for repeat in range(3) for model, value in times.items()]
    found = against(pd.DataFrame(rows, columns=["repeat", "model", "step"]), "a", "b")
    assert found.loc["step"].tolist() == [3, 2.5, 3.5], "ratios of the same repeat: 2, 4 and 3"


def test_costs_have_a_row_for_each_model_and_repeat(world):
    torch.manual_seed(0)
    models = {
        fusion: Recommender.for_dataset(EncoderConfig(width=16, max_length=12, fusion=fusion), world)
        for fusion in ("linear", "moe")
    }
    found = costs(models, world, 12, repeats=2)
    assert found["model"].tolist() == ["linear", "moe"] * 2 and found["repeat"].tolist() == [1, 1, 2, 2]
    assert bool((found[["rebuild", "request", "step"]] > 0).all(axis=None))
    assert all(parameter.grad is None for model in models.values() for parameter in model.parameters())
