"""How far training is."""

import os
from collections.abc import Callable, Iterable
from typing import Any


def bars() -> Callable[..., Iterable[Any]]:
    """A function that shows a bar in a notebook and on a terminal, elsewhere nothing; TQDM_DISABLE=1 hides all bars."""
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    disable = False if issubclass(tqdm, tqdm_notebook) else None  # None: shown on a terminal alone
    if os.environ.get("TQDM_DISABLE"):  # tqdm's bars in notebooks do not look
        disable = True

    def show(batches: Iterable[Any], **options: Any) -> Iterable[Any]:
        return tqdm(batches, leave=False, unit="step", disable=disable, **options)

    return show
