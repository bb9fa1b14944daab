"""Sampled losses: the estimate they are built on, what a step touches, and runs with them."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.errors import InputError
from rodpo_lite.losses.cross_entropy import full_cross_entropy
from rodpo_lite.losses.sampled_softmax import Proposal, binary_cross_entropy, others, sampled_cross_entropy, shortlist
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.sampling.candidates import renumbered
from rodpo_lite.sampling.selectors import SELECTORS
from rodpo_lite.settings import build
from rodpo_lite.training import runs
from rodpo_lite.training.alignment import AlignmentObjective
from rodpo_lite.training.optimizers import optimizers
from rodpo_lite.training.reference import ReferenceObjective


@pytest.fixture
def batch(world):
    return next(PackedSequences.for_training(world, 12).epoch(300))


@pytest.fixture
def targets(world, batch):
    return torch.as_tensor(world.items)[batch.rows + 1]


def reference_config(**training) -> ReferenceConfig:
    encoder = {"width": 16, "max_length": 12, "dropout": 0.0}
    return build(ReferenceConfig, {"encoder": encoder, "training": training})


def model_of(world, fusion="linear") -> Recommender:
    torch.manual_seed(0)
    return Recommender.for_dataset(EncoderConfig(width=16, max_length=12, dropout=0.0, fusion=fusion), world)


@pytest.mark.parametrize("exponent", [0.0, 0.75])
def test_the_normaliser_is_estimated_without_bias(exponent):
    generator = torch.Generator().manual_seed(0)
    popularity = torch.randint(0, 50, (40,), generator=generator)
    scores, target = torch.randn(40, generator=generator), 7
    exact = scores.exp().sum() - scores[target].exp()
    estimates = []
    proposal = Proposal(popularity, 30, exponent)
    for _ in range(4000):
        short = proposal.shortlist(torch.tensor([1]), torch.tensor([target]), generator)
        drawn = short.items[short.candidates]
        counted = drawn != target
        estimates.append(((scores[drawn] - short.log_expected).exp() * counted).sum().item())
    error = np.std(estimates, ddof=1) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - exact.item()) < 4 * error < 0.02 * exact.item()


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_proposal_draws_in_proportion(exponent):
    popularity = torch.tensor([0, 3, 8, 24, 1])
    short = Proposal(popularity, 20_000, exponent).shortlist(
        torch.arange(5), torch.tensor([0]), torch.Generator().manual_seed(1)
    )
    counts = torch.bincount(short.items[short.candidates], minlength=5).numpy()
    expected = (popularity.numpy() + 1.0) ** exponent
    assert stats.chisquare(counts, 20_000 * expected / expected.sum()).pvalue > 1e-3
    drawn = short.items[short.candidates].numpy()
    np.testing.assert_allclose(short.log_expected.exp(), (20_000 * expected / expected.sum())[drawn], rtol=1e-5)


def test_a_sample_of_everything_is_the_whole_catalogue():
    """With each other item once in the sample, the estimate is the softmax itself, gradients included."""
    hidden = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 6, (9,))
    full = full_cross_entropy(hidden, vectors, targets, 4)
    found = sampled_cross_entropy(hidden, vectors, targets, torch.arange(6), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(found, full)
    torch.testing.assert_close(
        torch.autograd.grad(found, (hidden, vectors)), torch.autograd.grad(full, (hidden, vectors))
    )


def test_binary_cross_entropy_by_hand():
    hidden, vectors = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 5.0], [-1.0, 3.0]])
    found = binary_cross_entropy(hidden, vectors, torch.tensor([0]), torch.tensor([1]))
    assert found.item() == pytest.approx(np.log(1 + np.exp(-2)) + np.log(1 + np.exp(-1)), rel=1e-6)


def test_others_are_uniform_over_the_other_items():
    drawn = others(torch.full((30_000,), 2), 5, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=5)
    assert counts[2] == 0 and stats.chisquare(counts[[0, 1, 3, 4]].numpy()).pvalue > 1e-3


def test_a_shortlist_numbers_its_items_anew():
    inputs, targets, candidates = torch.tensor([8, 3, 8]), torch.tensor([3, 9, 1]), torch.tensor([7, 7])
    short = shortlist(inputs, targets, candidates, torch.zeros(2))
    for number, items in ((short.inputs, inputs), (short.targets, targets), (short.candidates, candidates)):
        assert torch.equal(short.items[number], items)
    assert torch.equal(short.items.unique(), torch.tensor([1, 3, 7, 8, 9]))
    assert renumbered(torch.tensor([[3, 2], [9, 10]]), torch.tensor([1, 3, 9])).tolist() == [[1, 3], [2, 3]]


@pytest.mark.parametrize("fusion", ["linear", "mlp", "moe"])
def test_some_items_are_encoded_as_the_whole_catalogue_encodes_them(world, fusion):
    items, some = model_of(world, fusion).eval().items, torch.tensor([4, 99, 4, 17])
    torch.testing.assert_close(items(some).vectors, items().vectors[some])


@pytest.mark.parametrize("loss", ["sampled", "bce"])
def test_only_touched_items_move(world, batch, targets, loss):
    model, config = model_of(world), reference_config(loss=loss, sampled=5, device="cpu")
    objective = ReferenceObjective(model, world, config)
    before = model.items.id.weight.detach().clone()
    objective(batch)["loss"].backward()
    gradient = model.items.id.weight.grad
    assert gradient.is_sparse
    touched = torch.zeros(world.n_items, dtype=torch.bool)
    touched[gradient.coalesce().indices()[0]] = True
    assert touched[batch.items].all() and touched[targets].all() and not touched.all()
    for optimizer in optimizers(model, config.training):
        optimizer.step()
    moved = (model.items.id.weight.detach() != before).any(1)
    assert moved.any() and not (moved & ~touched).any()


@pytest.mark.parametrize("loss", ["sampled", "bce"])
def test_a_sampled_reference_learns_and_resumes(world, tmp_path, loss):
    config = build(
        ReferenceConfig,
        {
            "encoder": {"width": 16, "max_length": 12, "dropout": 0.1},
            "training": {"epochs": 4, "batches_per_epoch": 4, "learning_rate": 5e-3, "loss": loss, "sampled": 64},
        },
    )
    whole = runs.train(world, config, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole/history.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]

    def stop(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(world, config, tmp_path / "stopped", report=stop)
    assert runs.train(world, config, tmp_path / "stopped", resume=True)["valid"] == whole["valid"]
    one, other = (runs.load(tmp_path / name, world).model.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def align_config(name="topk", pool="sample", **values) -> AlignmentConfig:
    training = {"epochs": 2, "batches_per_epoch": 4, "loss": "sampled", "sampled": 60, **values.pop("training", {})}
    return build(
        AlignmentConfig,
        {"training": training, "negatives": {"name": name, "pool": pool, "k": 5, "candidates": 10, **values}},
    )


@pytest.mark.parametrize("pool", ["sample", "catalogue"])
@pytest.mark.parametrize("name", ["none", *SELECTORS])
def test_every_strategy_aligns_on_a_sample(name, pool, world, reference_folder, tmp_path):
    if (name, pool) == ("srns", "sample"):
        with pytest.raises(InputError, match="srns remembers"):
            align_config(name, pool)
        return
    runs.align(world, reference_folder, align_config(name, pool), tmp_path / "run")
    line = json.loads((tmp_path / "run/history.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["loss"]) and ("loss_preference" in line) == (name != "none")


@pytest.mark.parametrize("exclude", ["none", "past", "train"])
def test_negatives_come_from_the_sample_and_are_allowed(world, batch, targets, reference_folder, exclude):
    reference = runs.load(reference_folder, world).model
    config = align_config("hard", exclude=exclude, training={"device": "cpu"})
    objective = AlignmentObjective(
        runs.load(reference_folder, world).model.eval(), reference, world, config, torch.Generator().manual_seed(0)
    )
    seen = []
    draw = objective.sampler.draw

    def watched(step, scored, pool):
        negatives = draw(step, scored, pool)
        seen.append((negatives, scored, pool))
        return negatives

    objective.sampler.draw = watched
    objective(batch)
    (negatives, scored, pool), *_ = seen
    split = leave_one_out(world)
    assert torch.isin(negatives, pool).all() and len(pool) < world.n_items
    scores, places = scored.hidden @ scored.vectors.T, pool.tolist()
    for row in range(0, len(targets), 7):
        user, here = int(batch.user_of_position[row]), int(batch.rows[row])
        start, end = split.start[user], {"none": 0, "past": here + 1, "train": split.train_end[user]}[exclude]
        banned = {int(targets[row]), *world.items[start:end].tolist()}
        best = max((place for place, item in enumerate(places) if item not in banned), key=scores[row].__getitem__)
        assert scores[row, best] == scores[row, places.index(int(negatives[row, 0]))]


def test_bad_combinations_are_named(world):
    with pytest.raises(InputError, match="takes full or sampled"):
        build(AlignmentConfig, {"training": {"loss": "bce"}})
    with pytest.raises(InputError, match="needs training"):
        build(AlignmentConfig, {"negatives": {"pool": "sample"}})
