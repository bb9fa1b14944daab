"""Selection during an epoch of alignment, from the negatives that were really drawn."""

import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.planted import Planted
from rodpo_lite.sampling.candidates import OwnedItems


class SelectionDiagnostics:
    """Counts over an epoch, and on what kinds of items the draws and the suppression fell.

    A negative is `past` if the user has it already, `future` if the user takes it after the positive (`known` says
    when each user takes what, the test item left out), and `planted` if it is a planted positive that is still to come.
    `last` [I] holds the negative that each position drew in the epoch before, or -1.
    """

    def __init__(self, n_items: int, last: Tensor, known: OwnedItems, planted: Planted | None):
        self.n_items, self.last, self.known, self.planted = n_items, last, known, planted
        self.reset()

    def reset(self) -> None:
        """Forget the epoch, but not what each position drew last."""
        self.drawn = torch.zeros(self.n_items, dtype=torch.double, device=self.last.device)
        self.sums: dict[str, float] = {}

    def observe(self, batch: PackedBatch, negatives: Tensor, gradient: Tensor) -> None:
        """Add one step: negatives and the gradient of the mean preference loss on their scores, both [P, n]."""
        before, now = self.last[batch.rows], negatives[:, 0]
        suppression = gradient.double() * len(now)  # per position
        self.drawn.index_add_(0, negatives.flatten(), torch.ones_like(suppression).flatten())
        sums = {
            "positions": len(now),
            "seen": (before >= 0).sum(),
            "repeated": (before == now).sum(),
            "negatives": negatives.numel(),
            "suppression": suppression.sum(),
            "size": suppression.abs().sum(),
        }
        first_row, here = self.known.first_rows(batch.user_of_position, negatives), batch.rows[:, None]
        kinds = {"past": (first_row >= 0) & (first_row <= here), "future": first_row > here + 1}
        if self.planted is not None:
            kinds["planted"] = self.planted.hit(batch, negatives)
        for kind, on in kinds.items():
            sums |= {f"{kind}_draws": on.sum(), f"{kind}_size": (suppression.abs() * on).sum()}
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.last[batch.rows] = now

    def summary(self) -> dict[str, float]:
        """Summarise the epoch: `suppression` per position; `effective_negatives`, the exponential of the entropy of the
        drawn items; `repeat_rate`, how often the first draw of a position was that of the epoch before; and for each
        kind of item `<kind>_rate`, its share of the draws, and `<kind>_share`, its share of the size of all suppression
        (that of some losses can be negative)."""
        share, sums = self.drawn[self.drawn > 0] / self.drawn.sum(), self.sums
        summary = {
            "suppression": sums["suppression"] / sums["positions"],
            "effective_negatives": float((-(share * share.log()).sum()).exp()),
        }
        if sums["seen"]:
            summary["repeat_rate"] = sums["repeated"] / sums["seen"]
        for kind in ("past", "future", *(("planted",) if self.planted is not None else ())):
            summary[f"{kind}_rate"] = sums[f"{kind}_draws"] / sums["negatives"]
            summary[f"{kind}_share"] = sums[f"{kind}_size"] / sums["size"] if sums["size"] else 0.0
        return summary
