"""Tables, whatever holds them, and what their columns are called and hold."""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset

from rodpo_lite.data.importers import files
from rodpo_lite.data.importers.delimited import DELIMITERS, open_text
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.times import count_likely, hold_times
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_yaml

NAMES = read_yaml(Path(__file__).with_name("columns.yml"), "The list of names of columns")
SAMPLE = 1000  # rows by which columns are judged
KINDS = {  # by first bytes: as pyarrow calls what it reads, and what is not read
    b"PAR1": "parquet", b"ARROW1": "ipc", b"ORC": "orc", b"SQLite": "an SQLite database", b"\x89HDF": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook", b"Obj\x01": "an Avro file", b"\x80": "a pickle", b"<": "a web page",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table: `batches` goes, as often as it is called, through the values in some columns.

    unit: what rows are counted in. texts: the columns that may hold texts. advice: what to do where columns are
    missing, with {names} and {numbers} for their options.
    """

    path: Path
    columns: list[str]
    batches: Callable[[Sequence[int]], Iterator[files.Batch]]
    unit: str = "line"
    texts: Iterable[int] | None = None
    advice: str = "name what is missing with {names}"

    def column(self, kind: str, name: str | None = None, taken: Collection[int] = ()) -> int:
        """The column `name`, given by --kind, else the likeliest that is not taken; InputError if there is none."""
        if name is None:
            if (likely := self.likely(kind, taken)) is not None:
                return likely
            if kind == "id":
                raise InputError(
                    f"{self.path} has no id column; its columns are {self.listed}: one must be called item_id."
                )
            raise self.without([kind])
        if name not in self.columns:
            raise InputError(f"{self.path} has no column {name!r} for --{kind}; its columns are {self.listed}.")
        if (column := self.columns.index(name)) in taken:
            raise InputError(f"The column {name!r} of {self.path} is named twice, but --{kind} needs one of its own.")
        return self._only(column)

    def likely(self, kind: str, taken: Collection[int]) -> int | None:
        """The likeliest column of a kind that is not taken, by what it is called; None if there is none."""
        return next((self._only(column) for column in self.called(kind) if column not in taken), None)

    def without(self, kinds: Sequence[str], time: str | None = None) -> InputError:
        """That columns of these kinds are missing, and the options that name them; time: a column that holds dates."""
        names, numbers = (
            " ".join(f"--{kind} {name}" for kind, name in zip(kinds, of)) for of in (["NAME"] * len(kinds), count(1))
        )
        names += f" --time {shlex.quote(time)}" if time else ""
        advice = self.advice.format(names=names, numbers=numbers)
        return InputError(
            f"{self.path} has no {' and no '.join(kinds)} column; its columns are {self.listed}: {advice}."
        )

    def _only(self, column: int) -> int:
        """The column, if no other has its name, else InputError."""
        if self.columns.count(name := self.columns[column]) > 1:
            raise InputError(f"{self.path} has several columns called {name!r}: give each a name of its own.")
        return column

    def called(self, kind: str) -> list[int]:
        """The columns that are called as those of a kind usually are, the likeliest first."""
        plain = [re.sub(r"[\W_]", "", column).lower() for column in self.columns]
        return list(dict.fromkeys(plain.index(name) for name in NAMES[kind] if name in plain))

    def time(self, taken: Collection[int]) -> int | None:
        """Of the columns that are called as times are, the one whose times tell most rows apart."""
        usual = [column for column in self.called("time") if column not in taken]
        if len(usual) < 2:
            return usual[0] if usual else None
        apart = [count_likely(self.path, values) for values in self.sample(usual)]
        return usual[apart.index(max(apart))]

    def dated(self, taken: Collection[int]) -> list[str]:
        """The names of the columns that are not taken and hold times, whatever they are called."""
        rest = [column for column in range(len(self.columns)) if column not in taken]
        return [self.columns[column] for column, of in zip(rest, self.sample(rest)) if hold_times(self.path, of)]

    def sample(self, columns: Sequence[int], rows: int = SAMPLE) -> list[Sequence[Any]]:
        """The first values in these columns."""
        return [values[:rows] for values in next(self.batches(columns), ((), [()] * len(columns)))[1]]

    @property
    def listed(self) -> str:
        """The names of its columns, for a sentence."""
        names = [repr(column[:40]) for column in self.columns[:20]]
        return ", ".join(names) + (", …" if len(self.columns) > 20 else "")


def open_table(path: Path, request: Request, quotes: bool = True, header: bool = True, more: bool = False) -> Table:
    """Open a table: text, JSON lines, Parquet, Feather or ORC, by its first bytes.

    quotes: whether text may have some. more: whether other delimiters than that of the request are possible, too.
    """
    with files.unpacked(path) as stream:
        start = stream.peek(512)[:512]
    kind = next((kind for mark, kind in KINDS.items() if start.startswith(mark)), "")
    if kind in ("parquet", "ipc", "orc"):
        return _typed(path, kind)
    if kind or start[257:262] == b"ustar":
        raise InputError(f"{path} is {kind or 'a tar archive'}, which is not read: give its table as CSV or Parquet.")
    if re.match(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{", start):
        return record_table(path)
    marks = (*_given(request.delimiter), *(DELIMITERS if more or request.delimiter is None else ()))
    names, text = open_text(path, marks, quotes, header, request.encoding)
    advice = f"{Table.advice}; if this line is a row, give --no-header and numbers, as in {{numbers}}"
    if not header:
        names, advice = list(map(str, range(1, len(names) + 1))), "give numbers, as in {numbers}"
    elif len(names) == 1:
        advice = "is it separated by another character? Name it with --delimiter"
    return Table(path, names, text.batches, advice=advice)


def record_table(path: Path) -> Table:
    """A file with one JSON object on each line; its columns are the keys of the first of them."""
    sample = [record for _, record in islice(files.read_records(path), SAMPLE)]
    names = list(dict.fromkeys(key for record in sample for key in record))

    def batches(columns: Sequence[int]) -> Iterator[files.Batch]:
        records, keys = files.read_records(path), [names[column] for column in columns]
        while batch := list(islice(records, files.BATCH)):
            yield [line for line, _ in batch], [[record.get(key) for _, record in batch] for key in keys]

    return Table(path, names, batches)


def _typed(path: Path, kind: str) -> Table:
    """A table in columns that have types, whose rows are counted from 1."""
    try:
        stored = pyarrow.dataset.dataset(str(path), format=kind)
    except files.DAMAGED as error:
        what = f"is a damaged {kind} file, or packed once more: fetch it again, or unpack it"
        if "duplicate field names" in str(error):
            what = "has several columns of one name: give each a name of its own"
        raise InputError(f"{path} {what}.") from None
    names = stored.schema.names

    def batches(columns: Sequence[int]) -> Iterator[files.Batch]:
        begin = 1
        try:
            for batch in stored.to_batches(columns=[names[column] for column in columns], batch_size=files.BATCH):
                yield range(begin, begin + len(batch)), list(map(_plain, batch.columns))
                begin += len(batch)
        except files.DAMAGED:
            raise InputError(f"{path} is a damaged {kind} file: it cannot be read beyond row {begin - 1}.") from None

    return Table(path, names, batches, unit="row")


def _plain(column: pa.Array) -> list[Any]:
    """Numbers and texts as Python has them, all else as text, times in ISO 8601; nothing of what cannot be text."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind):
        return column.to_pylist()
    try:
        column = column.cast(pa.timestamp(kind.unit)) if pa.types.is_timestamp(kind) else column  # UTC, without a zone
        return column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        return [None] * len(column)


def _given(delimiter: str | None) -> tuple[str, ...]:
    """The delimiter of --delimiter, if one was given."""
    if delimiter is None:
        return ()
    mark = {"tab": "\t", "\\t": "\t", "space": " "}.get(delimiter, delimiter)
    if not mark or re.search(r'["\r\n]', mark):
        raise InputError(f"--delimiter {delimiter!r} is not valid: it is one or more characters, tab, or space.")
    return (mark,)
