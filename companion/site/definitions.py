"""A Sphinx extension: the first mention of each term of the glossary on a page links there and says what it means.

The terms stand in glossary.yml beside glossary.md, which shows them where it says `<!-- glossary -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

PAGE, FILE, MARK = "glossary", "glossary.yml", "<!-- glossary -->"
PROSE = (nodes.paragraph, nodes.list_item)
SKIPPED = (
    nodes.reference, nodes.literal, nodes.title, nodes.caption, nodes.math, nodes.raw, nodes.footnote, nodes.citation,
)  # fmt: skip


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", _list_terms)
    app.connect("doctree-resolved", _link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The terms of a book by name; none where it has no glossary."""
    path = Path(folder) / FILE
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def link(doctree: nodes.document, terms: dict[str, dict[str, Any]], addresses: dict[str, str]) -> None:
    """Turn the first mention of each term in the prose of a page into a link that carries its meaning."""
    spellings = {_plain(text): name for name, term in terms.items() for text in (name, *term.get("also", ()))}
    longest_first = "|".join(re.escape(text).replace("'", "['’]") for text in sorted(spellings, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])({longest_first})(?![\w-])", re.IGNORECASE)
    left = set(addresses)
    for text in list(_texts(doctree)):
        parts, done, whole = [], 0, text.astext()
        for match in pattern.finditer(whole):
            if (name := spellings[_plain(match[0])]) in left:
                left.remove(name)
                meaning = {"refuri": addresses[name], "reftitle": terms[name]["means"], "classes": ["rodpo-term"]}
                parts += [nodes.Text(whole[done : match.start()]), nodes.reference("", match[0], **meaning)]
                done = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(whole[done:])])


def _list_terms(app: Any, page: str, source: list[str]) -> None:
    if page != PAGE or MARK not in source[0]:
        return
    terms = read(app.srcdir)
    entries = "\n\n".join(f"{name}\n    {terms[name]['means']}" for name in sorted(terms, key=str.lower))
    source[0] = source[0].replace(MARK, f"```{{glossary}}\n{entries}\n```")


def _link_terms(app: Any, doctree: nodes.document, page: str) -> None:
    if page == PAGE or app.builder.format != "html" or not (terms := read(app.srcdir)):
        return
    known, start = app.env.get_domain("std").objects, app.builder.get_relative_uri(page, PAGE)
    link(doctree, terms, {name: f"{start}#{known['term', name][1]}" for name in terms})


def _texts(node: nodes.Element, is_prose: bool = False) -> Iterator[nodes.Text]:
    """The texts below a node that are prose, in order."""
    for child in node.children:
        if isinstance(child, nodes.Text) and is_prose:
            yield child
        elif not isinstance(child, SKIPPED):
            yield from _texts(child, is_prose or isinstance(child, PROSE))


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())
