"""The text of an item, put together from its fields."""

from collections.abc import Iterable

from rodpo_lite.data.importers.log import MISSING

TEXT_LIMIT = 2000  # characters: a title, a category and a paragraph


def joined(parts: Iterable[str]) -> str | None:
    """The parts as one line of text, without those that are empty; None if nothing is left."""
    lines = (" ".join(storable(part).split()) for part in parts)
    return ". ".join(line for line in lines if line not in MISSING)[:TEXT_LIMIT] or None


def storable(text: str) -> str:
    """The text with ? for halves of characters, which JSON can express and no file can hold."""
    return text.encode("utf-8", "replace").decode()
