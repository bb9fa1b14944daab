"""Interactions as they are read: ids become numbers at once, to save memory, and what cannot be used is counted."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from rodpo_lite.data.importers.files import Batch, written
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.times import Times, numbers
from rodpo_lite.errors import InputError, shown

_WHOLE = re.compile(r"-?\d+\.0*|-?\d+(?:\.\d*)?[eE]\+\d{1,2}")
_FRACTION = re.compile(r"-?\d+\.0*[1-9]\d*")


class InteractionLog:
    """What was read from a file: users and items numbered in order of first appearance, and what was left out.

    roles: what the columns that are read hold (user, item, time, rating), and their names. user, item, line: a number
    per interaction, lines being counted in `unit`. times: None where the file has none. dropped: rows, by reason.
    """

    def __init__(self, path: Path, roles: dict[str, str], request: Request, unit: str = "line") -> None:
        self.path, self.roles, self.min_rating, self.unit = path, roles, request.min_rating, unit
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.user, self.item, self.line = array("i"), array("i"), array("I")
        self.times = Times(path, request.time_format, unit) if "time" in roles else None
        self.rows = 0
        self.dropped: Counter[str] = Counter()

    def read(self, batches: Iterable[Batch]) -> "InteractionLog":
        """Take rows, with a column for each role; raises InputError for a time or rating that is none."""
        for lines, columns in batches:
            self.rows += len(lines)
            self._take(np.array(lines, np.uint32), dict(zip(self.roles, columns)))
        self.users, self.user = _spelled_once(self.users, self.user)
        self.items, self.item = _spelled_once(self.items, self.item)
        return self

    def _take(self, lines: np.ndarray, columns: dict[str, Sequence[Any]]) -> None:
        keep, ids = np.ones(len(lines), bool), []
        for role, known, kept in (("user", self.users, self.user), ("item", self.items, self.item)):
            values = columns[role]
            try:
                found = np.fromiter(map(known.get, values, repeat(-1)), np.int32, len(lines))
            except TypeError:  # objects and lists, in JSON
                found = np.full(len(lines), -1, np.int32)
            fresh = {row: identity(values[row]) for row in np.flatnonzero(found < 0).tolist()}
            self._drop(keep, [row for row, name in fresh.items() if name is None], f"rows without {role}")
            ids.append((known, kept, found, fresh))
        if self.times is not None and (times := numbers(columns["time"])) is None:
            times = np.fromiter(map(written, columns["time"]), object, len(lines))
            self._drop(keep, np.equal(times, None), "rows without time")
        if self.min_rating is not None:
            low = [row for row in np.flatnonzero(keep) if not self._is_enough(columns["rating"][row], lines[row])]
            self._drop(keep, low, "rows without the minimum rating")
        if self.times is not None:
            self.times.path = self.path
            self.times.add(times[keep], lines[keep])
        for known, kept, found, fresh in ids:
            for row, name in fresh.items():
                if keep[row]:
                    found[row] = known.setdefault(name, len(known))
            kept.frombytes(found[keep].tobytes())
        self.line.frombytes(lines[keep].tobytes())

    def _drop(self, keep: np.ndarray, rows: Sequence[int] | np.ndarray, reason: str) -> None:
        """Keep these rows no longer, and count those that would have been kept."""
        self.dropped[reason] += int(keep[rows].sum())
        keep[rows] = False

    def _is_enough(self, rating: Any, line: int) -> bool:
        try:
            return written(rating) is not None and float(rating) >= self.min_rating
        except (ValueError, TypeError, OverflowError):
            where = f"{self.unit} {line} is not a number"
            raise InputError(f"{self.path}: the rating {shown(rating)} in {where}.") from None

    @property
    def losses(self) -> str:
        """What was left out, in words and numbers; empty if nothing was."""
        return ", ".join(f"{reason} ({count:,})" for reason, count in self.dropped.items() if count)


def identity(value: Any) -> str | None:
    """An id as text; None where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return written(value) if isinstance(value, str) else None


def whole(name: str) -> str:
    """An id that is a whole number without the .0 or e+05 with which spreadsheets write some; others as they are."""
    if _WHOLE.fullmatch(name) and (number := Decimal(name)) == number.to_integral_value():
        return str(int(number))
    return name


def _spelled_once(ids: dict[str, int], numbers: array) -> tuple[dict[str, int], array]:
    """Ids and numbers in which 1 and 1.0 are one id, unless the ids have other fractions, as versions have."""
    if not any(map(_WHOLE.fullmatch, ids)) or any(map(_FRACTION.fullmatch, ids)):
        return ids, numbers
    once: dict[str, int] = {}
    place = np.array([once.setdefault(whole(name), len(once)) for name in ids], np.int32)
    return once, array("i", place[np.frombuffer(numbers, np.int32)].tobytes())
