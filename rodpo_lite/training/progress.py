"""The progress bar of a training."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any


def bars() -> Callable[..., Iterable[Any]]:
    """Return what shows a bar in a notebook and on a terminal, elsewhere nothing; TQDM_DISABLE=1 hides all bars."""
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    disable = False if issubclass(tqdm, tqdm_notebook) else None  # None: shown on a terminal alone
    if os.environ.get("TQDM_DISABLE"):  # tqdm's bars in notebooks do not look
        disable = True
    return partial(tqdm, leave=False, unit="step", disable=disable)
