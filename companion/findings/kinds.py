"""What kind of thing each item is: named by its title in the synthetic world, elsewhere found by clustering."""

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from rodpo_lite.data.features import require
from rodpo_lite.data.schema import Dataset

_SYNTHETIC = re.compile(r"\w+ (\w+), model \d+")
OTHER = "other"  # items without text


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
    present = dataset.present["text"]
    cluster = require("sklearn.cluster", "scikit-learn", "Kinds of items")
    means = cluster.KMeans(min(clusters, present.sum()), n_init=1, random_state=seed)
    found = np.full(dataset.n_items, -1)
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
