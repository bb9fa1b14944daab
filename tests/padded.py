"""The encoder once more, one padded sequence at a time: what the packed one must give."""

import torch

from rodpo_lite.model.recommender import Recommender


def padded_hidden(model: Recommender, sequence: list[int], padding: int) -> torch.Tensor:
    """One sequence, filled up with item 0 on the right, through ordinary masked attention."""
    encoder, vectors = model.sequence, model.items().vectors
    items = torch.tensor(sequence + [0] * padding)
    length = len(items)
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    x = vectors[items] + encoder.position.weight[:length]
    x = x[None]  # one tower
    for block in encoder.blocks:
        q, k, v = (part.unflatten(-1, (block.heads, -1)) for part in block.qkv(block.attention_norm(x))[0].chunk(3, -1))
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        x = x + block.out(torch.einsum("hqk,khd->qhd", weights, v).flatten(1)[None])
        x = x + block.feedforward(block.feedforward_norm(x), "")[0]
    return encoder.norm(x)[0, : len(sequence)]
