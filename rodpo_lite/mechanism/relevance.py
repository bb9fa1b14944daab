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
from rodpo_lite.evaluation.ranking import padded_slices
from rodpo_lite.sampling.candidates import OwnedItems, item_mask

Relevance = Callable[[PackedBatch], Tensor]  # which items are relevant at each position, [P, N]


def oracle_relevance(dataset: Dataset, oracle: Oracle) -> Relevance:
    """What the user of a synthetic world would want when the next item is taken, training items left out."""
    owned = OwnedItems.in_training(dataset)

    def relevance(batch: PackedBatch) -> Tensor:
        users = batch.user_of_position
        wanted = oracle.relevance[users.numpy(), oracle.phase[batch.rows.numpy() + 1]]
        return torch.from_numpy(wanted) & ~item_mask(owned.items_of(users)[0], dataset.n_items)

    return relevance


def planted_relevance(planted: Planted) -> Relevance:
    """What was planted, and is still to come."""
    catalogue = torch.arange(planted.n_items, device=planted.keys.device)
    return lambda batch: planted.hit(batch, catalogue.expand(len(batch.rows), -1))


def future_relevance(dataset: Dataset) -> Relevance:
    """What the user takes later on, up to the validation item; the test item is not looked at."""
    items, ends = torch.as_tensor(dataset.items), torch.as_tensor(leave_one_out(dataset).train_end + 1)

    def relevance(batch: PackedBatch) -> Tensor:
        end, after_positive = ends.to(batch.rows.device)[batch.user_of_position], batch.rows + 2
        later = padded_slices(items.to(batch.rows.device), after_positive, end, dataset.n_items)  # [P, M]
        return item_mask(later, dataset.n_items)

    return relevance
