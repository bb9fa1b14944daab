"""The atomic files of RecBole: tables with tabs whose first line types each column, as in item_id:token."""

import dataclasses
from pathlib import Path

from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.tables import Table, read_interactions, read_table, read_texts
from rodpo_lite.errors import InputError, shown

TYPES = ("token", "token_seq", "float", "float_seq")


def locate(request: Request) -> Request:
    """The .inter file of the folder, if SOURCE is one, and the .item file beside it; raises InputError if not one."""
    source = request.source
    if source.is_dir():
        paths = sorted(source.glob("*.inter"))
        if not paths:
            raise InputError(f"There is no .inter file in the folder {source}.")
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths[:5])
            raise InputError(f"There are several .inter files in {source}: name one of them as SOURCE ({names}).")
        source = paths[0]
    beside = source.with_suffix(".item")
    return dataclasses.replace(request, source=source, items=request.items or (beside if beside.is_file() else None))


def read(request: Request) -> InteractionLog:
    """Interactions of an .inter file."""
    return read_interactions(_read_typed(request.source), request)


def read_item_texts(request: Request, ids: list[str]) -> list[str | None]:
    """Texts of an .item file: its token_seq columns."""
    table = _read_typed(request.items)
    return read_texts(table, request, ids, table.column("id", request.item))


def _read_typed(path: Path) -> Table:
    """A table without the types in the names of its columns, of which token_seq are texts."""
    table = read_table(path, "\t", quoted=False)
    names, _, types = zip(*(column.rpartition(":") for column in table.columns))
    for column, name, kind in zip(table.columns, names, types):
        if not name or kind not in TYPES:
            raise InputError(
                f"{path}: the column {shown(column)} in the first line must be a name and a type, as in item_id:token, "
                f"with a type of {', '.join(TYPES)}; a table without types is read with the format csv."
            )
    texts = [column for column, kind in enumerate(types) if kind == "token_seq"]
    return dataclasses.replace(table, columns=list(names), texts=texts)
