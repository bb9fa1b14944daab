"""Interactions as they are read: ids become numbers at once, to save memory, and times get the unit of their column."""

import datetime
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rodpo_lite.data.importers.files import MISSING
from rodpo_lite.errors import InputError, shown

EARLIEST, LATEST = -2_208_988_800, 7_258_118_400  # 1900 and 2200, in Unix seconds: beyond, a unit was misread
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


class InteractionLog:
    """What was read from a file: users and items numbered in order of first appearance, and what was left out.

    user, item, line: a number per interaction; times: None where the file has none; dropped: rows left out, by reason.
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
        user, item, time = _identity(user), _identity(item), _written(time)
        if user is None or item is None or (time is None and self.times is not None):
            self.dropped["rows without user, item or time"] += 1
            return
        if self.min_rating is not None:
            try:
                enough = _written(rating) is not None and float(rating) >= self.min_rating
            except (ValueError, TypeError, OverflowError):
                raise InputError(f"{self.path}: the rating {shown(rating)} in line {line} is not a number.") from None
            if not enough:
                self.dropped["rows without the minimum rating"] += 1
                return
        if self.times is not None:
            self.times.add(time, line)
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.line.append(line)

    @property
    def losses(self) -> str:
        """What was left out, in words and numbers; empty if nothing was."""
        return ", ".join(f"{reason} ({count:,})" for reason, count in self.dropped.items() if count)


class Times:
    """A column of times, as Unix seconds, milli-, micro- or nanoseconds or ISO 8601; `resolve` decides once which."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.iso: bool | None = None  # as ISO 8601 rather than as numbers: the first value decides
        self.values = array("q")

    def add(self, value: str | int | float, line: int) -> None:
        """Take one more time; raises InputError naming file, line and value if it is none."""
        try:
            number = _number(value)
            iso = number is None if self.iso is None else self.iso
            if iso:
                number = _microseconds(str(value))
            elif isinstance(number, float) and self.values.typecode == "q":
                self.values = array("d", self.values)
            self.values.append(number)
            self.iso = iso
        except (ValueError, TypeError, OverflowError):
            allowed = {True: "ISO 8601", False: "a number"}.get(self.iso)
            use = f"{allowed}, as in the lines before" if allowed else "Unix time or ISO 8601"
            raise InputError(f"{self.path}: the time {shown(value)} in line {line} is not valid: use {use}.") from None

    def resolve(self, lines: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The times as they are written, for order, and in whole Unix seconds, int64; both [I].

        lines: where each time was read. Raises InputError for a time outside the years 1900 to 2199.
        """
        values, unit = np.frombuffer(self.values, self.values.typecode), "microseconds"
        if not self.iso:
            if (dates := _dates(values)) is not None:
                return values, dates
            median = np.median(np.abs(values))  # 1e11 seconds is the year 5138, and so on
            unit = next((unit for unit, per_second in UNITS.items() if median < 1e11 * per_second), "nanoseconds")
        seconds = np.floor_divide(values, UNITS[unit])
        beyond = (seconds < EARLIEST) | (seconds >= LATEST)
        if beyond.any():
            row = int(beyond.argmax())
            raise InputError(
                f"{self.path}: the time {self.values[row]} in line {lines[row]} is not valid: in Unix {unit}, as the "
                "size of most numbers in the column tells, it lies outside the years 1900 to 2199."
            )
        return values, seconds.astype(np.int64)


def _written(value: Any) -> Any:
    """A value without blanks around it; None where a tool wrote that there is none."""
    if isinstance(value, str):
        value = value.strip()
        return None if value in MISSING else value
    return value


def _identity(value: Any) -> str | None:
    """An id as text; None where there is none."""
    value = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return _written(value) if isinstance(value, str) else None


def _number(value: str | int | float) -> int | float | None:
    """The number that a time is; None for text that is not a number."""
    if isinstance(value, str):
        if "_" in value:
            return None
        try:
            value = int(value) if value.lstrip("+-").isdecimal() else float(value)
        except ValueError:
            return None
    if isinstance(value, bool):
        raise ValueError("true and false are no times")
    return int(value) if value == int(value) else value  # int refuses what is not finite


def _microseconds(text: str) -> int:
    """Unix microseconds of an ISO 8601 time; UTC where it names no zone."""
    moment = datetime.datetime.fromisoformat(text)
    microseconds = ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND
    if not EARLIEST * 10**6 <= microseconds < LATEST * 10**6:
        raise ValueError("outside the years 1900 to 2199")
    return microseconds


def _dates(values: np.ndarray) -> np.ndarray | None:
    """Unix seconds of numbers that are all dates, as 20140131 is (in Unix seconds, a fortnight of 1970); else None."""
    if values.dtype.kind != "i" or values.min() < 19000101 or values.max() > 21991231:
        return None
    days = pd.to_datetime(pd.Series(values), format="%Y%m%d", errors="coerce")
    return None if days.isna().any() else days.to_numpy("M8[s]").astype(np.int64)
