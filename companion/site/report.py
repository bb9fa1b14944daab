"""A check as a page that stands alone: the table of what moved, and the executed notebooks that it came from."""

from __future__ import annotations

from html import escape
from pathlib import Path

from companion.site.check import COLUMNS, Check, Finding
from rodpo_lite.files import write_bytes

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse } caption { text-align: left; padding: .5rem 0 }
th, td { padding: .25rem .75rem; text-align: left; border-bottom: 1px solid #8886; vertical-align: top }
tr.wrong td:last-child { font-weight: 600 }
"""


def write(found: Check, folder: Path) -> Path:
    """Write report.html, and beside it a page of each chapter in which something is wrong; returns the report."""
    chapters = list(dict.fromkeys(one.chapter for one in found.wrong))
    of_name = {page.name: page for page in found.pages}
    links = []
    for name in chapters:
        page = of_name[name]
        shown = page.failed if page.failed.exists() else page.executed
        if shown.exists():
            write_bytes(folder / f"{name}.html", _as_html(shown))
            links.append(f'<li><a href="{name}.html">{escape(name)}, as it was executed</a></li>')
    body = f"<h1>Regression check</h1><p>{escape(found.summary)}</p>"
    body += _table(found.wrong, "What is wrong") + (f"<ul>{''.join(links)}</ul>" if links else "")
    body += _table(found.moved, "What moved within what is allowed")
    page = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    page += f"<title>Regression check</title><style>{_STYLE}</style><main>{body}</main></html>"
    write_bytes(folder / "report.html", page.encode())
    return folder / "report.html"


def _table(rows: list[Finding], caption: str) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(f"<tr{' class=wrong' if row.wrong else ''}>{_cells(row)}</tr>" for row in rows)
    table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _cells(row: Finding) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row.cells())


def _as_html(notebook: Path) -> bytes:
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="").from_filename(str(notebook))
    return text.encode()
