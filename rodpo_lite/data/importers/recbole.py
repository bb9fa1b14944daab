"""The atomic files of RecBole: tables with tabs whose first line types each column, as in item_id:token."""

import dataclasses
from pathlib import Path

from rodpo_lite.data.importers.columns import read_interactions, read_texts
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.tables import Table, open_table
from rodpo_lite.errors import InputError, shown

TYPES = ("token", "token_seq", "float", "float_seq")
PARTS = (".train", ".valid", ".test")  # of files that are split already, in order of time


def locate(request: Request) -> Request:
    """The .inter files of the folder, if SOURCE is one, and the .item file beside; raises InputError if none is there.

    Several .inter files must be the parts of one dataset.
    """
    source, more = request.source, ()
    if source.is_dir():
        paths = sorted(source.glob("*.inter"), key=lambda path: [path.stem.endswith(part) for part in PARTS[::-1]])
        if not paths:
            raise InputError(f"There is no .inter file in the folder {source}.")
        parts = {Path(path.stem).stem for path in paths if path.stem.endswith(PARTS)}
        if len(paths) > 1 and (len(parts) > 1 or not all(path.stem.endswith(PARTS) for path in paths)):
            names = ", ".join(sorted(path.name for path in paths)[:5])
            raise InputError(f"There are several .inter files in {source}: name one of them as SOURCE ({names}).")
        source, *more = paths
    stems = (source.stem, Path(source.stem).stem if source.stem.endswith(PARTS) else source.stem)
    beside = next((path for stem in stems if (path := source.with_name(f"{stem}.item")).is_file()), None)
    return dataclasses.replace(request, source=source, more=tuple(more), items=request.items or beside)


def read(request: Request) -> InteractionLog:
    """Interactions of an .inter file, or of several parts."""
    log = read_interactions(_open_typed(request.source, request), request)
    for path in request.more:
        read_interactions(_open_typed(path, request), request, log)
    return log


def read_item_texts(request: Request, ids: list[str]) -> list[str | None]:
    """Texts of an .item file: its columns of tokens that have words."""
    table = _open_typed(request.items, request)
    return read_texts(table, request, ids, table.column("id", request.item))


def _open_typed(path: Path, request: Request) -> Table:
    """A table without the types in the names of its columns; those of tokens may be texts."""
    table = open_table(path, request, quotes=False)
    names, _, types = zip(*(column.rpartition(":") for column in table.columns))
    for column, name, kind in zip(table.columns, names, types):
        if not name or kind not in TYPES:
            raise InputError(
                f"{path}: the column {shown(column)} in the first line must be a name and a type, as in item_id:token, "
                f"with a type of {', '.join(TYPES)}; a table without types is read with the format csv."
            )
    texts = [column for column, kind in enumerate(types) if kind.startswith("token")]
    return dataclasses.replace(table, columns=list(names), texts=texts, advice=Table.advice)
