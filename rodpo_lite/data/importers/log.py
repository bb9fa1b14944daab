"""Interactions as they are read, one by one: ids become numbers at once, so that many of them fit into memory."""

import math
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from rodpo_lite.data.importers.times import Times, shown
from rodpo_lite.errors import InputError

MISSING = frozenset({"", "NaN", "nan", "NULL", "null", "None", "<NA>", "NaT", "\\N"})  # how tools write nothing

INCOMPLETE = "rows without user, item or time"
UNRATED = "rows without the minimum rating"


class Log:
    """What was read from a file: users and items numbered in order of first appearance, and what was left out.

    user, item and line hold a number per interaction; times is None where the file has no times.
    """

    def __init__(self, path: Path, timed: bool = True, min_rating: float | None = None) -> None:
        self.path, self.min_rating = path, min_rating
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.user, self.item, self.line = array("i"), array("i"), array("I")
        self.times = Times(path) if timed else None
        self.rows = 0
        self.dropped: Counter[str] = Counter()

    def add(self, line: int, user: Any, item: Any, time: Any = None, rating: Any = None) -> None:
        """Take one row of the file; raises InputError for a time or rating that is none."""
        self.rows += 1
        user, item = _identity(user), _identity(item)
        if isinstance(time, str):
            time = time.strip()
            time = None if time in MISSING else time
        if user is None or item is None or (time is None and self.times is not None):
            self.dropped[INCOMPLETE] += 1
            return
        if self.min_rating is not None and not self._rating(rating, line) >= self.min_rating:
            self.dropped[UNRATED] += 1
            return
        if self.times is not None:
            self.times.add(time, line)
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.line.append(line)

    def _rating(self, rating: Any, line: int) -> float:
        """A rating as a number, not a number where there is none."""
        if rating is None or (isinstance(rating, str) and rating.strip() in MISSING):
            return math.nan
        try:
            return float(rating)
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{self.path}: the rating {shown(rating)} in line {line} is not a number.") from None


def _identity(value: Any) -> str | None:
    """An id as text; None where there is none."""
    if isinstance(value, str):
        value = value.strip()
        return None if value in MISSING else value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
