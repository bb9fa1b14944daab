"""What counts as a false negative at a training position: three notions, each a mask over the catalogue.

*Oracle*: what the user of a synthetic world would have wanted. *Planted*: a known positive that was taken out before
training and is still to come. *Future*: what the user takes later on, in real data, for analysis only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle
from rodpo_lite.sampling.candidates import OwnedItems, exclusion_mask

Relevance = Callable[[PackedBatch], Tensor]  # which items are relevant at each position, [P, N]


def oracle_relevance(dataset: Dataset, oracle: Oracle) -> Relevance:
    """What the user of a synthetic world would want when the next item is taken, training items left out."""
    owned = OwnedItems.in_training(dataset)

    def relevance(batch: PackedBatch) -> Tensor:
        users = batch.user_of_position
        wanted = oracle.relevance[users.numpy(), oracle.phase[batch.rows.numpy() + 1]]
        return torch.from_numpy(wanted) & ~exclusion_mask(owned.items_of(users)[0], dataset.n_items)

    return relevance


def planted_relevance(planted: Planted) -> Relevance:
    """What was planted, and is still to come."""

    def relevance(batch: PackedBatch) -> Tensor:
        everything = torch.arange(planted.n_items, device=batch.rows.device).expand(len(batch.rows), -1)
        return planted.hit(batch, everything)

    return relevance


def future_relevance(dataset: Dataset) -> Relevance:
    """What the user takes later on, up to the validation item; the test item is not looked at."""
    split = leave_one_out(dataset)
    all_items, all_ends = torch.as_tensor(dataset.items), torch.as_tensor(split.train_end + 1)

    def relevance(batch: PackedBatch) -> Tensor:
        items, end = all_items.to(batch.rows.device), all_ends.to(batch.rows.device)[batch.user_of_position]
        relevant = torch.zeros(len(batch.rows), dataset.n_items, dtype=torch.bool, device=batch.rows.device)
        later = batch.rows + 2  # the row after the positive
        while bool((later < end).any()):
            here = (later < end).nonzero()[:, 0]
            relevant[here, items[later[here]]] = True
            later = later + 1
        return relevant

    return relevance
