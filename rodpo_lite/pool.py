"""The best items of a block of scores, found without sorting the catalogue."""

from typing import NamedTuple

import torch
from torch import Tensor

INTEGERS = {
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


class Pool(NamedTuple):
    """values and item ids of the best, both [R, K]."""

    values: Tensor
    indices: Tensor


def best(scores: Tensor, depth: int, ordered: bool = True) -> Pool:
    """The `depth` largest scores of each row [R, N], all where there are fewer; the best first if `ordered`.

    The catalogue is cut into groups. The best items lie in the groups with the largest maxima, as many groups as items
    are wanted, so one pass for the maxima leaves few items to choose from. Which of equal scores is taken
    is not fixed.
    """
    n_items = scores.shape[1]
    depth = min(depth, n_items)
    size = round((n_items / depth) ** 0.5)  # this many items a group leave the fewest to look at
    groups = n_items // size
    if size < 4 or groups <= depth:
        return Pool(*scores.topk(depth, dim=1))
    whole = groups * size
    # Group g holds the items g, g + groups, g + 2 groups, …: maxima across rows of memory are cheaper than along them.
    maxima = scores[:, :whole].unflatten(1, (size, groups)).amax(1)
    offset = groups * torch.arange(size, device=scores.device)
    tail = torch.arange(whole, n_items, device=scores.device).expand(len(scores), -1)
    chosen = _as_integers(maxima).topk(depth, dim=1, sorted=False).indices
    items = torch.cat([(chosen[:, :, None] + offset).flatten(1), tail], 1)
    values = scores.gather(1, items)
    place = _as_integers(values).topk(depth, dim=1, sorted=ordered).indices
    return Pool(values.gather(1, place), items.gather(1, place))


def _as_integers(scores: Tensor) -> Tensor:
    """Integers in the order of the scores: torch compares them faster than what may be NaN."""
    bits = scores.view(INTEGERS[scores.dtype])
    return bits ^ ((bits >> (8 * scores.element_size() - 1)) & torch.iinfo(bits.dtype).max)
