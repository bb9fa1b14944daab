"""Tables as text: the encoding, the delimiter and the use of quotes by which a whole file can be read, and its rows."""

import codecs
import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rodpo_lite.data.importers.files import BATCH, LINE_LIMIT, Batch, read_lines, unpacked
from rodpo_lite.errors import InputError, Notice

DELIMITERS = ("::", ",", ";", "\t", "|")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # that of UTF-32 may begin with one of these
SAMPLE = 20  # lines by which the delimiter is judged
QUOTES = ({}, {"escapechar": "\\"})  # within quotes, a quote is doubled, or comes after a backslash


@dataclass(frozen=True)
class Delimited:
    """A text table. quotes: of QUOTES, or None if they are letters; bare: then those around a whole field still go.

    delimiter: a space stands for any number of them. skip: rows before the first of the data. width: fields in a row.
    """

    path: Path
    encoding: str
    delimiter: str
    quotes: dict | None
    bare: bool
    skip: int
    width: int = 0

    def batches(self, columns: Sequence[int]) -> Iterator[Batch]:
        """The lines that rows end in, counted from 1, and their fields in these columns."""
        for numbers, rows in self.rows():
            if self.quotes is None:  # one list for all fields, not one for each row: that is faster
                fields = self.delimiter.join(rows).split(self.delimiter) if rows else []
                by_column = [fields[column :: self.width] for column in columns]
            else:
                by_column = [[row[column] for row in rows] for column in columns]
            yield numbers, [list(map(_without_quotes, values)) for values in by_column] if self.bare else by_column

    def rows(self) -> Iterator[tuple[list[int], list[Any]]]:
        """The same with all fields of a row, or with its text if quotes are letters; an empty line is no row."""
        skip = self.skip
        for numbers, rows in self._lines() if self.quotes is None else self._parsed(self.quotes):
            yield numbers[skip:], rows[skip:]
            skip = max(0, skip - len(rows))

    def _lines(self) -> Iterator[tuple[list[int], list[str]]]:
        for begin, lines in read_lines(self.path, self.encoding):
            if self.delimiter == " ":
                lines = [" ".join(line.split()) for line in lines]
            yield [number for number, line in enumerate(lines, start=begin) if line], list(filter(None, lines))

    def _parsed(self, quotes: dict) -> Iterator[tuple[list[int], list[list[str]]]]:
        lines = (line + "\n" for _, block in read_lines(self.path, self.encoding) for line in block)
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=True, **quotes)
        numbers, rows, begins = [], [], 1
        try:
            for row in reader:
                begins = reader.line_num + 1
                if row:
                    numbers.append(reader.line_num)
                    rows.append(row)
                if len(rows) == BATCH:
                    yield numbers, rows
                    numbers, rows = [], []
        except csv.Error as error:
            where = f"The row that begins in line {begins} of {self.path} cannot be read ({error})"
            raise InputError(f"{where}: a quote must begin and end with its field.") from None
        yield numbers, rows

    def check(self) -> None:
        """Raise InputError for a row that is longer or shorter than the first; a Notice for fields of several lines."""
        broken = []
        for numbers, rows in self.rows():
            lengths = [row.count(self.delimiter) + 1 if self.quotes is None else len(row) for row in rows]
            if lengths.count(self.width) < len(rows):
                number, length = next(pair for pair in zip(numbers, lengths) if pair[1] != self.width)
                named = f"but the first line names {self.width} columns"
                raise InputError(f"Line {number} of {self.path} has {length} fields, {named}.")
            if self.quotes is not None:
                breaks = (sum(field.count("\n") for field in row) for row in rows)
                broken += [(count, number) for count, number in zip(breaks, numbers) if count]
        if broken:
            count, number = max(broken)
            what = f"{self.path} has line breaks between quotes in {len(broken):,} of its rows"
            longest = f"the longest goes from line {number - count} to {number}: mend it if a quote is out of place"
            warnings.warn(f"{what}; {longest}.", Notice, stacklevel=2)


def open_text(
    path: Path, delimiters: Sequence[str], quotes: bool, header: bool, encoding: str | None
) -> tuple[list[str], Delimited]:
    """The names of the columns, or the first row if there is no header, and how the table is read.

    Of the delimiters it is taken to have the one that splits all lines into as many fields, the first into most; spaces
    if none does. A quote is a letter if every line has as many fields then, and else begins and ends a field. What is
    not UTF-8 is taken as Windows-1252 with a Notice. Raises InputError, naming the line, for what cannot be read so.
    """
    csv.field_size_limit(LINE_LIMIT)
    with unpacked(path) as stream:
        start = stream.peek(4)[:4]
    encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), encoding)
    if b"\0" in start[:2] and encoding is None:
        encoding = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    try:
        "".encode(encoding or "utf-8")  # LookupError for what is no encoding of text, as rot13
        return _open(path, delimiters, quotes, header, encoding or "utf-8")
    except LookupError:
        raise InputError(f"--encoding {encoding!r} is not known; latin-1 and gb18030 are, for example.") from None
    except UnicodeError as error:
        wrong = error
    with suppress(UnicodeError):
        if encoding is None and wrong.plain:  # else it begins as UTF-8
            opened = _open(path, delimiters, quotes, header, "cp1252")
            what = f"{path} is not UTF-8 text, first in line {wrong.line}"
            warnings.warn(f"{what}; without --encoding it is read as Windows-1252.", Notice, stacklevel=2)
            return opened
    what = f"Line {wrong.line} of {path} is not {(encoding or 'UTF-8').upper()} text"
    raise InputError(f"{what}; name its encoding with --encoding.")


def _open(
    path: Path, delimiters: Sequence[str], quotes: bool, header: bool, encoding: str
) -> tuple[list[str], Delimited]:
    lines = list(islice((line for _, block in read_lines(path, encoding) for line in block), SAMPLE))
    separator = re.fullmatch(r'"?sep=(.)"?', lines[0]) if lines else None  # as Excel has it
    if separator:
        delimiters, lines = separator[1], lines[1:]
    if not lines or not lines[0].strip():
        raise InputError(f"{path} must begin with a line that names its columns, but its first line is empty.")
    delimiter = max(delimiters, key=lambda mark: _regularity(lines, mark))
    if _regularity(lines, delimiter)[1] == 1 and len(lines[0].split()) > 1:
        delimiter = " "
    with unpacked(path) as stream:
        quotes = quotes and any(b'"' in block for block in iter(lambda: stream.read(2**20), b""))
    errors = []
    for style in [None, *QUOTES] if quotes and len(delimiter) == 1 and delimiter != " " else [None]:
        table = Delimited(path, encoding, delimiter, style, quotes and style is None, skip=int(separator is not None))
        try:
            row = next(rows[0] for _, rows in table.rows() if rows)
            names = row if style is not None else [_without_quotes(name) for name in row.split(delimiter)]
            table = replace(table, skip=table.skip + header, width=len(names))
            table.check()
            return [name.strip() for name in names], table
        except InputError as error:
            errors.append(error)
    raise errors[0 if delimiter == "\t" else min(1, len(errors) - 1)]


def _regularity(lines: list[str], mark: str) -> tuple[bool, int]:
    """Whether a mark splits every line into as many fields as the first, more than one, and into how many that one."""
    lines = [line[:10_000] for line in lines if line]
    split = csv.reader(lines, delimiter=mark) if len(mark) == 1 else (line.split(mark) for line in lines)
    widths = list(map(len, split))
    return widths[0] > 1 and len(set(widths)) == 1, widths[0]


def _without_quotes(field: str) -> str:
    """A field without the quotes around it, if it is quoted as a whole."""
    if '"' in field and (quoted := re.fullmatch(r'\s*"((?:[^"]|"")*)"\s*', field)):
        return quoted[1].replace('""', '"')
    return field
