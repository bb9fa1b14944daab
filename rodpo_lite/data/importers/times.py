"""Times as people write them: Unix time in any unit, numbers that are dates, ISO 8601, and the usual other forms."""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rodpo_lite.data.importers.files import BATCH, written
from rodpo_lite.errors import InputError, shown

EARLIEST, LATEST = -2_208_988_800, 7_258_118_400  # 1900 and 2200, in Unix seconds: beyond, a unit was misread
LIKELY = (631_152_000, 4_102_444_800)  # 1990 and 2100: what a log is likely to hold
RECENT = (946_684_800, 2_051_222_400)  # 2000 and 2035
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
NUMBER, ISO = "a number", "ISO 8601"
DATES = {"%Y": 4, "%Y%m": 6, "%Y%m%d": 8, "%Y%m%d%H%M": 12, "%Y%m%d%H%M%S": 14}  # as numbers, of so many digits
ORDERS = {  # of day, month and year, as `_tidy` writes them
    "year-first": ("%Y %m %d", "%Y.%m.%d", "%Y %b %d", "%Y %m", "%y %m %d"),
    "month-first": ("%m %d %Y", "%b %d %Y", "%B %d %Y", "%b %Y", "%B %Y", "%m %d %y"),
    "day-first": ("%d %m %Y", "%d.%m.%Y", "%d %b %Y", "%d %B %Y", "%d %m %y", "%d.%m.%y", "%d %b %y"),
}
FORMS = {form: order for order, forms in ORDERS.items() for form in forms}
# Hours from Greenwich, of the names of zones that pandas does not know, or takes for places with summer time.
ZONES = {"Z": 0, "UTC": 0, "GMT": 0, "EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7}
ZONES |= {"PST": -8, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9}
_CLOCK = re.compile(  # hour, minute, second, fraction, half of the day, zone, offset
    r"[T:\s]*(?<!\d)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?\s*(?i:([ap])\.?m\b\.?)?"
    r"\s*([A-Z]{1,5}\b|[A-Z][a-z]+/[\w/]+)?\s*([+-]\d\d(?::?\d\d)?\b)?"
)
_LEFT_OUT = re.compile(r"\(.*\)|\[.*\]|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\b|(?<=\d)(?:st|[nr]d|th)\b|\.(?!\d)")


class Times:
    """A column of times: its first value decides whether they are numbers, all of them in which unit or form.

    form: one of UNITS or ORDERS, or a pattern of strptime; None finds it. unit: what rows are counted in.
    """

    def __init__(self, path: Path, form: str | None = None, unit: str = "line") -> None:
        self.path, self.form, self.unit = path, form, unit
        self.made: dict[str, list[np.ndarray]] = {}  # of the values so far, by each form that all of them can have
        self.rows = 0

    def add(self, values: Sequence[Any], lines: Sequence[int]) -> None:
        """Take more times; raises InputError naming file, line and value of the first that is none."""
        if not len(values):
            return
        if not self.made:
            wanted = [form for form, order in FORMS.items() if self.form in (None, order)] or [self.form]
            wanted = [*([] if self.form else [NUMBER, ISO]), *wanted]
            possible = [form for form in wanted if _read(values[:1], form)[1].all()]
            self.made = {form: [] for form in possible[: 1 if possible[:1] in ([NUMBER], [ISO]) else None]}
        read = {form: _read(values, form) for form in self.made}
        wrong = {form: int(good.argmin()) for form, (_, good) in read.items() if not good.all()}
        if len(wrong) == len(read):
            row = max(wrong.values(), default=0)
            value = values[row].item() if isinstance(values, np.ndarray) and values.dtype != object else values[row]
            use = "use Unix time or ISO 8601, or say with --time-format how it is written"
            if self.form:
                use = f"it is not as --time-format {self.form} says"
            elif self.rows or row:
                use = f"use {next(iter(read.keys() & {NUMBER, ISO}), 'the same form')}, as in the lines before"
            raise InputError(f"{self.path}: the time {shown(value)} in {self.unit} {lines[row]} is not valid: {use}.")
        self.made = {form: [*self.made[form], made] for form, (made, _) in read.items() if form not in wrong}
        self.rows += len(values)

    def resolve(self, lines: Sequence[int]) -> tuple[np.ndarray, np.ndarray, str]:
        """The times as they are written, for order, and in whole Unix seconds, int64, both [I]; and what they are.

        lines: where each time was read. Raises InputError for a time outside the years 1900 to 2199, and where it stays
        open which number is the day.
        """
        made = {form: np.concatenate(self.made.pop(form)) for form in list(self.made)}
        form, values = next(iter(made.items()))
        for other, differing in made.items():
            if (differ := values != differing).any():
                orders = " or ".join(dict.fromkeys((FORMS[form], FORMS[other])))
                where = f"those in {self.unit} {lines[int(differ.argmax())]}"
                raise InputError(
                    f"{self.path}: its times, {where} to begin with, may be {orders}: say so with --time-format."
                )
        if form not in (NUMBER, *UNITS):
            return values, values // UNITS["nanoseconds"], FORMS.get(form, form)
        if form == NUMBER:
            if (dates := _dates(values)) is not None:
                return values, *dates
            median = np.median(np.abs(values))  # 1e11 seconds is the year 5138, and so on
            form = next((unit for unit, per_second in UNITS.items() if median < 1e11 * per_second), "nanoseconds")
        seconds = np.floor_divide(values, UNITS[form])
        beyond = (seconds < EARLIEST) | (seconds >= LATEST)
        if beyond.any():
            row = int(beyond.argmax())
            raise InputError(
                f"{self.path}: the time {values[row]} in {self.unit} {lines[row]} is not valid: in Unix {form}, as the "
                "size of most numbers in the column tells, it lies outside the years 1900 to 2199."
            )
        return values, seconds.astype(np.int64), f"Unix {form}"


def check_form(form: str | None) -> None:
    """Raise InputError for what --time-format does not take."""
    if form is None or form in UNITS or form in ORDERS:
        return
    with suppress(ValueError):
        if "%" in form and pd.to_datetime([""], format=form, errors="coerce") is not None:
            return
    allowed = ", ".join((*UNITS, *ORDERS))
    raise InputError(
        f"--time-format {form!r} is not valid: allowed are {allowed}, or a pattern as '%d.%m.%Y %H:%M' is."
    )


def count_likely(path: Path, values: Sequence[Any]) -> int:
    """How many different times values are; 0 if they are none, or none of those that logs are of."""
    times, there = Times(path), [value for value in map(written, values) if value is not None]
    if not there:
        return 0
    try:
        times.add(there, range(len(there)))
        exact, seconds, _ = times.resolve(range(len(there)))
    except InputError:
        return 0
    return len(np.unique(exact)) if LIKELY[0] <= seconds.min() and seconds.max() < LIKELY[1] else 0


def hold_times(path: Path, values: Sequence[Any]) -> bool:
    """Whether a column, whatever it is called, has times: dates, or different numbers as Unix times of late are."""
    there = [value for value in map(written, values) if value is not None]
    if not there or (found := numbers(there)) is None:
        return count_likely(path, there) > 1
    smallest, largest = found.min(), found.max()
    units = any(per * RECENT[0] <= smallest < largest < per * RECENT[1] for per in UNITS.values())
    return units or (smallest < largest and smallest >= 10**7 and _dates(found) is not None)


def numbers(values: Sequence[Any]) -> np.ndarray | None:
    """Values that are all finite numbers, or texts of some, as int64 if all are whole, else float64; None if not."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values
    with suppress(ValueError):
        texts = pa.array(list(map(str, values)), pa.string())
        with suppress(ValueError):
            return texts.cast(pa.int64()).to_numpy()
        fractions = texts.cast(pa.float64()).to_numpy()
        if (abs(fractions) < 2**63).all():
            return fractions if (fractions % 1).any() else fractions.astype(np.int64)
    return None


def _read(values: Sequence[Any], form: str) -> tuple[np.ndarray, np.ndarray]:
    """Values in a form, numbers as they are and times as Unix nanoseconds, UTC without a zone; and which have it."""
    if form in (NUMBER, *UNITS):
        if (made := numbers(values)) is not None:
            return made, np.ones(len(values), bool)
        return np.zeros(1), np.array([numbers([value]) is not None for value in values])
    texts = list(map(str, values))
    if form == ISO:  # pandas knows what is now and today
        texts = [text.replace(" UTC", "Z") if text[:1].isdigit() else "" for text in texts]
    if form in FORMS:
        found = _usual(texts, form)
    else:
        found = pd.to_datetime(texts, format="ISO8601" if form == ISO else form, utc=True, errors="coerce")
        if form == ISO and found.isna().any():  # with a zone in words, or a comma before the fraction
            found = found.where(found.notna(), _usual(texts, "%Y %m %d"))
    made = found.as_unit("ns").asi8
    return made, found.notna() & (made >= EARLIEST * 10**9) & (made < LATEST * 10**9)


def _usual(texts: list[str], form: str) -> pd.DatetimeIndex:
    """Times of texts whose dates are in one of FORMS, NaT for the others."""
    tidy = list(map(_tidy, texts))
    found = pd.to_datetime(tidy, format=f"{form} %H:%M:%S.%f %z", utc=True, errors="coerce")
    if not found.isna().any():
        return found
    named = pd.to_datetime(tidy, format=f"{form} %H:%M:%S.%f %Z", utc=True, errors="coerce")  # zones by name
    return found.where(found.notna(), named)


@lru_cache(BATCH)
def _tidy(text: str) -> str:
    """A time as date, clock and zone, each in one way, whatever stands between its parts and in whichever order."""
    text = _LEFT_OUT.sub("", text)
    clock = _CLOCK.search(text)
    hour, minute, second, fraction, half, zone, offset = clock.groups() if clock else (0, "00", *[None] * 5)
    if half:
        hour = int(hour) % 12 + 12 * (half in "Pp")
    if offset or not zone or zone in ZONES:
        zone = (offset or f"{ZONES.get(zone, 0):+03d}").replace(":", "").ljust(5, "0")
    rest = f"{text[: clock.start()]} {text[clock.end() :]}" if clock else text
    date = " ".join(re.split(r"[,/:\s-]+", rest)).strip()
    return f"{date} {hour}:{minute}:{second or '00'}.{fraction or 0} {zone}"


def _dates(values: np.ndarray) -> tuple[np.ndarray, str] | None:
    """Unix seconds of numbers that are all dates, as 20140131 is (in Unix seconds, a fortnight of 1970); else None."""
    for form, digits in DATES.items() if values.dtype.kind == "i" else ():
        if 19 * 10 ** (digits - 2) <= values.min() and values.max() < 22 * 10 ** (digits - 2):
            moments = pd.to_datetime(pd.Series(values), format=form, errors="coerce")
            if moments.notna().all():
                return moments.to_numpy("M8[s]").astype(np.int64), f"numbers as {form}"
    return None
