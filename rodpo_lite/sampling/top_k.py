"""The best items of a block of scores, found without sorting the catalogue."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a score
WIDER = {torch.int16: torch.int32, torch.int32: torch.int64}  # room for a score and its place
GROUP = 6


class TopK(NamedTuple):
    """values and item ids of the best, both [R, K]."""

    values: Tensor
    indices: Tensor


def best(scores: Tensor, depth: int, ordered: bool = True) -> TopK:
    """The `depth` largest scores of each row [R, N], all where there are fewer; the best first if `ordered`.

    The catalogue is cut into groups. The best items lie in the groups with the largest maxima, as many groups as items
    are wanted, and these groups are found in the same way: what is compared shrinks sixfold each time. Which of equal
    scores is taken is not fixed.
    """
    n_items = scores.shape[1]
    depth, groups = min(depth, n_items), n_items // GROUP
    if groups <= 2 * depth:
        return largest(scores, depth, ordered)
    grouped = groups * GROUP
    # Group g holds the items g, g + groups, g + 2 groups, …: maxima across rows of memory are cheaper than along them.
    maxima = scores[:, :grouped].unflatten(1, (GROUP, groups)).amax(1)
    chosen = best(maxima, depth, ordered=False).indices
    offset = groups * torch.arange(GROUP, device=scores.device)
    tail = torch.arange(grouped, n_items, device=scores.device).expand(len(scores), -1)
    items = torch.cat([(chosen[:, :, None] + offset).flatten(1), tail], 1)
    values, place = largest(scores.gather(1, items), depth, ordered)
    return TopK(values, items.gather(1, place))


def kth_largest(scores: Tensor, k: int) -> Tensor:
    """The score of rank k of each row [R, N], from 1 for the best, as [R, 1]; -inf where there are fewer."""
    place = scores.shape[1] - k
    if place < 0:
        return scores.new_full((len(scores), 1), -torch.inf)
    if scores.is_cuda or scores.element_size() not in (2, 4):
        return scores.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    found = _of_place(scores.view(INTEGERS[scores.element_size()]), place)
    if bool((found < 0).any()):  # the bits of floating-point numbers are in their order where these are not negative
        found = _as_integers(_of_place(_as_integers(scores), place).view(scores.dtype))
    return found.view(scores.dtype)


def _of_place(keys: Tensor, place: int) -> Tensor:
    """What stands at a place of each row of integers [R, N], smallest first, as [R, 1], by vector instructions."""
    return torch.from_numpy(np.partition(keys.numpy(), place, axis=1)[:, place, None])


def largest(scores: Tensor, depth: int, ordered: bool = True) -> TopK:
    """`best` of short rows."""
    keys = _as_integers(scores)
    if scores.is_cuda or keys.dtype not in WIDER or scores.shape[1] > 2 ** (8 * keys.element_size()):
        place = keys.topk(depth, dim=1, sorted=ordered).indices
    else:
        place = _partitioned(keys, depth, ordered)
    return TopK(scores.gather(1, place), place)


def _partitioned(keys: Tensor, depth: int, ordered: bool) -> Tensor:
    """Places of the `depth` largest keys of each row [R, N]: NumPy partitions with vector instructions, torch does not.

    Place and key are one number, the key in front, so that what is moved says where it came from.
    """
    bits, count = 8 * keys.element_size(), keys.shape[1]
    wide = WIDER[keys.dtype]
    pairs = (keys.to(wide) << bits).bitwise_or_(torch.arange(count, dtype=wide)).numpy()
    pairs.partition(count - depth, axis=1)
    top = pairs[:, count - depth :]
    if ordered:
        top = np.sort(top, axis=1)[:, ::-1]
    return torch.from_numpy(top & (2**bits - 1)).long()


def _as_integers(scores: Tensor) -> Tensor:
    """Integers in the order of the scores: torch compares them faster than what may be NaN."""
    bits = scores.view(INTEGERS[scores.element_size()])
    return bits ^ ((bits >> (8 * scores.element_size() - 1)) & torch.iinfo(bits.dtype).max)
