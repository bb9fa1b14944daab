"""The synthetic world: latent tastes whose true relevance is known, written in the canonical format.

Users have tastes that drift from phase to phase, items have latent vectors and Zipf popularity. Whether an item is
relevant to a user in a phase is drawn once and kept. A user sees only a limited, popularity-biased slate at each step
and takes a relevant item from it, so most relevant items stay unobserved: the false negatives of implicit feedback,
here with a known answer. Text and image features carry part of the item's latent vector.
"""

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rodpo_lite.data import checks
from rodpo_lite.data.schema import Dataset, locate, read_dataset, write_dataset
from rodpo_lite.errors import InputError, shown

ORACLE = "oracle/relevance.npy"
PHASES = "oracle/phases.parquet"
SLATES = "oracle/slates.parquet"
SHOWN = 20  # users whose slates are kept
DAY = 86_400
FIRST_DAY = 1_388_534_400  # 2014-01-01

_KINDS = "lamp kettle puzzle racket scarf drum globe teapot kite stool clock basket".split()
_LOOKS = "walnut cobalt linen amber copper ivory slate coral jade silver maple indigo".split()


@dataclass(frozen=True)
class WorldSizes:
    """How large and how hard the world is."""

    users: int = 2000
    items: int = 1000
    latent: int = 12
    phases: int = 4
    slate: int = 60
    mean_length: float = 9.0
    relevant_share: float = 0.08


@dataclass(frozen=True)
class Oracle:
    """True relevance [U, phases, N], the phase of each interaction row [I], and of the first SHOWN users every slate:
    a row for each item on it, with columns user, position and item."""

    relevance: np.ndarray
    phase: np.ndarray
    slates: pd.DataFrame

    @classmethod
    def of(cls, dataset: Dataset, folder: Path) -> "Oracle":
        """Read the oracle beside a synthetic dataset; raises InputError if there is none."""
        path = Path(folder) / ORACLE
        if not path.is_file():
            raise InputError(f"{folder} has no oracle: only a synthetic world knows its true relevance.")
        packed = np.load(path, allow_pickle=False)
        phases = checks.read_parquet(Path(folder), PHASES).sort_values(["user", "position"])
        relevance = np.unpackbits(packed, axis=2, count=dataset.n_items).astype(bool)
        return cls(relevance, phases["phase"].to_numpy(np.int64), checks.read_parquet(Path(folder), SLATES))


def synthesise(out: Path, seed: int = 0, sizes: WorldSizes = WorldSizes()) -> Path:
    """Make a world in the folder `out`, the same bytes for a seed and sizes; InputError if they can make none."""
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"The seed of a world is a whole number from 0 on, but got {shown(seed)}.")
    if sizes.users < 1 or sizes.items < 100:
        raise InputError(f"A world needs at least 1 user and 100 items, but got {sizes.users} and {sizes.items}.")
    rng = np.random.default_rng(seed)
    latent = _item_vectors(rng, sizes)
    weights = 1 / np.arange(5, sizes.items + 5) ** 0.9
    popularity = rng.permutation(weights / weights.sum())  # Zipf weights in random item order, [N]
    tastes = _drifting_tastes(rng, sizes)
    relevance = _relevance(rng, tastes, latent, popularity, sizes)
    lengths = np.clip(5 + rng.geometric(1 / (sizes.mean_length - 4), sizes.users) - 1, 5, 50)
    interactions, slates = _browse(rng, lengths, tastes, latent, popularity, relevance, sizes)
    items = pd.DataFrame({"item": np.arange(sizes.items), "text": _titles(latent)})
    items["has_text"] = rng.random(sizes.items) < 0.98
    items["has_image"] = rng.random(sizes.items) < 0.95
    items["text"] = items["text"].where(items["has_text"])
    features = {
        "text": _view(rng, latent[:, : sizes.latent * 2 // 3], 48, 0.3) * items[["has_text"]].to_numpy(),
        "image": _view(rng, latent[:, sizes.latent // 3 :], 64, 0.5) * items[["has_image"]].to_numpy(),
    }
    return write_dataset(
        out,
        "synthetic",
        interactions.drop(columns="phase"),
        items,
        features,
        extra={
            ORACLE: np.packbits(relevance, axis=2),
            PHASES: interactions[["user", "position", "phase"]],
            SLATES: slates,
        },
        has_timestamps=True,
        source=f"rodpo data synth, seed {seed}",
        licence="MIT",
        notes="Synthetic: tastes, items and clicks are drawn from a known model; oracle/ keeps the true relevance.",
        origin={
            "text": "random projection of the first two thirds of the item's latent vector, with noise",
            "image": "random projection of the last two thirds of the item's latent vector, with more noise",
        },
    )


def open_world(name: str = "", seed: int = 0, sizes: WorldSizes = WorldSizes()) -> tuple[Dataset, Path]:
    """A dataset by folder or name (see `locate`); if that is empty, a fresh synthetic world for this process."""
    if name:
        return read_dataset(locate(name)), locate(name)
    holder = tempfile.mkdtemp(prefix="rodpo-world-")
    atexit.register(shutil.rmtree, holder, ignore_errors=True)
    made = synthesise(Path(holder) / "synthetic", seed, sizes)
    return read_dataset(made), made


def _item_vectors(rng: np.random.Generator, sizes: WorldSizes) -> np.ndarray:
    """Latent item vectors around a few dozen centres, unit length, [N, L]."""
    centres = _unit(rng.normal(size=(30, sizes.latent)))
    centre = centres[rng.integers(0, len(centres), sizes.items)]
    return _unit(centre + 0.35 * rng.normal(size=(sizes.items, sizes.latent)))


def _drifting_tastes(rng: np.random.Generator, sizes: WorldSizes) -> np.ndarray:
    """Unit taste vectors [U, phases, L], each phase a step away from the one before."""
    tastes = [_unit(rng.normal(size=(sizes.users, sizes.latent)))]
    for _ in range(sizes.phases - 1):
        tastes.append(_unit(tastes[-1] + 0.6 * _unit(rng.normal(size=(sizes.users, sizes.latent)))))
    return np.stack(tastes, 1)


def _relevance(rng, tastes, latent, popularity, sizes: WorldSizes) -> np.ndarray:
    """Binary relevance [U, phases, N], `relevant_share` of it true: a draw per user and item, against what drifts."""
    appeal = 0.3 * np.log(popularity / popularity.mean())
    draw = rng.logistic(size=(sizes.users, sizes.items)).astype(np.float32)
    logits = 9.0 * np.einsum("upl,nl->upn", tastes, latent, optimize=True).astype(np.float32)
    logits += appeal.astype(np.float32)
    logits += draw[:, None]
    return logits > np.quantile(logits[:: max(1, sizes.users // 500)], 1 - sizes.relevant_share)


def _browse(rng, lengths, tastes, latent, popularity, relevance, sizes: WorldSizes) -> tuple[pd.DataFrame, ...]:
    """Let every user browse: at each step a slate, and one relevant item of it, preferably like the last one taken.

    Returns the interactions, and the slates of the first users.
    """
    taken = np.zeros((sizes.users, sizes.items), bool)
    day = rng.integers(0, 120, sizes.users)
    previous, columns = latent[rng.integers(0, sizes.items, sizes.users)], []
    slates: list[pd.DataFrame] = []
    exposure = np.log(popularity)
    for step in range(int(lengths.max())):
        users = np.flatnonzero(lengths > step)
        phase = step * sizes.phases // lengths[users]
        gumbel = -np.log(rng.exponential(size=(len(users), sizes.items)))
        seen = np.where(taken[users], -np.inf, exposure + gumbel)
        # In item order: the one in which a partition leaves them depends on the processor.
        slate = np.sort(np.argpartition(-seen, sizes.slate, axis=1)[:, : sizes.slate], axis=1)
        fits = np.take_along_axis(relevance[users, phase], slate, 1)
        closeness = np.einsum("ul,usl->us", tastes[users, phase] + previous[users], latent[slate])
        # Nothing relevant on the slate: the user still takes what is closest, as people do.
        utility = np.where(fits, 100.0, 0.0) + 4.0 * closeness + rng.gumbel(size=closeness.shape)
        utility = np.where(np.take_along_axis(taken[users], slate, 1), -np.inf, utility)
        item = slate[np.arange(len(users)), utility.argmax(1)]
        first = users < SHOWN
        shown = {"user": np.repeat(users[first], sizes.slate), "position": step, "item": slate[first].ravel()}
        slates.append(pd.DataFrame(shown))
        taken[users, item] = True
        previous[users] = latent[item]
        day[users] += rng.poisson(6 * (rng.random(len(users)) < 0.55))
        step_taken = {"user": users, "item": item, "position": step, "phase": phase}
        columns.append(pd.DataFrame({**step_taken, "timestamp": FIRST_DAY + DAY * day[users]}))
    interactions, seen = (
        pd.concat(part).sort_values(["user", "position"], ignore_index=True) for part in (columns, slates)
    )
    return interactions.astype({"phase": np.int32}), seen


def _titles(latent: np.ndarray) -> list[str]:
    """Readable titles that say where an item stands in the latent space."""
    kind, look = latent.argmax(1) % len(_KINDS), latent.argmin(1) % len(_LOOKS)
    return [f"{_LOOKS[b]} {_KINDS[a]}, model {i:04d}" for i, (a, b) in enumerate(zip(kind, look, strict=True))]


def _view(rng: np.random.Generator, latent: np.ndarray, dim: int, noise: float) -> np.ndarray:
    """A noisy random projection with unit rows, [N, dim]."""
    projected = latent @ rng.normal(size=(latent.shape[1], dim)) / np.sqrt(latent.shape[1])
    return _unit(projected + noise * rng.normal(size=projected.shape))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
