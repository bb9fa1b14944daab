"""How far training is, in a notebook that somebody looks at; on the command line it is tqdm that says so."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rodpo_lite.figures import in_book

INTERVAL = 0.2  # seconds between two updates


def shown() -> Callable[..., Iterable[Any]] | None:
    """A bar where this process is the kernel of a notebook, but not for the book; else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return None if in_book() or type(shell).__name__ != "ZMQInteractiveShell" else Bar()


class Bar:
    """One bar for all epochs of a run, which is updated in its place."""

    def __init__(self) -> None:
        self._place: Any = None

    def __call__(self, batches: Iterable[Any], total: int, desc: str) -> Iterator[Any]:
        """The batches, of which there are `total`; the bar moves as they are taken."""
        told = 0.0
        for done, batch in enumerate(batches):
            if time.monotonic() - told > INTERVAL:
                told = time.monotonic()
                self._show(done, total, desc)
            yield batch
        self._show(total, total, desc)

    def _show(self, done: int, total: int, desc: str) -> None:
        from IPython.display import HTML, display

        bar = HTML(f'<progress value="{done}" max="{total}"></progress> {desc}')
        if self._place is None:
            self._place = display(bar, display_id=True)
        else:
            self._place.update(bar)
