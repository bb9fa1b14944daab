"""What a user of the synthetic world saw, wanted and took."""

from companion.demonstrations import shop
from rodpo_lite.data.synthetic import Oracle, WorldSizes, open_world


def test_a_slate_a_step_with_what_was_taken_and_what_was_wanted():
    dataset, folder = open_world("", 0, WorldSizes(users=30, items=200))
    oracle = Oracle.of(dataset, folder)
    window = shop.window(dataset, oracle, user=3)
    history = dataset.items[dataset.offsets[3] : dataset.offsets[4]]
    assert window.groupby("step").size().tolist() == [WorldSizes().slate] * len(history)
    taken = window[window["what"] == shop.TAKEN]
    assert taken["item"].tolist() == [dataset.titles[item] or f"item {item}" for item in history]
    assert {"step", "place"} == set(window.columns[window.dtypes == "int64"]) and window["place"].min() == 1
    slates = oracle.slates[oracle.slates["user"] == 3].reset_index(drop=True)
    phase = oracle.phase[dataset.offsets[3] : dataset.offsets[4]]
    for (step, item), what in zip(slates[["position", "item"]].to_numpy(), window["what"], strict=True):
        wanted = oracle.relevance[3, phase[step], item] and item not in history[: step + 1]
        assert (what == shop.WANTED) == wanted
