"""What an import was asked to do."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """Options of an import, as `rodpo data import --help` explains them; None is what the format finds by itself.

    more: further parts of the source, in order of time.
    """

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
    ties: str = "hash"
    time_format: str | None = None
    no_header: bool | None = None
    encoding: str | None = None
    more: tuple[Path, ...] = ()
