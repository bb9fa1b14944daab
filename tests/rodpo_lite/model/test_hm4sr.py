"""The preset hm4sr: equal to a padded twin, each switch usable alone, and the faults of its public code mended."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hm4sr import Twin
from scipy.sparse import csr_array

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.schema import read_dataset, write_dataset
from rodpo_lite.engine import Engine, stream_seed
from rodpo_lite.errors import InputError
from rodpo_lite.losses.auxiliary import category_prediction, masked_positions
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.settings import build, nested, read_preset
from rodpo_lite.training import runs
from rodpo_lite.training.reference import ReferenceObjective

SMALL = {"encoder.width": 8, "encoder.feedforward_hidden": 12, "encoder.max_length": 12}
QUIET = {"encoder.dropout": 0.0, "encoder.attention_dropout": 0.0, "encoder.unknown_times": 0.0}
OFF = {  # each difference from the towers of the first edition, switched back
    "norm": {"encoder.norm": "pre"},
    "input norm": {"encoder.input_norm": False},
    "position": {"encoder.position": "tower"},
    "mixture": {"encoder.fusion": "linear"},
    "scales": {"encoder.id_std": 0.1, "encoder.content_std": 0.02},
    "id contrast": {"id_contrast.weight": 0.0},
    "placeholders": {"placeholder_contrast.weight": 0.0},
    "last position": {"placeholder_contrast.every": False},
    "categories": {"category_prediction.weight": 0.0},
}


@pytest.fixture(scope="module")
def labelled(world):
    """The synthetic world with attributes: five common ones, a rare one, and items of which none is known."""
    rng = np.random.default_rng(0)
    has = rng.random((world.n_items, 6)) < [0.5, 0.4, 0.4, 0.5, 0.4, 0.02]
    has[::7] = False
    return replace(world, attributes=csr_array(has))


def preset(**changes) -> ReferenceConfig:
    values = read_preset("hm4sr")
    for key, value in (SMALL | changes).items():
        group, _, leaf = key.partition(".")
        values[group][leaf] = value
    return build(ReferenceConfig, values)


def model_of(dataset, config: ReferenceConfig) -> Recommender:
    """A model of which every weight counts: none is at zero or one."""
    torch.manual_seed(0)
    model = Recommender.for_dataset(config.encoder, dataset).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def padded(batch: PackedBatch, values: torch.Tensor) -> torch.Tensor:
    """Packed values [P] as [B, L], filled up with the last one of each history."""
    rows = values.split(batch.lengths.tolist())
    longest = int(batch.lengths[0])
    return torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])


@pytest.mark.parametrize("change", ["nothing", *OFF, "times", "text"])
def test_the_packed_model_equals_its_twin(change, labelled):
    dataset = labelled
    if change == "times":
        dataset = replace(labelled, timestamps=np.full(len(labelled.timestamps), np.nan))
    if change == "text":
        dataset = replace(
            labelled, features={"image": labelled.features["image"]}, present={"image": labelled.present["image"]}
        )
    off = (
        {"placeholder_contrast.weight": 0.0, "encoder.placeholder": False} if change == "times" else OFF.get(change, {})
    )
    config = preset(**QUIET, **off)
    model = model_of(dataset, config)
    batch = next(PackedSequences.for_training(dataset, 12).epoch(60, torch.Generator().manual_seed(1)))
    objective = ReferenceObjective(model, dataset, config, Engine(torch.device("cpu"), torch.float64))
    torch.manual_seed(7)
    found = objective(batch)
    torch.manual_seed(7)
    mask = masked_positions(batch, config.placeholder_contrast.share)
    modalities = model.items.modalities
    twin = Twin(
        {name: value.detach() for name, value in model.state_dict().items()}, config,
        {name: part.features for name, part in modalities.items()},
        {name: part.absent for name, part in modalities.items()}, dataset.first_time,
    )  # fmt: skip
    times = torch.full(batch.items.shape, torch.nan, dtype=torch.float64) if batch.times is None else batch.times
    targets = torch.as_tensor(dataset.items)[batch.rows + 1]
    columns = (padded(batch, column) for column in (batch.items, times, targets, mask))
    items, times, targets, mask = columns
    expected = twin.losses(items, times, batch.lengths, targets, mask, torch.as_tensor(dataset.categories).bool())
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-10)


def test_every_expert_moves_and_is_kept(labelled, tmp_path):
    """Ten steps move those of both mixtures, which the public code keeps in a plain list, out of its optimiser."""
    positions = PackedSequences.for_training(labelled, 12).n_positions
    config = preset(**{"training.epochs": 1, "training.batch_positions": positions // 10})
    begun = []
    runs.train(labelled, config, tmp_path / "run", progress=lambda batches, **_: begun.append(batches) or batches)
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(config.seed, "weights"))
        before = Recommender.for_dataset(config.encoder, labelled).state_dict()
    after = runs.load(tmp_path / "run", labelled).model.state_dict()
    experts = [f"sequence.mixing.fusion.experts.{number}.weight" for number in range(4)]
    assert all((after[name] - before[name]).abs().max() > 1e-4 for name in experts)
    moved = (after["sequence.time.experts"] - before["sequence.time.experts"]).abs().amax(1)
    assert len(moved) == 4 and (moved > 1e-4).all()


@pytest.mark.parametrize("change", OFF)
def test_every_switch_is_usable_alone(change, labelled):
    """On the towers as they are by default, each of the preset's parts changes the loss, and can be trained."""
    values = read_preset("hm4sr")
    wanted = {key: _get(values, key) for key in OFF[change]}
    plain = {"encoder.base": "towers", "encoder.width": 8, "encoder.max_length": 12, "encoder.dropout": 0.0}
    needed = {
        "placeholders": "encoder.placeholder",
        "last position": "encoder.placeholder",
        "categories": "encoder.categories",
    }
    if change in needed:
        wanted[needed[change]] = True
    if change == "last position":
        plain |= {"placeholder_contrast.weight": 1.0, "encoder.placeholder": True}
    losses = []
    for settings in (plain, plain | wanted):
        config = build(ReferenceConfig, nested(settings))
        torch.manual_seed(0)
        model = Recommender.for_dataset(config.encoder, labelled)
        torch.manual_seed(0)
        losses.append(ReferenceObjective(model, labelled, config)(batch_of(labelled))["loss"])
    losses[1].backward()
    assert torch.isfinite(losses[1]) and losses[0].item() != pytest.approx(losses[1].item(), rel=1e-4)


def _get(values: dict, key: str):
    group, _, leaf = key.partition(".")
    return values[group][leaf]


def batch_of(dataset) -> PackedBatch:
    return next(PackedSequences.for_training(dataset, 12).epoch(200))


def test_times_are_left_out_in_training_alone(labelled):
    """Of 40 %, at random; what is left out is as if it were not known, and the next interval is as before."""
    config = preset(**QUIET | {"encoder.unknown_times": 0.4})
    mixture = Recommender.for_dataset(config.encoder, labelled).sequence.time
    batch = batch_of(labelled)
    known = mixture.eval().embed(batch)
    unknown = mixture.embed(replace(batch, times=torch.full_like(batch.times, torch.nan)))
    torch.manual_seed(0)
    seen = [mixture.train().embed(batch) for _ in range(20)]
    left_out = torch.stack([(one == unknown).all(1) for one in seen])
    kept = torch.stack([(one == known).all(1) for one in seen])
    assert (left_out | kept).all() and left_out.double().mean().item() == pytest.approx(0.4, abs=0.03)
    assert torch.equal(mixture.eval().embed(batch), known)


def test_category_prediction_by_hand():
    """Two items of which the categories are known, and one of which they are not."""
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0], [5.0, 5.0]], dtype=torch.float64)
    labels = torch.tensor([[0, 1], [1, 1], [0, 0]], dtype=torch.uint8)
    right = torch.sigmoid(torch.tensor([0.0, 2.0, 1.0, -1.0], dtype=torch.float64))  # of a label, or of none: 1 - .5
    torch.testing.assert_close(category_prediction(logits, labels), -right.log().mean())
    assert category_prediction(logits, torch.zeros_like(labels)) == 0


def test_categories_are_attributes_that_are_common(labelled, world):
    """A rare attribute is none, and a dataset without any has no head and no term."""
    assert labelled.categories.shape == (world.n_items, 5)
    assert np.array_equal(labelled.categories, labelled.attributes.toarray()[:, :5])
    config = preset()
    model = Recommender.for_dataset(config.encoder, world)
    assert world.categories.shape == (world.n_items, 0) and model.categories is None
    assert "loss_category_prediction" not in ReferenceObjective(model, world, config)(batch_of(world))


def test_attributes_are_read_and_checked(plain_folder):
    """A list of numbers an item; none where it is not known; anything else is refused."""
    items = pd.read_parquet(plain_folder / "items.parquet")
    lists = [[1, 3], None, [], [3]] * 10

    def rewritten(values):
        interactions = pd.read_parquet(plain_folder / "interactions.parquet")[["user", "item", "position"]]
        table = items.drop(columns="has_text").assign(attributes=values)
        return write_dataset(
            plain_folder.parent / str(len(list(plain_folder.parent.iterdir()))), "own", interactions, table
        )

    has = read_dataset(rewritten(lists)).attributes.toarray()
    assert has.shape == (40, 4) and has[:4].tolist() == [[0, 1, 0, 1], [0] * 4, [0] * 4, [0, 0, 0, 1]]
    for unknown in ([None] * 40, [[]] * 40):
        assert read_dataset(rewritten(unknown)).attributes is None
    for wrong in ([["a"]] * 40, [[-1]] * 40, [[0.5]] * 40, [[1, None]] * 40, [1] * 40):
        with pytest.raises(InputError, match="attributes must hold lists of whole numbers"):
            read_dataset(rewritten(wrong))
