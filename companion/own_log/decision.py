"""Whether to align on one's own log: keep, discard or too small to say, by a rule that is written down before the runs.

The metric is NDCG@5 with the history dropped, of the same users for every model, and every change is relative.

1. On validation, the *incumbent* is the best model that needs no preferences: a baseline, the reference, `smoothed`,
   which has label smoothing and all the epochs of reference and alignment, or `none`, which trains on without them. The
   *candidate* is the best of the alignments.
2. *Keep* is proposed if the candidate is above the incumbent with p below 5 % over the number of alignments, as it is
   the best of so many; *discard* if the 95 % interval of every alignment lies below the smallest gain that is worth it.
3. Otherwise the log is *too small to say*. Test is not read then, and stays fresh for the day when there is more.
4. Test is read once, for these two. It is discard if the 95 % interval lies below what is worth it there, else keep if
   that was proposed and the interval lies above zero, and else too small to say. So both verdicts need both parts: the
   incumbent, too, is the best of several, and on a few users by luck.

Written before any run, but for `smoothed`: it joined when the pool had not been shown to be ahead of it on Toys, on the
page *The base*, and before any log was judged with it. It can only raise the incumbent.

The gain that is reported is that on test, as the candidate was chosen on validation. Five seeds are needed: an interval
of three leaves too much open on what another seed would change, so that it takes several times as many users.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from companion.own_log.trial import SEEDS
from rodpo_lite.evaluation.statistics import Comparison, crossed_change

Verdict = Literal["keep", "discard", "too small"]
ALIGNMENTS = ("uniform", "hard", "topk")
WORTH = 2.0  # percent: the smallest gain that is worth an alignment
POWER = 0.9


@dataclass(frozen=True)
class Decision:
    """A verdict, the two models that it is about, and the candidate's change over the incumbent.

    valid: None if the incumbent has no hit at all; test: None if it was not read.
    """

    verdict: Verdict
    candidate: str
    incumbent: str
    valid: Comparison | None
    test: Comparison | None = None

    @property
    def use(self) -> str:
        """The model to go on with."""
        return self.candidate if self.verdict == "keep" else self.incumbent


def decide(valid: Mapping[str, np.ndarray], test: Callable[[str], np.ndarray] | None, worth: float = WORTH) -> Decision:
    """Decide by the rule above. valid: NDCG@5 on validation of each model, [S, U], or [1, U] of one without seeds.

    test: gives the same on test for one model; it is called for candidate and incumbent alone, and at most once. None
    is for a look at validation, which decides nothing.
    """
    means = {name: float(values.mean()) for name, values in valid.items()}
    incumbent = max((name for name in means if name not in ALIGNMENTS), key=means.get)
    candidate = max((name for name in means if name in ALIGNMENTS), key=means.get)
    if means[incumbent] == 0:
        return Decision("too small", candidate, incumbent, None)
    changes = {name: compare(valid[incumbent], valid[name]) for name in means if name in ALIGNMENTS}
    best = changes[candidate]
    keep = best.estimate > 0 and best.p < 0.05 / len(changes)
    unsure = not keep and max(change.high for change in changes.values()) >= worth
    if unsure or test is None:
        return Decision("too small", candidate, incumbent, best)
    before, after = test(incumbent), test(candidate)
    if before.mean() == 0:
        return Decision("too small", candidate, incumbent, best)
    confirmed = compare(before, after)
    verdict = "discard" if confirmed.high < worth else "keep" if keep and confirmed.low > 0 else "too small"
    return Decision(verdict, candidate, incumbent, best, confirmed)


def users_needed(change: Comparison, users: int, seeds: int, gain: float, tests: int = len(ALIGNMENTS)) -> int:
    """How many users it would take to keep what brings `gain` percent, in about three logs of four.

    change: that on validation of so many `users` and `seeds`. Its error is taken to shrink with the root of the number
    of users, which is too good where seeds differ more than users do, and its degrees of freedom to be the fewest that
    so many seeds can have.
    """
    limits = scipy.stats.t.ppf([1 - 0.025 / tests, POWER], seeds_counted(seeds) - 1)
    return int(np.ceil(users * (limits.sum() * change.error / gain) ** 2))


def seeds_counted(seeds: int) -> int:
    """Those that a number of users is counted with: of one, which says nothing of others, those of a whole trial."""
    return seeds if seeds > 1 else len(SEEDS)


def compare(before: np.ndarray, after: np.ndarray) -> Comparison:
    """The relative change of models, of which one without seeds is the same for every seed of the other."""
    return crossed_change(*np.broadcast_arrays(before, after))
