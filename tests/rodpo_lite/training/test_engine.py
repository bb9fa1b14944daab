"""The fast paths against plain twins: blocks, bins, dropout masks, pools, and what bf16 costs in precision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import padded_hidden

from rodpo_lite import engine
from rodpo_lite.config import TrainingConfig
from rodpo_lite.data.batches import PackedSequences
from rodpo_lite.engine import Engine, has_bf16_products, rounded_up
from rodpo_lite.errors import InputError
from rodpo_lite.losses.cross_entropy import LARGEST_SCORE, full_cross_entropy
from rodpo_lite.losses.sampled_softmax import Step
from rodpo_lite.model.attention import attention_bins, packed_causal_attention
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.dropout import Dropout, keep_mask
from rodpo_lite.model.recommender import Recommender, pair_scores
from rodpo_lite.sampling.candidates import masked
from rodpo_lite.sampling.sampler import NegativeSampler, Scored
from rodpo_lite.sampling.selectors import NegativesConfig
from rodpo_lite.sampling.top_k import best, kth_largest
from rodpo_lite.training.alignment import FrozenStates

CPU = torch.device("cpu")


def factors(positions: int, items: int, width: int = 8, scale: float = 1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = scale * torch.randn(positions, width, generator=generator, dtype=dtype)
    vectors = scale * torch.randn(items, width, generator=generator, dtype=dtype)
    return hidden.requires_grad_(), vectors.requires_grad_(), torch.randint(0, items, (positions,), generator=generator)


def bounded(hidden, vectors) -> bool:
    return bool(hidden.norm(dim=1).amax() * vectors.norm(dim=1).amax() < LARGEST_SCORE)


@pytest.mark.parametrize("scale", [1.0, 9.0])
@pytest.mark.parametrize("rows", [1, 7, 200])
def test_blocks_of_cross_entropy_equal_the_plain_one(rows, scale):
    """193 positions are rounded up to 196; with the larger scale no bound holds, and exponents are shifted."""
    hidden, vectors, targets = factors(193, 11, scale=scale)
    assert rounded_up(193) == 196 and bounded(hidden, vectors) == (scale == 1.0)
    plain = F.cross_entropy(hidden @ vectors.T, targets)
    expected = torch.autograd.grad(3 * plain, (hidden, vectors))
    shown = torch.full((193, 11), torch.nan, dtype=torch.float64)

    def observe(block, scores):
        assert torch.isnan(shown[block]).all(), "each position is shown once"
        shown[block] = scores

    found = full_cross_entropy(hidden, vectors, targets, rows, observe)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad(3 * found, (hidden, vectors)), expected)
    torch.testing.assert_close(shown, (hidden @ vectors.T).detach())


def test_gradients_of_cross_entropy():
    hidden, vectors, targets = factors(23, 11, 5)
    assert torch.autograd.gradcheck(lambda h, v: full_cross_entropy(h, v, targets, 7), (hidden, vectors))


@pytest.mark.parametrize("scale", [0.2, 0.7, 1.0, 4.0])
def test_bf16_blocks_are_within_one_percent(scale):
    hidden, vectors, targets = factors(500, 3000, 16, scale)
    plain = F.cross_entropy(hidden @ vectors.T, targets)
    expected = torch.autograd.grad(plain, (hidden, vectors))
    small = [side.detach().float().requires_grad_() for side in (hidden, vectors)]
    found = full_cross_entropy(*small, targets, 64, dtype=torch.bfloat16)
    assert found.item() == pytest.approx(plain.item(), rel=2e-3) and found.dtype == torch.float32
    for gradient, exact in zip(torch.autograd.grad(found, small), expected):
        assert ((gradient - exact).norm() / exact.norm()) < (0.01 if bounded(hidden, vectors) else 1e-5)


def padded_gradients(model, batch, targets):
    """Gradients of the mean cross-entropy in float64, sequence by sequence through ordinary masked attention."""
    ends, loss = batch.lengths.cumsum(0).tolist(), 0.0
    for length, end in zip(batch.lengths.tolist(), ends):
        hidden = padded_hidden(model, batch.items[end - length : end].tolist(), padding=12 - length)
        loss = loss + F.cross_entropy(hidden @ model.items().vectors.T, targets[end - length : end], reduction="sum")
    (loss / ends[-1]).backward()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_within_one_percent_of_the_float64_padded_twin(precision, world):
    torch.manual_seed(0)
    model = Recommender.for_dataset(EncoderConfig(width=32, max_length=12, dropout=0.0), world).train()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3 * parameter.shape[1] ** -0.5)
    exact = Recommender.for_dataset(EncoderConfig(width=32, max_length=12, dropout=0.0), world)
    exact.load_state_dict(model.state_dict())
    batch = next(PackedSequences.for_training(world, 12).epoch(400))
    targets = torch.as_tensor(world.items)[batch.rows + 1]
    padded_gradients(exact.double(), batch, targets)
    engine = TrainingConfig(precision=precision, device="cpu").engine()
    with engine.autocast():
        hidden, vectors, *_ = model(batch)
    full_cross_entropy(hidden, vectors, targets, 100, dtype=engine.dtype).backward()
    errors = {
        name: float((one.grad - other.grad).norm() / other.grad.norm())
        for (name, one), (_, other) in zip(model.named_parameters(), exact.named_parameters())
        if other.grad is not None and other.grad.norm() > 0
    }
    assert len(errors) > 25 and max(errors.values()) < (0.01 if precision == "bf16" else 1e-4), errors


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 12), st.integers(0, 5))
def test_bins_cover_every_position_and_keep_to_their_sequence(lengths, capacity, padding):
    lengths = torch.tensor(sorted(lengths, reverse=True))
    positions = int(lengths.sum())
    bins = attention_bins(lengths, padding, capacity)
    sequence = torch.arange(len(lengths)).repeat_interleave(lengths)
    seen = torch.cat([part.index[part.slots] for part in bins])
    assert torch.equal(seen[:positions], torch.arange(positions)) and len(seen) == positions + padding
    for part in bins:
        index, allowed = part.index.view(part.bias.shape[:2]), part.bias == 0
        assert allowed.any(2).all(), "a slot that sees nothing would give NaN"
        query, key = index[:, :, None], index[:, None, :]
        assert ((sequence[query] == sequence[key]) & (key <= query))[allowed].all()
        of_position = part.slots[: len(part.slots) - (padding if part is bins[-1] else 0)]
        assert torch.equal(allowed.flatten(0, 1)[of_position].sum(1), _place(lengths)[part.index[of_position]] + 1)


def _place(lengths: torch.Tensor) -> torch.Tensor:
    """How many positions of its own sequence stand before each packed position."""
    return torch.cat([torch.arange(int(length)) for length in lengths])


@pytest.mark.parametrize("capacity", [2, 8, 64])
def test_attention_in_bins_equals_attention_one_sequence_at_a_time(capacity):
    lengths, heads = torch.tensor([17, 9, 9, 4, 1, 1]), 2
    qkv = torch.randn(int(lengths.sum()), 24, dtype=torch.float64, requires_grad=True)
    expected = torch.cat(
        [
            F.scaled_dot_product_attention(
                *(part.unflatten(1, (heads, -1)).transpose(0, 1) for part in own.chunk(3, 1)), is_causal=True
            ).transpose(0, 1).flatten(1)
            for own in qkv.split(lengths.tolist())
        ]
    )  # fmt: skip
    found = packed_causal_attention(qkv[None], attention_bins(lengths, 3, capacity), heads)[0]
    assert len(found) == len(qkv) + 3
    torch.testing.assert_close(found[: len(qkv)], expected)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad((found[: len(qkv)] * weight).sum(), qkv),
        torch.autograd.grad((expected * weight).sum(), qkv),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
def test_the_best_are_the_best(n_items, depth, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, n_items, generator=generator).round(decimals=1).to(dtype)  # with ties
    scores[torch.rand(5, n_items, generator=generator) < 0.2] = -torch.inf
    found = best(scores, depth)
    assert torch.equal(found.values, scores.topk(min(depth, n_items), dim=1).values)
    assert torch.equal(found.values, scores.gather(1, found.indices))
    assert all(len(set(row)) == len(row) for row in found.indices.tolist())


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.sampled_from([-9.0, 0.0, 9.0]),
    st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
def test_the_score_of_a_rank(n_items, k, seed, shift, dtype):
    generator = torch.Generator().manual_seed(seed)
    scores = (shift + torch.randn(5, n_items, generator=generator)).round(decimals=1).to(dtype)  # with ties
    scores[torch.rand(5, n_items, generator=generator) < 0.2] = -torch.inf
    found = kth_largest(scores, k)
    beyond = torch.full((5, 1), -torch.inf, dtype=dtype)
    assert torch.equal(found, scores.sort(1, descending=True).values[:, k - 1, None] if k <= n_items else beyond)


@pytest.mark.parametrize("blocks", ["of the cross-entropy", "of its own"])
def test_from_rounded_blocks_the_negative_is_that_of_exact_scores(blocks, world):
    """In bf16 the best of the block is often not the best item; the sampler looks again at a few of them."""
    batch = next(PackedSequences.for_training(world, 12).epoch(10_000))
    positives, generator = torch.as_tensor(world.items)[batch.rows + 1], torch.Generator().manual_seed(0)
    hidden = torch.randn(len(positives), 16, generator=generator)
    vectors = torch.randn(world.n_items, 16, generator=generator)
    exact = (hidden @ vectors.T).scatter(1, positives[:, None], -torch.inf).argmax(1)
    rounded = (hidden.bfloat16() @ vectors.bfloat16().T).scatter(1, positives[:, None], -torch.inf).argmax(1)
    assert (rounded != exact).sum() > 10
    config = NegativesConfig(name="hard", exclude="none")
    sampler = NegativeSampler(world, config, Engine(CPU, torch.bfloat16), generator)
    step, scored = Step(batch, positives), Scored(hidden, vectors, pair_scores(hidden, vectors, positives))
    if blocks == "of its own":
        negatives = sampler.draw(step, scored, None)
    else:
        negatives, observe = sampler.prepare(step, scored, None)
        full_cross_entropy(hidden, vectors, positives, 64, observe, torch.bfloat16)
    assert torch.equal(negatives[:, 0], exact)


def test_masking_is_undone():
    scores = torch.randn(3, 7)
    before, excluded = scores.clone(), torch.tensor([[0, 4, 7], [6, 7, 7], [1, 2, 3]])
    with masked(scores, excluded) as shown:
        assert torch.isneginf(shown).sum(1).tolist() == [2, 1, 3]
        assert torch.isneginf(shown[0, [0, 4]]).all() and torch.isneginf(shown[1, 6])
    assert torch.equal(scores, before)
    with pytest.raises(ValueError, match="no eligible negative"), masked(scores, torch.arange(7).expand(3, 7)):
        pass


@pytest.mark.parametrize("p", [0.1, 0.4, 0.9])
def test_dropout_keeps_the_right_share_and_scales_what_it_keeps(p):
    layer, x = Dropout(p), torch.ones(400, 257, requires_grad=True)
    torch.manual_seed(0)
    y = layer(x)
    kept = y > 0
    share = kept.double().mean().item()
    assert abs(share - (1 - p)) < 5 * (p * (1 - p) / kept.numel()) ** 0.5
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y.detach()), "the gradient passes where the value did"
    torch.manual_seed(0)
    assert torch.equal(layer(x), y) and not torch.equal(layer(x), y)
    assert layer.eval()(x) is x and Dropout(0.0)(x) is x


def test_dropout_masks_are_independent_from_entry_to_entry():
    """The four masks that one draw of 64 bits decides must not know of each other."""
    torch.manual_seed(3)
    mask = keep_mask(torch.Size([250_000, 4]), 0.5).double().numpy()
    correlation = np.corrcoef(mask.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / 250_000**0.5


def test_few_numbers_of_positions_occur():
    counts = torch.arange(1, 5000).tolist()
    assert all(count <= rounded_up(count) <= count * 33 / 32 + 1 for count in counts)
    assert rounded_up(5) == 5 and len({rounded_up(count) for count in range(2048, 4096)}) <= 33


def test_auto_takes_bf16_only_where_the_hardware_multiplies_it_faster(monkeypatch, tmp_path):
    monkeypatch.delenv("RODPO_PRECISION", raising=False)
    found = TrainingConfig(device="cpu").engine()
    assert found.dtype == (torch.bfloat16 if has_bf16_products(CPU) else torch.float32)
    about = tmp_path / "cpuinfo"
    monkeypatch.setattr(engine, "CPU_INFO", about)
    assert TrainingConfig(device="cpu").engine().precision == "fp32", "nothing is known of the processor"
    for vendor, feature, precision in (
        ("AuthenticAMD", "avx512_bf16", "bf16"),
        ("GenuineIntel", "avx512_bf16", "fp32"),
        ("GenuineIntel", "amx_bf16", "bf16"),
        ("AuthenticAMD", "avx512f", "fp32"),
    ):
        about.write_text(f"vendor_id\t: {vendor}\nflags\t\t: fpu {feature} sse\n")
        assert TrainingConfig(device="cpu").engine().precision == precision
    assert TrainingConfig(device="cpu", precision="bf16").engine().precision == "bf16"


def test_the_environment_says_what_auto_means(monkeypatch):
    for precision in engine.PRECISIONS:
        monkeypatch.setenv("RODPO_PRECISION", precision)
        assert TrainingConfig(device="cpu").engine().precision == precision
    assert TrainingConfig(device="cpu", precision="fp32").engine().precision == "fp32", "it was asked for"
    monkeypatch.setenv("RODPO_PRECISION", "half")
    with pytest.raises(InputError, match="RODPO_PRECISION is 'half'; it can be fp32 or bf16"):
        TrainingConfig(device="cpu").engine()


def test_frozen_states_are_those_of_eval_mode(world):
    torch.manual_seed(0)
    model = Recommender.for_dataset(EncoderConfig(width=16, max_length=12), world).train()
    sequences = PackedSequences.for_training(world, 12)
    frozen = FrozenStates(model, world, sequences, Engine(CPU))
    assert model.training
    batch = next(sequences.epoch(300, torch.Generator().manual_seed(1)))
    with torch.no_grad():
        hidden, vectors, *_ = model.eval()(batch)
    torch.testing.assert_close(frozen.at(batch), (hidden, vectors))
