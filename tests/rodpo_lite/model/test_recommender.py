"""Packed sequences, encoder and scores against plain padded and dense twins."""

import numpy as np
import pytest
import torch
from padded import padded_hidden

from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.engine import Engine
from rodpo_lite.model.attention import Layout
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender, pair_scores, score_blocks


@pytest.fixture
def model(world):
    torch.manual_seed(0)
    config = EncoderConfig(width=16, max_length=12)
    return Recommender.for_dataset(config, world).eval()


@pytest.fixture
def sequences(world):
    split = leave_one_out(world)
    return PackedSequences(world.items, split.start, split.train_end - 1, 12)


def test_an_epoch_serves_every_position_once(world, sequences):
    split = leave_one_out(world)
    batches = list(sequences.epoch(100, torch.Generator().manual_seed(1)))
    assert len(batches) == sequences.n_batches(100) > 3
    rows = torch.cat([batch.rows for batch in batches]).numpy()
    expected = [np.arange(max(a, b - 12), b) for a, b in zip(split.start, split.train_end - 1)]
    assert np.array_equal(np.sort(rows), np.concatenate(expected))
    for batch in batches:
        assert torch.equal(batch.items, torch.as_tensor(world.items)[batch.rows])
        assert torch.equal(batch.last, torch.cumsum(batch.lengths, 0) - 1)
        owner = np.searchsorted(world.offsets, batch.rows.numpy(), side="right") - 1
        assert np.array_equal(owner, batch.user_of_position.numpy())
        assert batch.steps[0] == 0 and batch.steps.max() < 12


def test_packed_and_padded_encoders_give_the_same_scores(world, model, sequences):
    model.double()
    batch = next(sequences.epoch(10_000))
    hidden, vectors, *_ = model(batch)
    assert len(set(batch.lengths.tolist())) > 5, "lengths must differ for this to mean anything"
    ends = batch.lengths.cumsum(0)
    for length, end in zip(batch.lengths.tolist(), ends.tolist()):
        sequence = batch.items[end - length : end].tolist()
        twin = padded_hidden(model, sequence, padding=12 - length)
        torch.testing.assert_close(hidden[end - length : end] @ vectors.T, twin @ vectors.T, rtol=1e-9, atol=1e-9)


def test_no_position_sees_its_future(world, model, sequences):
    batch = next(sequences.epoch(10_000))
    longest = int(batch.lengths[0])
    changed = batch.items.clone()
    changed[longest - 1] = (changed[longest - 1] + 1) % world.n_items
    with torch.no_grad():
        before, vectors, *_ = model(batch)
        after, _ = model.sequence(vectors[changed], batch, Layout.of(batch.lengths))
    same = (before - after).abs().amax(1) < 1e-6
    assert not same[longest - 1] and same.sum() == len(same) - 1


def test_items_without_a_modality_share_a_learnt_vector(world):
    torch.manual_seed(0)
    model = Recommender.for_dataset(EncoderConfig(width=16), world)
    missing = torch.as_tensor(~world.present["image"])
    projection = model.items.modalities["image"]
    torch.nn.init.ones_(projection.missing)
    assert torch.equal(projection()[missing], torch.ones(int(missing.sum()), 16))
    assert missing.any() and not torch.equal(projection()[~missing][0], torch.ones(16))


@pytest.mark.parametrize("fusion", ["linear", "mlp"])
def test_fusion_adds_what_it_says_to_the_id_embedding(world, fusion):
    torch.manual_seed(0)
    model = Recommender.for_dataset(EncoderConfig(width=16, fusion=fusion), world).items
    text, image = (model.modalities[name]() for name in ("text", "image"))
    expected = model.id.weight + text + image
    if fusion == "mlp":
        both = torch.cat([image, text], 1)
        expected = expected + model.mlp(both)
    torch.testing.assert_close(model().vectors, expected)
    assert text.abs().max() > 0 and image.abs().max() > 0


def test_a_dataset_without_features_is_normal_input():
    model = Recommender(EncoderConfig(width=16), 30, {}, {})
    assert torch.equal(model.items().vectors, model.items.id.weight)


def test_the_memory_budget_bounds_the_block(world, model, sequences):
    batch = next(sequences.epoch(500))
    hidden, vectors, *_ = model(batch)
    rows = Engine(torch.device("cpu"), budget_mib=0.05).rows(world.n_items)
    blocks = [(block, scores.clone()) for block, scores in score_blocks(hidden, vectors, rows, hidden.dtype)]
    assert all(4 * scores.numel() <= 0.05 * 2**20 for _, scores in blocks)
    torch.testing.assert_close(torch.cat([scores for _, scores in blocks]), (hidden @ vectors.T).detach())
    assert Engine(torch.device("cpu"), budget_mib=1).rows(10**9) == 1


def test_pair_scores_are_entries_of_the_score_matrix():
    hidden, vectors = torch.randn(6, 4), torch.randn(9, 4)
    items = torch.randint(0, 9, (6, 3))
    torch.testing.assert_close(pair_scores(hidden, vectors, items), (hidden @ vectors.T).gather(1, items))
    torch.testing.assert_close(
        pair_scores(hidden, vectors, items[:, 0]), (hidden @ vectors.T).gather(1, items[:, :1])[:, 0]
    )
