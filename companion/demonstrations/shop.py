"""A user of the synthetic world in front of a shop window: what was shown, what was wanted, what was taken."""

import pandas as pd

from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.synthetic import Oracle

TAKEN, WANTED, UNWANTED = "taken", "wanted, not taken", "not wanted"


def window(dataset: Dataset, oracle: Oracle, user: int) -> pd.DataFrame:
    """Every item that a user was shown, slate by slate: step (from 1), place on the slate, item (its title), what.

    What was taken before is wanted no more, though a slate may show it again.
    """
    rows = slice(dataset.offsets[user], dataset.offsets[user + 1])
    history, phase = list(dataset.items[rows]), oracle.phase[rows]
    shown = oracle.slates[oracle.slates["user"] == user]

    def what(step: int, item: int) -> str:
        if item == history[step]:
            return TAKEN
        return WANTED if oracle.relevance[user, phase[step], item] and item not in history[:step] else UNWANTED

    return pd.DataFrame({
        "step": shown["position"] + 1,
        "place": shown.groupby("position").cumcount() + 1,
        "item": [dataset.titles[item] or f"item {item}" for item in shown["item"]],
        "what": [what(*pair) for pair in zip(shown["position"], shown["item"], strict=True)],
    })  # fmt: skip
