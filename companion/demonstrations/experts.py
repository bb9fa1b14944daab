"""What a sparse mixture of experts costs and how it is used: time, load of each expert, kinds of items."""

import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rodpo_lite.data.batches import PackedBatch, PackedSequences
from rodpo_lite.data.features import require
from rodpo_lite.data.schema import Dataset
from rodpo_lite.losses.cross_entropy import full_cross_entropy
from rodpo_lite.model.capacity import dense_twin
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.experts import SparseExperts
from rodpo_lite.model.items import Catalogue
from rodpo_lite.model.recommender import Recommender, eval_mode
from rodpo_lite.settings import build


def encoders(width: int, experts: int, experts_per_row: int) -> dict[str, EncoderConfig]:
    """Encoders without a mixture, with one in either place, and the dense twins of both, by name."""
    values = {"width": width, "dropout": 0.2, "fusion": "moe", "experts": experts, "experts_per_row": experts_per_row}
    fusion = build(EncoderConfig, values)
    linear = fusion.model_copy(update={"fusion": "linear"})
    feedforward = linear.model_copy(update={"feedforward": "moe"})
    return {
        "linear": linear,
        "sparse fusion": fusion,
        "twin of the fusion": dense_twin(fusion),
        "sparse feed-forward": feedforward,
        "twin of the feed-forward": dense_twin(feedforward),
    }


_SYNTHETIC = re.compile(r"\w+ (\w+), model \d+")
OTHER = "other"  # items without text


@torch.no_grad()
def expert_load(model: Recommender, dataset: Dataset, max_length: int) -> pd.DataFrame:
    """Share of the assignments that each expert of a layer gets in eval mode.

    A fusion is shown every item of the catalogue once, a feed-forward every input position of the training windows.
    """
    sequences = PackedSequences.for_training(dataset, max_length, next(model.parameters()).device)
    with eval_mode(model):
        catalogue = model.items()
        loads = {layer: routing.load.cpu().numpy() for layer, routing in catalogue.routing.items()}
        for batch in sequences.epoch(16_384):
            for layer, routing in model.encode(batch, catalogue).routing.items():
                if layer not in catalogue.routing:
                    share = len(batch.items) / sequences.n_positions
                    loads[layer] = loads.get(layer, 0.0) + share * routing.load.cpu().numpy()
    rows = [(layer, expert, share) for layer, load in loads.items() for expert, share in enumerate(load)]
    return pd.DataFrame(rows, columns=["layer", "expert", "share"]).astype({"expert": np.int64, "share": np.float64})


@torch.no_grad()
def chosen_experts(model: Recommender) -> NDArray[np.int64]:
    """The experts of the fusion that each item goes to in eval mode, [N, k]; raises ValueError if it is no mixture."""
    mixture = getattr(model.items, "experts", None)
    if not isinstance(mixture, SparseExperts):
        raise ValueError("the fusion of this model is not a sparse mixture")
    seen = []
    hook = mixture.router.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    with hook, eval_mode(model):
        model.items()
    return mixture.gates(seen[0])[1].cpu().numpy()


def preferences(kinds: NDArray[np.str_], chosen: NDArray[np.integer], experts: int) -> pd.DataFrame:
    """How many times as often each of the items' `kinds` [N] goes to each expert of those `chosen` [N, k] as all items
    do; 1 where nobody goes."""
    table = pd.crosstab(np.repeat(kinds, chosen.shape[1]), chosen.ravel(), normalize="index")
    table = table.reindex(columns=range(experts), fill_value=0.0).rename_axis(index="kind", columns="expert")
    return (table / _load(chosen, experts)).fillna(1.0)


def apart(kinds: NDArray[np.str_], chosen: NDArray[np.integer], experts: int) -> float:
    """The part of a kind's assignments that would have to move for it to look like all items, 0 to 1, mean of kinds."""
    moved = (preferences(kinds, chosen, experts) - 1).abs() * _load(chosen, experts)
    return float(moved.sum(axis=1).mean() / 2)


def _load(chosen: NDArray[np.integer], experts: int) -> NDArray[np.float64]:
    return np.bincount(chosen.ravel(), minlength=experts) / chosen.size


def costs(models: dict[str, Recommender], dataset: Dataset, max_length: int, repeats: int = 9) -> pd.DataFrame:
    """Seconds of three things, all models in turn so that noise hits them alike: a step over about 2,000 positions, to
    rebuild all item vectors, once per deployment, and a request, one user's history against vectors that are kept."""
    device = next(next(iter(models.values())).parameters()).device
    sequences = PackedSequences.for_training(dataset, max_length, device)
    batch, request = next(sequences.epoch(2000)), next(sequences.epoch(1))
    rows = []
    for repeat, (name, model) in product(range(repeats + 1), models.items()):
        catalogue = _rebuild(model.eval())
        row = {"repeat": repeat, "model": name, "rebuild": _seconds(_rebuild, model)}
        row["request"] = _seconds(_request, model, request, catalogue)
        rows.append(row | {"step": _seconds(_step, model.train(), batch)})
        model.zero_grad(set_to_none=True)
    return pd.DataFrame(rows[len(models) :])  # the first repeat warms up


def against(costs: pd.DataFrame, model: str, other: str) -> pd.DataFrame:
    """Of `costs`, how many times as long one model takes as another: median and quartiles."""
    times = costs.set_index(["model", "repeat"])
    ratio = times.loc[model] / times.loc[other]
    return ratio.quantile([0.5, 0.25, 0.75]).T.set_axis(["times", "low", "high"], axis=1)


@torch.no_grad()
def _rebuild(model: Recommender) -> Catalogue:
    return model.items()


@torch.no_grad()
def _request(model: Recommender, batch: PackedBatch, catalogue: Catalogue) -> Tensor:
    encoding = model.encode(batch, catalogue)
    return (encoding.hidden[batch.last] @ encoding.vectors.T).topk(min(10, len(encoding.vectors)))


def _step(model: Recommender, batch: PackedBatch) -> None:
    encoding = model(batch)
    extra = sum(routing.balance + routing.z for routing in encoding.routing.values())
    (full_cross_entropy(encoding.hidden, encoding.vectors, batch.items, 512) + extra).backward()


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def kinds(dataset: Dataset, clusters: int = 12, seed: int = 0) -> NDArray[np.str_]:
    """Kind of each item [N]: the second word of a synthetic title, or else its k-means cluster of text features.

    A cluster is called by the word of titles that is most frequent in it, compared with all items. Items without text,
    and all items of a dataset that has none, are "other".
    """
    named = [_SYNTHETIC.fullmatch(title) for title in dataset.titles]
    if any(named):
        return np.array([match[1] if match else OTHER for match in named])
    if "text" not in dataset.features or not dataset.present["text"].any():
        return np.full(dataset.n_items, OTHER)
    present, found = dataset.present["text"], np.full(dataset.n_items, -1)
    cluster = require("sklearn.cluster", "scikit-learn", "Kinds of items")
    means = cluster.KMeans(min(clusters, present.sum()), n_init=1, random_state=seed)
    found[present] = means.fit_predict(dataset.features["text"][present].astype(np.float64))
    return _names(dataset.titles, found)[found]


def _names(titles: list[str], cluster: NDArray[np.integer]) -> NDArray[np.str_]:
    """A name for each cluster, and at the end that of the items without one; no word names two."""
    empty = require("sklearn.feature_extraction.text", "scikit-learn", "Kinds of items").ENGLISH_STOP_WORDS
    words = [set(re.findall(r"[^\W\d_]{3,}", title.lower())) - empty for title in titles]
    everywhere, names = Counter(word for each in words for word in each), []
    for number in range(cluster.max() + 1):
        inside = Counter(word for each, of in zip(words, cluster) if of == number for word in each)
        size = (cluster == number).sum()
        ahead = {word: n / size - everywhere[word] / len(words) for word, n in inside.items() if word not in names}
        names.append(max(sorted(ahead), key=ahead.get, default=f"cluster {number + 1}"))
    return np.array([*names, OTHER])
