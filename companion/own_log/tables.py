"""What a trial on one's own log found, as tables: models, what would be rejected wrongly, and for whom it changes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from companion.evidence.grid import Grid
from companion.evidence.ledger import Ledger
from companion.findings import answer, costs
from companion.own_log.decision import ALIGNMENTS, Decision, compare, users_needed
from companion.own_log.trial import REFERENCE, ROWS, SHARE, SMOOTHED, Trial
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism.rank_profiles import rank_profile
from rodpo_lite.mechanism.relevance import future_relevance
from rodpo_lite.sampling.selectors import NegativesConfig
from rodpo_lite.settings import build, read_preset
from rodpo_lite.training.runs import load

GAINS = (20, 10, 5, 2)  # percent, of which the report says how many users would show them
CELLS = 4_000_000  # positions times items that a profile looks at
DEPTH = 200  # ranks in the picture
GROUPS = 4  # of users, by the length of their history


def card(grid: Grid, ledger: Ledger) -> dict[str, Any]:
    """Facts for `card.md.j2`: what the pool brought on record, the settings of a trial, and what an epoch of it costs.

    cost: of an epoch of alignment, in plain epochs.
    """
    config = build(AlignmentConfig, read_preset("recommended"))
    training, k = config.training, config.negatives.k
    facts = {"k": k, "share": SHARE, "beta": config.loss.beta, "rate": training.learning_rate}
    facts |= {"anchor": training.lambda_ce, "epochs": training.epochs}
    steps = costs.curve(costs.measured("curves"), "pool").set_index("x")["seconds"]
    said = {"pool": {"of": 0}, "theirs": [], "plainer": []} | answer.answer(grid, ledger)
    return facts | {name: said[name] for name in ("pool", "theirs", "plainer")} | {"cost": steps[k] / steps[0]}


def models(trial: Trial) -> list[str]:
    """Every model of a trial, the simplest first."""
    return [*trial.baselines, REFERENCE, SMOOTHED, *ROWS]


def comparison(trial: Trial, incumbent: str) -> pd.DataFrame:
    """A row for each model on validation: NDCG@5 in both protocols, change over the incumbent, seconds of training."""
    rows, before = [], trial.ndcg(incumbent, "valid")
    for name in models(trial):
        dropped, ranked = (trial.ndcg(name, "valid", history).mean() for history in (False, True))
        change = compare(before, trial.ndcg(name, "valid")) if name != incumbent and before.any() else None
        limits = (change.estimate, change.low, change.high) if change else (np.nan,) * 3
        rows.append((name, dropped, ranked, *limits, trial.seconds(name)))
    columns = ["model", "NDCG@5, history dropped", "NDCG@5, all items", "change %", "low", "high", "seconds a seed"]
    return pd.DataFrame(rows, columns=columns)


def enough(trial: Trial, decision: Decision, gains: Sequence[float] = GAINS) -> pd.Series:
    """How many users, two digits of it, would show a gain, by that gain in percent; empty if nobody has a hit."""
    users, seeds = trial.dataset.n_users, len(trial.seeds)
    needed = {gain: users_needed(decision.valid, users, seeds, gain) for gain in gains if decision.valid}
    needed = {gain: int(float(f"{count:.2g}")) for gain, count in needed.items()}
    return pd.Series(needed, name="users", dtype=object).rename_axis("gain %")


def taken_later(trial: Trial) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often the item at a rank of the reference is one that the user takes later; and of the push of each selector,
    in percent, what lands on such items at the start of alignment."""
    run = load(trial.run_folders(REFERENCE)[0], trial.dataset)
    positions = max(50, min(4000, CELLS // trial.dataset.n_items))
    later, length = future_relevance(trial.dataset), run.encoder.max_length
    profile = rank_profile(run.model, run.model, trial.dataset, later, length, positions, exclude="past")
    share = 100 * profile.false_negative.mean(0)[:DEPTH]
    loss, push = build(LossConfig, trial.alignment.get("loss", {})), []
    for name in ALIGNMENTS:
        settings = trial.alignment.get("negatives", {}) | {"name": name}
        wrong, right = (part.mean() for part in profile.expected(build(NegativesConfig, settings), loss))
        push.append((name, 100 * wrong / (wrong + right) if wrong + right else np.nan))
    ranks = pd.DataFrame({"rank": np.arange(1, len(share) + 1), "taken later, %": share})
    return ranks, pd.DataFrame(push, columns=["model", "of the push on items taken later, %"])


def for_whom(trial: Trial, decision: Decision) -> pd.DataFrame:
    """The candidate's change over the incumbent by length of history, a row for each group that has hits.

    On test if that was read, else on validation.
    """
    part = "test" if decision.test else "valid"
    before, after = (trial.ndcg(name, part) for name in (decision.incumbent, decision.candidate))
    lengths, rows = trial.dataset.lengths, []
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, GROUPS + 1)).astype(int))
    for low, high in zip(edges, np.append(edges[1:-1], edges[-1] + 1)):
        group = (lengths >= low) & (lengths < high)
        if group.sum() > 1 and before[:, group].any():
            change = compare(before[:, group], after[:, group])
            name = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            rows.append((name, int(group.sum()), change.estimate, change.low, change.high))
    return pd.DataFrame(rows, columns=["interactions", "users", "change %", "low", "high"])
