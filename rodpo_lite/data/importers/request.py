"""What an import was asked to do, and what a format is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rodpo_lite.data.features import Made
from rodpo_lite.data.importers.interactions import InteractionLog


@dataclass(frozen=True)
class Request:
    """Options of an import, as `rodpo data import --help` explains them; None is what the format finds by itself."""

    source: Path
    items: Path | None = None
    images: Path | None = None
    image_folder: Path | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    min_rating: float | None = None
    delimiter: str | None = None
    text: tuple[str, ...] | None = None
    text_model: str | None = None
    image_model: str | None = None
    repeats: str = "keep"
    core: int = 0


@dataclass(frozen=True)
class Format:
    """A format: how its interactions, the texts of its items and their images are read.

    locate: the request with every file that the format finds by itself. texts: a text or None for each id. images:
    features for each id. uses: options beside those that every format takes.
    """

    summary: str
    read: Callable[[Request], InteractionLog]
    texts: Callable[[Request, list[str]], list[str | None]]
    id_column: str = "id"
    uses: tuple[str, ...] = ()
    locate: Callable[[Request], Request] = lambda request: request
    images: Callable[[Request, list[str]], Made] | None = None
