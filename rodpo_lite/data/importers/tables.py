"""Tables, whatever holds them: what their columns are called and hold, their interactions, and the texts of items."""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset

from rodpo_lite.data.importers import files
from rodpo_lite.data.importers.delimited import DELIMITERS, open_text
from rodpo_lite.data.importers.interactions import InteractionLog, identity, whole
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.times import count_likely
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.files import read_yaml

NAMES = read_yaml(Path(__file__).with_name("columns.yml"), "The list of names of columns")
SAMPLE = 1000  # rows by which columns are judged
KINDS = {  # by first bytes: as pyarrow calls what it reads, and what is not read
    b"PAR1": "parquet", b"ARROW1": "ipc", b"ORC": "orc", b"SQLite": "an SQLite database", b"\x89HDF": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook", b"Obj\x01": "an Avro file", b"\x80": "a pickle", b"<": "a web page",
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WORD = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True)
class Table:
    """A table: `batches` goes, as often as it is called, through the values in some columns.

    unit: what rows are counted in. texts: the columns that may hold texts. advice: what to do where a column of a kind
    is missing.
    """

    path: Path
    columns: list[str]
    batches: Callable[[Sequence[int]], Iterator[files.Batch]]
    unit: str = "line"
    texts: Iterable[int] | None = None
    advice: str = "name one with --{kind}"

    def column(self, kind: str, name: str | None = None, taken: Collection[int] = ()) -> int:
        """The column `name`, given by --kind, else the likeliest that is not taken; InputError if there is none."""
        if name is None:
            if likely := [column for column in self.called(kind) if column not in taken]:
                return self._only(likely[0])
            advice = "one must be called item_id" if kind == "id" else self.advice.format(kind=kind)
            raise InputError(f"{self.path} has no {kind} column; its columns are {self.listed}: {advice}.")
        if name not in self.columns:
            raise InputError(f"{self.path} has no column {name!r} for --{kind}; its columns are {self.listed}.")
        if (column := self.columns.index(name)) in taken:
            raise InputError(f"The column {name!r} of {self.path} is named twice, but --{kind} needs one of its own.")
        return self._only(column)

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
    advice = "name one with --{kind}; if this line is a row, give --no-header and a number, as in --{kind} 1"
    if not header:
        names, advice = list(map(str, range(1, len(names) + 1))), "give its number, as in --{kind} 1"
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


def read_interactions(table: Table, request: Request, log: InteractionLog | None = None) -> InteractionLog:
    """Interactions of a table, after those that a log holds of another part of it; no column has two roles.

    Where it has no time column they are taken in the order of the file, with a Notice.
    """
    named = {"user": request.user, "item": request.item, "time": request.time, "rating": request.rating}
    roles: dict[str, int] = {}
    for kind in sorted(named, key=lambda kind: named[kind] is None):
        if request.min_rating is not None if kind == "rating" else kind != "time" or named[kind] is not None:
            roles[kind] = table.column(kind, named[kind], roles.values())
    if "time" not in roles and (time := table.time(roles.values())) is not None:
        roles["time"] = time
    elif "time" not in roles:
        message = (
            f"{table.path} has no time column, so each user's interactions are taken in the order of the file; "
            f"name one with --time if one of {table.listed} is."
        )
        warnings.warn(message, Notice, stacklevel=2)
    names = {kind: table.columns[roles[kind]] for kind in named if kind in roles}
    log = log or InteractionLog(table.path, names, request, table.unit)
    if names != log.roles:
        raise InputError(f"{table.path} has other columns than {log.path}, of which it is a part.")
    log.path = table.path
    return log.read(table.batches([roles[kind] for kind in names]))


def read_texts(table: Table, request: Request, ids: list[str], item: int) -> list[str | None]:
    """The fields of each id's first row as one text, None where there is none; [N].

    Those that --text names, in its order, otherwise those of `table.texts` or all with words: no prices and no dates.
    """
    rows: dict[str, tuple | None] = dict.fromkeys(ids)
    for _, columns in table.batches(range(len(table.columns))):
        for row in zip(*columns):
            name = identity(row[item]) or ""
            if rows.get(name := name if name in rows else whole(name), row) is None:
                rows[name] = tuple(". ".join(files.texts_in(value)) for value in row)
    columns = table.texts or range(len(table.columns))
    if request.text is not None:
        columns = [table.column("text", name) for name in request.text]
    else:
        there = list(filter(None, rows.values()))
        columns = [column for column in columns if column != item and _is_text(row[column] for row in there)]
    return [files.join_text(row[column] for column in columns) if (row := rows[name]) else None for name in ids]


def _is_text(values: Iterable[str]) -> bool:
    """Whether at least half of the values that there are have a word: two letters side by side, not of an address."""
    words = [
        bool(_WORD.search(files.join_text([value]) or "")) for value in values if value.strip() not in files.MISSING
    ]
    return 2 * sum(words) >= max(len(words), 1)


def preview(request: Request, rows: int = 5) -> pd.DataFrame:
    """The first rows of a table as an import reads it; raises InputError for what is no table."""
    table, _ = _open_csv(replace(request, source=files.existing_file(request.source, "SOURCE")))
    return pd.DataFrame(zip(*table.sample(range(len(table.columns)), rows)), columns=table.columns)


def read_csv(request: Request) -> InteractionLog:
    """Interactions of a table."""
    return read_interactions(*_open_csv(request))


def read_csv_texts(request: Request, ids: list[str]) -> list[str | None]:
    """Texts of a table of items; its id column is called as in the interactions, or as ids usually are.

    Where none is called so, and the name of the first column is an id, there is no header, and that column has the ids.
    """
    table = open_table(request.items, request, more=True)
    if table.columns[:1] and table.columns[0] in ids and not table.called("id"):
        return read_texts(open_table(request.items, request, header=False, more=True), request, ids, 0)
    return read_texts(table, request, ids, table.column("id", request.item if request.item in table.columns else None))


def _open_csv(request: Request) -> tuple[Table, Request]:
    """The table of SOURCE, and the request with columns by number if it has the four of MovieLens, and no header.

    Raises InputError if what should be a header seems to be a row.
    """
    table = open_table(request.source, request, header=not request.no_header)
    names, numbers = table.columns, [name for name in table.columns if _NUMBER.fullmatch(name)]
    counted = [list(map(str, range(first, first + len(names)))) for first in (0, 1)]  # as by pandas, or --no-header
    if not numbers or names in counted or any(map(table.called, NAMES)):
        return table, request
    if len(numbers) == len(names) == 4 and re.fullmatch(r"\d{9,10}", names[3]) and not request.user:
        named = {"user": "1", "item": "2", "rating": "3", "time": "4"}
        what = " ".join(f"--{kind} {name}" for kind, name in named.items())
        message = f"{table.path} has no header; its columns are taken as those of MovieLens: --no-header {what}."
        warnings.warn(message, Notice, stacklevel=2)
        return open_table(request.source, request, header=False), replace(request, **named)
    raise InputError(
        f"{table.path} seems to have no header, as its first line is {table.listed}: give --no-header and the numbers "
        "of the columns, as in --user 1 --item 2 --time 4."
    )


def _given(delimiter: str | None) -> tuple[str, ...]:
    """The delimiter of --delimiter, if one was given."""
    if delimiter is None:
        return ()
    mark = {"tab": "\t", "\\t": "\t", "space": " "}.get(delimiter, delimiter)
    if not mark or re.search(r'["\r\n]', mark):
        raise InputError(f"--delimiter {delimiter!r} is not valid: it is one or more characters, tab, or space.")
    return (mark,)
