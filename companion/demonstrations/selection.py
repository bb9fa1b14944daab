"""What selectors push where false negatives are known: the synthetic world of the chapters gradients and selection."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.synthetic import Oracle, open_world
from rodpo_lite.evaluation.statistics import Interval, user_bootstrap
from rodpo_lite.losses.preference import LossConfig
from rodpo_lite.mechanism import agreement, rank_profiles
from rodpo_lite.mechanism.drift import embedding_drift
from rodpo_lite.mechanism.rank_profiles import RankProfile
from rodpo_lite.mechanism.relevance import Relevance, oracle_relevance
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.sampling.selectors import SELECTORS, NegativesConfig
from rodpo_lite.settings import build
from rodpo_lite.training import checkpoint, runs

PARTS = ["erroneous", "informative"]  # of suppression


@dataclass(frozen=True)
class SmallWorld:
    """A synthetic world, a small reference trained on it in `folder`, and policies aligned from that reference."""

    dataset: Dataset
    relevance: Relevance
    folder: Path
    seed: int
    reference: runs.Run

    @classmethod
    def train(cls, folder: Path, seed: int) -> "SmallWorld":
        dataset, world = open_world("", seed)
        encoder, training = {"width": 32, "dropout": 0.2}, {"epochs": 15, "precision": "fp32"}
        config = build(ReferenceConfig, {"seed": seed, "encoder": encoder, "training": training})
        runs.train(dataset, config, folder / "reference")
        relevance = oracle_relevance(dataset, Oracle.of(dataset, world))
        return cls(dataset, relevance, folder, seed, runs.load(folder / "reference", dataset))

    def align(self, name: str, k: int, beta: float, loss: str = "dpo", epochs: int = 3) -> runs.Run:
        training, out = {"epochs": epochs, "learning_rate": 5e-4, "precision": "fp32"}, self.folder / f"{name}-{loss}"
        config = {"seed": self.seed, "negatives": {"name": name, "k": k}, "loss": {"name": loss, "beta": beta}}
        runs.align(
            self.dataset, self.folder / "reference", build(AlignmentConfig, config | {"training": training}), out
        )
        return runs.load(out, self.dataset)

    def believed(self, selectors: Iterable[NegativesConfig], beta: float, epochs: int) -> pd.DataFrame:
        """By selector, what `rpo` makes of its pairs: `wrong`, percent of the rejected items that are wanted under the
        policy that it aligns; `believed, epoch <n>`, percent of pairs that it believes to be the wrong way round; and
        `margin`, its mean in the first epoch."""
        rows = {}
        for negatives in selectors:
            run = self.align(negatives.name, negatives.k, beta, "rpo", epochs)
            profile = self.profile(run.model)
            wanted = (profile.probabilities(negatives) * profile.false_negative).sum(1).mean()
            history = checkpoint.read_history(run.folder)
            believed = {f"believed, epoch {line['epoch']}": 100 * (1 - line["right_share"]) for line in history}
            rows[negatives.name] = {"wrong": 100 * wanted, **believed, "margin": history[0]["margin"]}
        return pd.DataFrame(rows).T.rename_axis("selector")

    def profile(self, policy: Recommender, positions: int = 4000, exclude: str = "train") -> RankProfile:
        """Profile a policy against the reference on about `positions` next-item predictions."""
        length = self.reference.encoder.max_length
        models = (policy, self.reference.model)
        return rank_profiles.rank_profile(*models, self.dataset, self.relevance, length, positions, exclude=exclude)


def suppression(profile: RankProfile, negatives: NegativesConfig, loss: LossConfig, draws: int = 20) -> pd.DataFrame:
    """Expected suppression of each position, indexed by user; where it cannot be stated, the mean of so many draws."""
    stated = SELECTORS[negatives.name].probabilities
    parts = profile.expected(negatives, loss) if stated else agreement.by_drawing(profile, negatives, loss, draws)
    return pd.DataFrame(dict(zip(PARTS, parts)), index=profile.users)


def anchor(profile: RankProfile) -> pd.DataFrame:
    """Suppression by the cross-entropy anchor at λ_ce = 1, in the form of `suppression`."""
    return pd.DataFrame(dict(zip(PARTS, profile.by_kind(profile.anchor))), index=profile.users)


def noise(profile: RankProfile, negatives: NegativesConfig, loss: LossConfig) -> float:
    """Variance of one draw's suppression over its squared mean; NaN where the probabilities cannot be stated."""
    stated = SELECTORS[negatives.name].probabilities
    return rank_profiles.noise(profile.probabilities(negatives), profile.suppression(loss)) if stated else np.nan


def summary(by_selector: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Means over positions of what `suppression` gives, a row for each selector, and the erroneous share."""
    means = pd.DataFrame({name: table.mean() for name, table in by_selector.items()}).T.rename_axis("selector")
    return means.assign(**{"erroneous share": means["erroneous"] / means.sum(axis=1)})


def user_means(table: pd.DataFrame) -> pd.DataFrame:
    """What `suppression` gives, averaged within each user."""
    return table.groupby(level=0).mean()


def change(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Interval]:
    """Change of each part from one selector to another in percent, averaged within users first."""
    before, after = user_means(before), user_means(after)
    return {part: user_bootstrap(before[part].to_numpy(), after[part].to_numpy()) for part in PARTS}


def relative_informative(profile: RankProfile, betas: Iterable[float], depth: int | None = None) -> np.ndarray:
    """Informative suppression, of the best `depth` ranks, of a pool of K = 1 … N against `hard`, in %, [betas, N]."""
    curves = [profile.by_pool_size(LossConfig(beta=beta), depth)[1] for beta in betas]
    return np.array([100 * (curve / curve[0] - 1) for curve in curves])


def turning_point(relative: np.ndarray) -> int | None:
    """The smallest K from which on informative suppression [N] stays below that of `hard`; None if there is none."""
    return int(np.flatnonzero(relative >= 0).max()) + 2 if relative[-1] < 0 else None


def dials(profile: RankProfile, settings: dict[str, tuple[str, list, dict]], betas: list[float]) -> pd.DataFrame:
    """Suppression as selectors are turned from `hard` towards `uniform`, in percent against `hard`, by setting and β.

    settings: by name of the dial the key that is turned, its values, and the rest of the selector's configuration; one
    of them is `topk, K` with the value 1, which is `hard`.
    """
    turned = pd.DataFrame(
        {"dial": dial, "value": value, "config": NegativesConfig(**rest, **{key: value})}
        for dial, (key, values, rest) in settings.items()
        for value in values
    )
    table = rank_profiles.suppression_table(profile, list(turned["config"]), [LossConfig(beta=beta) for beta in betas])
    table = table.join(turned[["dial", "value"]], on="setting").assign(β=np.array(betas)[table["loss"]])
    hard = table[(table["dial"] == "topk, K") & (table["value"] == 1)].set_index("β")
    table[PARTS] = 100 * (table[PARTS] / hard.loc[table["β"], PARTS].to_numpy() - 1)
    return table


def distances(table: pd.DataFrame, dial: str = "topk, K") -> dict[str, float]:
    """Of `dials` at one β, how far the others are at most from one in informative suppression, in percentage points,
    at equal erroneous suppression."""
    pool = table[table["dial"] == dial].sort_values("erroneous")
    others = table[(table["dial"] != dial) & table["erroneous"].between(*pool["erroneous"].agg(["min", "max"]))]
    at_pool = np.interp(others["erroneous"], pool["erroneous"], pool["informative"])
    return (others["informative"] - at_pool).abs().groupby(others["dial"]).max().to_dict()


def drift(profile: RankProfile, policy: Recommender, reference: Recommender, pool: RankProfile) -> dict[str, float]:
    """How far alignment moved false negatives and their neighbours: scores of the reference's best 20, whose difference
    is averaged within users first, over positions that have both kinds, and vectors of the best 20 of `pool`."""
    wanted, rest = profile.score_drift(depth=20)
    gap = pd.Series(wanted - rest).groupby(profile.users).mean().dropna()
    vectors = pool.in_pool(embedding_drift(policy, reference), depth=20)
    return {
        "scores: false negatives": np.nanmean(wanted), "the rest": np.nanmean(rest), "difference": gap.mean(),
        "± 95 %": 1.96 * gap.sem(),
        "vectors: false negatives": vectors[0], "the others": vectors[1],
    }  # fmt: skip
