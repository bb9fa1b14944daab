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


def at_ranks(scores: Tensor, ranks: Tensor) -> Tensor:
    """The items of rows of scores [R, N] that have these ranks [R, n], 0 for the best, without the items above them.

    Which of equal scores comes first is not fixed, but each has one rank.
    """
    depth = int(ranks.max()) + 1
    if scores.is_cuda or scores.dtype != torch.float32:
        return best(scores, depth).indices.gather(1, ranks)
    (rows, n_items), values, groups = scores.shape, scores.numpy(), scores.shape[1] // GROUP
    if groups > 2 * depth:  # as many group maxima are no better than as many of the best items
        bound = scores[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amax(1).numpy()
    else:
        bound = values.copy()
    bound.partition(bound.shape[1] - depth, axis=1)
    flat = np.flatnonzero(values >= bound[:, -depth, None])  # the best items, and a few more
    ends = np.searchsorted(flat, n_items * np.arange(1, rows + 1))
    counts = np.diff(ends, prepend=0)
    column = np.arange(counts.max())
    pool = flat[np.minimum((ends - counts)[:, None] + column, len(flat) - 1)]  # [R, W]
    of_pool = values.reshape(-1)[pool]
    of_pool[column >= counts[:, None]] = -np.inf
    at_rank = np.take_along_axis(np.sort(of_pool, axis=1), len(column) - 1 - ranks.numpy(), 1)  # [R, n]
    places = []
    for score, rank in zip(at_rank.T, ranks.numpy().T, strict=True):
        equal = of_pool == score[:, None]
        place = equal.argmax(1)
        if (several := equal.sum(1) > 1).any():  # then as far down among them as the rank is below the first one's
            among = rank[several] - (of_pool[several] > score[several, None]).sum(1)
            place[several] = (equal[several].cumsum(1) > among[:, None]).argmax(1)
        places.append(place)
    return torch.from_numpy(np.take_along_axis(pool, np.stack(places, 1), 1) % n_items)


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
