"""Text, tables and numbers of the book as HTML: nothing in the data escapes into markup."""

import re
from collections.abc import Collection
from html import escape
from typing import Any

import pandas as pd

MAX_ROWS = 300
_VERBATIM = re.compile(r"(`[^`]*`|\$[^$]*\$|\]\([^)]*\))")  # code, mathematics, where a link goes
_NUMBER = re.compile(r"[+−-]?[\d,.]+(\s?%)?( ± [\d,.]+)?")


def table_html(
    data: pd.DataFrame, caption: str = "", *, rows: int = MAX_ROWS, mathematics: Collection[str] = ()
) -> str:  # fmt: skip
    """A data frame as an HTML table that scrolls in its own box; a named index becomes the first column(s)."""
    frame = data.reset_index() if any(name is not None for name in data.index.names) else data
    shown = frame.head(rows)
    classes = [' class="number"' if _is_numeric(column) else "" for _, column in shown.items()]
    markup = [prose if name in mathematics else _code for name in frame]
    head = "".join(f'<th scope="col"{look}>{prose(str(name))}</th>' for name, look in zip(frame, classes))
    columns = list(zip(classes, markup, strict=True))
    cells = (
        "".join(f"<td{look}>{text(_cell(cell))}</td>" for cell, (look, text) in zip(row, columns, strict=True))
        for row in shown.itertuples(index=False, name=None)
    )
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    title = f'<p class="rodpo-caption">{prose(caption)}</p>' if caption else ""  # outside, or it scrolls away
    note = f"<p>The first {rows} of {len(frame):,} rows.</p>" if len(frame) > rows else ""
    label = escape(re.sub(r"[$\\]", "", caption) or "Data of this figure")
    return (
        f'{title}<div class="rodpo-table" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _is_numeric(column: pd.Series) -> bool:
    """Whether it holds numbers, or texts that are nothing else."""
    texts = column.map(type).eq(str)
    return column.dtype.kind in "iuf" or bool(len(column) and texts.all() and column.str.fullmatch(_NUMBER).all())


def _cell(value: Any) -> str:
    """One value for a reader: four significant digits, a dash for a missing one."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if pd.api.types.is_float(value):
        return typeset(f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}")
    return str(value)


def typeset(text: str) -> str:
    """Text as a printer would set it: a minus before numbers, a space before % that does not break; code stays."""
    parts = _VERBATIM.split(text)
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"(?<=\d) ?%", "\u00a0%", re.sub(r"(?<![\w.-])-(?=\d)", "−", parts[place]))
    return "".join(parts)


def _code(text: str) -> str:
    """Escaped text in which backticks enclose code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def prose(text: str) -> str:
    """Escaped text in which `$…$` is inline mathematics for MathJax and backticks enclose code."""
    return re.sub(r"\$([^$]+)\$", r'<span class="math notranslate nohighlight">\\(\1\\)</span>', _code(typeset(text)))
