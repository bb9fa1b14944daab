"""What selection did during an epoch of alignment, from the negatives that were really drawn."""

import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.planted import Planted


class SelectionDiagnostics:
    """Counts over an epoch; `last` [I] holds the negative that each position drew in the epoch before, or -1."""

    def __init__(self, n_items: int, last: Tensor, planted: Planted | None):
        self.n_items, self.last, self.planted = n_items, last, planted
        self.reset()

    def reset(self) -> None:
        """Forget the epoch, but not what each position drew last."""
        self.drawn = torch.zeros(self.n_items, dtype=torch.double, device=self.last.device)
        self.sums = dict.fromkeys(("positions", "seen", "repeated", "negatives", "hits", "push", "push_on_hits"), 0.0)

    def observe(self, batch: PackedBatch, negatives: Tensor, push: Tensor) -> None:
        """Add one step: negatives and the gradient of the preference loss on their scores, both [P, n]."""
        before, now = self.last[batch.rows], negatives[:, 0]
        self.drawn += torch.bincount(negatives.flatten(), minlength=self.n_items)
        found = {
            "positions": len(now),
            "seen": (before >= 0).sum(),
            "repeated": (before == now).sum(),
            "negatives": negatives.numel(),
            "push": push.double().sum() * len(now),
        }
        if self.planted is not None:
            hit = self.planted.hit(batch, negatives)
            found |= {"hits": hit.sum(), "push_on_hits": (push.double() * hit).sum() * len(now)}
        for name, value in found.items():
            self.sums[name] += float(value)
        self.last[batch.rows] = now

    def summary(self) -> dict[str, float]:
        """Of the epoch: `suppression` per position; `effective_negatives`, the exponential of the entropy of the drawn
        items; `repeat_rate`, how often a position drew what it drew in the epoch before; and with planted false
        negatives `hit_rate`, their share of the draws, and `erroneous_share`, their share of the suppression."""
        share = self.drawn[self.drawn > 0] / self.drawn.sum()
        found = {
            "suppression": self.sums["push"] / self.sums["positions"],
            "effective_negatives": float((-(share * share.log()).sum()).exp()),
        }
        if self.sums["seen"]:
            found["repeat_rate"] = self.sums["repeated"] / self.sums["seen"]
        if self.planted is not None:
            found["hit_rate"] = self.sums["hits"] / self.sums["negatives"]
            found["erroneous_share"] = self.sums["push_on_hits"] / self.sums["push"] if self.sums["push"] else 0.0
        return found
