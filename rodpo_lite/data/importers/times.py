"""The times of a column, as people write them: Unix seconds, milli-, micro- or nanoseconds, or ISO 8601."""

import datetime
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rodpo_lite.errors import InputError

EARLIEST, LATEST = -2_208_988_800, 7_258_118_400  # 1900 and 2200, in Unix seconds: beyond, a unit was misread
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


class Times:
    """A column of times as it is read; what its numbers mean is decided once, for the whole column, by `resolve`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: bool | None = None  # as ISO 8601 rather than as numbers: the first value decides
        self.values = array("q")

    def add(self, value: str | int | float, line: int) -> None:
        """Take one more time; raises InputError naming file, line and value if it is none."""
        try:
            number = _number(value)
            written = number is None if self.written is None else self.written
            if written:
                number = _microseconds(str(value))
            elif isinstance(number, float) and self.values.typecode == "q":
                self.values = array("d", self.values)
            self.values.append(number)
            self.written = written
        except (ValueError, TypeError, OverflowError):
            allowed = {True: "ISO 8601", False: "a number"}.get(self.written)
            use = f"{allowed}, as in the lines before" if allowed else "Unix time or ISO 8601"
            raise InputError(f"{self.path}: the time {shown(value)} in line {line} is not valid: use {use}.") from None

    def resolve(self, lines: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The times as they are written, for order, and in whole Unix seconds, int64; both [I].

        lines: where each time was read. Raises InputError for a time outside the years 1900 to 2199.
        """
        values = np.frombuffer(self.values, self.values.typecode)
        if not self.written and (dates := _dates(values)) is not None:
            return values, dates
        unit = "microseconds" if self.written else _unit(values)
        seconds = np.floor_divide(values, UNITS[unit])
        beyond = (seconds < EARLIEST) | (seconds >= LATEST)
        if beyond.any():
            row = int(beyond.argmax())
            raise InputError(
                f"{self.path}: the time {self.values[row]} in line {lines[row]} is not valid: in Unix {unit}, as the "
                "size of most numbers in the column tells, it lies outside the years 1900 to 2199."
            )
        return values, seconds.astype(np.int64)


def shown(value: object) -> str:
    """A value for a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _number(value: str | int | float) -> int | float | None:
    """The number that a time is; None for text that is not a number."""
    if isinstance(value, str):
        if "_" in value:
            return None
        try:
            return int(value)
        except ValueError:
            pass
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool):
        raise ValueError("true and false are no times")
    return int(value) if value == int(value) else value  # int refuses what is not finite


def _microseconds(text: str) -> int:
    """Unix microseconds of an ISO 8601 time; UTC where it names no zone."""
    moment = datetime.datetime.fromisoformat(text)
    found = ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND
    if not EARLIEST * 10**6 <= found < LATEST * 10**6:
        raise ValueError("outside the years 1900 to 2199")
    return found


def _unit(values: np.ndarray) -> str:
    """Of what the numbers count, by the magnitude of the middle one: 1e11 seconds is the year 5138, and so on."""
    middle = np.median(np.abs(values))
    return next((unit for unit, many in UNITS.items() if middle < 1e11 * many), "nanoseconds")


def _dates(values: np.ndarray) -> np.ndarray | None:
    """Unix seconds of numbers that are all dates, as 20140131 is (in Unix seconds, a fortnight of 1970); else None."""
    if values.dtype.kind != "i" or values.min() < 19000101 or values.max() > 21991231:
        return None
    days = pd.to_datetime(pd.Series(values), format="%Y%m%d", errors="coerce")
    return None if days.isna().any() else days.to_numpy("M8[s]").astype(np.int64)
