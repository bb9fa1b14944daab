"""Tables as text, with the names of the columns in the first line: reading, and finding what a column holds."""

import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rodpo_lite.data.importers.files import LINE_LIMIT, MISSING, existing_file, join_text, read_lines
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.data.importers.request import Request
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.files import read_yaml

DELIMITERS = (",", ";", "\t", "|")
NAMES = read_yaml(Path(__file__).with_name("columns.yml"), "The list of names of columns")
_WORD = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True)
class Table:
    """A text table after its first line; `rows`, with the line that each ends in, can be gone through once."""

    path: Path
    columns: list[str]
    rows: Iterator[tuple[int, list[str]]]
    texts: list[int] | None = None  # the columns that are known to hold texts

    def column(self, kind: str, name: str | None = None, optional: bool = False) -> int | None:
        """The column `name`, given by --kind, else the likeliest; without one None if `optional`, else InputError."""
        if name is not None:
            if name not in self.columns:
                raise InputError(f"{self.path} has no column {name!r} for --{kind}; its columns are {self.listed}.")
            return self.columns.index(name)
        plain = [re.sub(r"[\W_]", "", column).lower() for column in self.columns]
        found = next((plain.index(likely) for likely in NAMES[kind] if likely in plain), None)
        if found is None and not optional:
            raise InputError(
                f"{self.path} has no {kind} column; the columns in its first line are {self.listed}: "
                + ("is it separated by another character? Name it with --delimiter." if len(self.columns) == 1
                   else "one must be called item_id." if kind == "id" else f"name one with --{kind}.")
            )  # fmt: skip
        return found

    @property
    def listed(self) -> str:
        """The names of its columns, for a sentence."""
        names = [repr(column[:40]) for column in self.columns[:20]]
        return ", ".join(names) + (", …" if len(self.columns) > 20 else "")


def read_table(path: Path, delimiters: Iterable[str] = DELIMITERS, quoted: bool = True) -> Table:
    """Open a table, plain or gzip; of the delimiters it is taken to have the one that splits the first line into most.

    Raises InputError, at once or while its rows are read, for what is not a table: another encoding, a quote that does
    not end with its field, a row that is longer or shorter than the first.
    """
    csv.field_size_limit(LINE_LIMIT)
    lines = _decoded(path)
    first = next(lines, "")
    if not first.strip("\r\n"):
        raise InputError(f"{path} must begin with a line that names its columns, but its first line is empty.")
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    delimiter = max(delimiters, key=lambda mark: len(next(csv.reader([first], delimiter=mark))))
    lines = itertools.chain([first], lines)
    rows = _rows(path, csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True))
    _, columns = next(rows)
    return Table(path, [column.strip() for column in columns], rows)


def _decoded(path: Path) -> Iterator[str]:
    """Lines as text, with their ends, which may be those of old Macs."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"Line {number} of {path} is not UTF-8 text; save the file as UTF-8.") from None
        if "\r" in text[:-2]:
            yield from io.StringIO(text, newline="")
        else:
            yield text


def _rows(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The line that each row ends in, counted from 1, and its fields; empty lines are left out."""
    width, begins = 0, 1
    try:
        for row in reader:
            width = width or len(row)
            if len(row) == width:
                yield reader.line_num, row
            elif row:
                raise InputError(
                    f"Line {reader.line_num} of {path} has {len(row)} fields, but the first line names {width} columns."
                )
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"The row that begins in line {begins} of {path} cannot be read ({error}): a quote must begin and end with "
            "its field."
        ) from None


def read_interactions(table: Table, request: Request) -> InteractionLog:
    """Interactions of a table; where it has no time column they are taken in the order of the file, with a Notice."""
    user, item = table.column("user", request.user), table.column("item", request.item)
    time = table.column("time", request.time, optional=True)
    rating = None if request.min_rating is None else table.column("rating", request.rating)
    if time is None:
        message = (
            f"{table.path} has no time column, so each user's interactions are taken in the order of the file; "
            f"name one with --time if one of {table.listed} is."
        )
        warnings.warn(message, Notice, stacklevel=2)
    log = InteractionLog(table.path, time is not None, request.min_rating)
    for line, row in table.rows:
        when, stars = None if time is None else row[time], None if rating is None else row[rating]
        log.add(line, row[user], row[item], when, stars)
    return log


def read_texts(table: Table, request: Request, ids: list[str], item: int) -> list[str | None]:
    """The fields of each id's first row as one text, None where there is none; [N].

    Those that --text names, in its order, otherwise those of `table.texts` or all with words: no prices and no dates.
    """
    columns = table.texts if request.text is None else [table.column("text", name) for name in request.text]
    rows: dict[str, list[str] | None] = dict.fromkeys(ids)
    for _, row in table.rows:
        identity = row[item].strip()
        if rows.get(identity, row) is None:
            rows[identity] = row
    if columns is None:
        others = (column for column in range(len(table.columns)) if column != item)
        columns = [column for column in others if _is_text(row[column] for row in rows.values() if row)]
    return [join_text(row[column] for column in columns) if (row := rows[identity]) else None for identity in ids]


def _is_text(values: Iterable[str]) -> bool:
    """Whether at least half of the values that there are have a word: two letters side by side."""
    words = [_WORD.search(value) is not None for value in values if value.strip() not in MISSING]
    return 2 * sum(words) >= max(len(words), 1)


def preview(request: Request, rows: int = 5) -> pd.DataFrame:
    """The first rows of a CSV file as an import reads it; raises InputError for what is no table."""
    table = read_table(existing_file(request.source, "SOURCE"), _given(request.delimiter) or DELIMITERS)
    return pd.DataFrame([row for _, row in itertools.islice(table.rows, rows)], columns=table.columns)


def read_csv(request: Request) -> InteractionLog:
    """Interactions of a CSV file."""
    return read_interactions(read_table(request.source, _given(request.delimiter) or DELIMITERS), request)


def read_csv_texts(request: Request, ids: list[str]) -> list[str | None]:
    """Texts of a CSV file of items; its id column is called as in the interactions, or as ids usually are."""
    table = read_table(request.items, (*DELIMITERS, *_given(request.delimiter)))
    item = table.column("id", request.item if request.item in table.columns else None)
    return read_texts(table, request, ids, item)


def _given(delimiter: str | None) -> tuple[str, ...]:
    """The delimiter of --delimiter, if one was given."""
    if delimiter is None:
        return ()
    mark = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(mark) != 1 or mark in '"\r\n':
        raise InputError(f"--delimiter {delimiter!r} is not valid: it must be one character, or tab.")
    return (mark,)
