"""The progress bar of a training."""

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any


def bars() -> Callable[..., Iterable[Any]]:
    """Return what shows a bar in a notebook and on a terminal, elsewhere nothing; TQDM_DISABLE=1 hides all bars."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or "IPKernelApp" not in shell.config:  # here tqdm.auto would load the widgets of notebooks in vain
        from tqdm import tqdm

        disable = None  # shown on a terminal alone
    else:
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm_notebook

        disable = False if issubclass(tqdm, tqdm_notebook) else None
    if os.environ.get("TQDM_DISABLE"):  # tqdm's bars in notebooks do not look
        disable = True
    return partial(tqdm, leave=False, unit="step", disable=disable)
