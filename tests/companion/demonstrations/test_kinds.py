"""Kinds of items, where titles name them and where their text has to be clustered."""

from dataclasses import replace

import numpy as np

from companion.demonstrations.experts import kinds


def test_a_synthetic_title_names_the_kind(world):
    found = kinds(world)
    assert set(np.unique(found[world.present["text"]])) < {title.split()[1].rstrip(",") for title in world.titles}
    assert set(found[~world.present["text"]]) == {"other"}


def test_clusters_of_the_text_are_called_by_their_most_telling_word(world):
    rng, which = np.random.default_rng(0), np.arange(world.n_items) % 3
    features = np.eye(3, world.features["text"].shape[1])[which] + rng.normal(0, 0.01, world.features["text"].shape)
    titles = [f"the {['red', 'blue', 'red'][n]} {['lamp', 'lamp', 'vase'][n]} {i}" for i, n in enumerate(which)]
    real = replace(world, titles=titles, features={"text": features.astype(np.float32)})
    found = kinds(real, clusters=3)
    described = world.present["text"]
    assert set(found[~described]) == {"other"}
    by_group = [set(found[described & (which == group)]) for group in range(3)]
    assert all(len(names) == 1 for names in by_group)
    assert len(set.union(*by_group)) == 3 and by_group[2] == {"vase"} and by_group[1] == {"blue"}


def test_without_text_there_are_no_kinds(world):
    bare = replace(world, titles=[str(i) for i in range(world.n_items)], features={"image": world.features["image"]})
    assert set(kinds(bare)) == {"other"}
