"""The terms beside the cross-entropy against their definitions."""

import pytest
import torch

from rodpo_lite.config import ReferenceConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.errors import InputError
from rodpo_lite.losses.auxiliary import id_contrast, masked_positions, placeholder_contrast
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.settings import build
from rodpo_lite.training.reference import ReferenceObjective


def test_label_smoothing_is_that_of_torch(world):
    config = build(ReferenceConfig, {"label_smoothing": 0.3, "encoder": {"width": 8, "dropout": 0.0}})
    torch.manual_seed(0)
    model = Recommender.for_dataset(config.encoder, world)
    batch = next(PackedSequences.for_training(world, 12).epoch(500))
    hidden, vectors, *_ = model(batch)
    targets = torch.as_tensor(world.items)[batch.rows + 1]
    plain, smooth = (
        torch.nn.functional.cross_entropy(hidden @ vectors.T, targets, label_smoothing=share) for share in (0, 0.3)
    )
    losses = ReferenceObjective(model, world, config)(batch)
    torch.testing.assert_close((losses["loss_ce"], losses["loss"]), (plain, smooth))
    with pytest.raises(InputError, match=r"label_smoothing above 0 needs training\.loss = full"):
        build(ReferenceConfig, {"label_smoothing": 0.3, "training": {"loss": "sampled"}})


def test_the_id_contrast_equals_a_masked_softmax_over_distinct_targets():
    torch.manual_seed(0)
    hidden = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([7, 2, 7, 5, 2, 2])
    cosine = torch.cosine_similarity(hidden[:, None], vectors[None], dim=2) / 0.2
    absent = torch.tensor([j not in (2, 5, 7) for j in range(9)])
    expected = torch.nn.functional.cross_entropy(cosine.masked_fill(absent, -torch.inf), targets)
    contrast = id_contrast(hidden, vectors, targets, 0.2, rows=4)
    torch.testing.assert_close(contrast, expected)
    gradients = (torch.autograd.grad(loss, (hidden, vectors)) for loss in (contrast, expected))
    torch.testing.assert_close(*gradients)


def test_the_placeholder_contrast_equals_its_definition():
    """Two towers of width 2, three histories of which the first and the last lead to the same item."""
    torch.manual_seed(0)
    complete, masked = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    targets, total = torch.tensor([5, 8, 5]), 0.0
    for part in (slice(0, 2), slice(2, 4)):
        cosine = torch.cosine_similarity(complete[:, None, part], masked[None, :, part], dim=2) / 0.5
        for b, others in enumerate(([1], [0, 2], [1])):
            total += -cosine[b, b] + cosine[b, [b, *others]].logsumexp(0)
    assert placeholder_contrast(complete, masked, targets, 2, 0.5).item() == pytest.approx(total.item() / 6)


def test_a_share_of_every_history_is_masked(world):
    torch.manual_seed(0)
    batch = next(PackedSequences.for_training(world, 12).epoch(500))
    masks = torch.stack([masked_positions(batch, 0.3) for _ in range(400)])
    for part in torch.arange(len(batch.rows)).split(batch.lengths.tolist()):
        assert (masks[:, part].sum(1) == int(0.3 * len(part))).all()
    longest = masks[:, : int(batch.lengths[0])].double().mean(0)
    assert (longest - longest.mean()).abs().max() < 0.13, "every place alike, within 5 standard errors"
