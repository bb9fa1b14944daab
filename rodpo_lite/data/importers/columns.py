"""Which columns of a table are which, and what they hold: interactions, and the texts of items."""

import re
import shlex
import warnings
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from rodpo_lite.data.importers import files
from rodpo_lite.data.importers.interactions import InteractionLog, identity, whole
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.tables import NAMES, Table, open_table
from rodpo_lite.errors import InputError, Notice

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WORD = re.compile(r"[^\W\d_]{2}")


def read_interactions(table: Table, request: Request, log: InteractionLog | None = None) -> InteractionLog:
    """Interactions of a table, after those that a log holds of another part of it; no column has two roles.

    Where it has no times they are taken in the order of the file, with a Notice. InputError where a column has some but
    is not called so: `--ties file` says that they are of something else.
    """
    named = {"user": request.user, "item": request.item, "time": request.time, "rating": request.rating}
    if request.min_rating is None:
        del named["rating"]
    roles: dict[str, int] = {}
    for kind, name in named.items():
        if name is not None:
            roles[kind] = table.column(kind, name, roles.values())
    for kind in [kind for kind in named if kind not in roles and kind != "time"]:
        if (column := table.likely(kind, roles.values())) is not None:
            roles[kind] = column
    if "time" not in roles and (time := table.time(roles.values())) is not None:
        roles["time"] = time
    dated = table.dated(roles.values()) if "time" not in roles else []
    if missing := [kind for kind in named if kind not in roles and kind != "time"]:
        raise table.without(missing, dated[0] if len(dated) == 1 else None)
    if dated and request.ties != "file":
        raise InputError(
            f"{table.path} has no column that is called as times are, but there are times in "
            f"{' and '.join(map(repr, dated))}: give --time {shlex.quote(dated[0])}, or --ties file if they are of "
            "something else and the order of the file counts."
        )
    if "time" not in roles:
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
