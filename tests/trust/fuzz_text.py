"""Text that people write: configurations, notebook parameters, and titles of items that end up in a page."""

import json
import random
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import yaml

from companion.findings import examples
from companion.site import figures, markup, staging
from companion.site.pages import find_pages
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.settings import keys, resolve
from trust import mutations

TEXTS = [
    "1",
    "-1",
    "0",
    "1e-3",
    "1e400",
    ".inf",
    "nan",
    "null",
    "~",
    "true",
    "yes",
    "",
    " ",
    "'",
    "[",
    "{",
    "[1, 2]",
    "{a: 1}",
    "2024-99-99",
    "2024-01-01",
    "1:20:30",
    "0x1F",
    "9" * 5000,
    "!!python/object/apply:os.system [id]",
    "!!binary x",
    "&a [*a]",
    "*a",
    "? [1]",
    "<<: 1",
    "topk",
    "hard",
    "dpo",
    "moe",
    "towers",
    "- ",
    "\t",
    "\0",
    "[" * 3000,
    "ü" * 999,
    "!!set {a}",
    "!!timestamp x",
    "{[1]: 2}",
    "cuda",
    "bf16",
]
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
ALLOWED = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "code", "span", "figure", "script"}
ALLOWED |= {"noscript", "img", "figcaption", "details", "summary"}
PICTURE = "1.svg"
LIVE = [
    "<script>alert(1)</script>",
    "</script><script>x</script>",
    '"><img src=x onerror=alert(1)>',
    "<b onclick='x'>",
    "&lt;b>",
    "<!-- ",
    "]]>",
    "`<i>`",
    "$<i>$",
    "</td></table><form>",
    "javascript:alert(1)",
    "\u2028<svg/onload=x>",
    "`a` $b$",
    "\0<a>",
]


def configurations(place: Path) -> Callable[[Path, random.Random], Callable]:
    """A file and overrides, with keys that are known or not and values of every kind."""

    def make(folder: Path, chance: random.Random) -> Callable:
        kind, file = chance.choice([ReferenceConfig, AlignmentConfig]), None
        known = [*keys(ReferenceConfig), *keys(AlignmentConfig), "training", "encoder", "stage", "", ".", "a.b.c.d"]
        overrides = [f"{chance.choice(known)}={chance.choice(TEXTS)}" for _ in range(chance.choice([0, 1, 1, 2]))]
        if chance.random() < 0.1:
            overrides.append(chance.choice(TEXTS))
        if chance.random() < 0.6:
            file = folder / "config.yaml"
            key = chance.choice(known).partition(".")
            text = (
                f"{key[0]}:\n  {key[2]}: {chance.choice(TEXTS)}\n" if key[2] else f"{key[0]}: {chance.choice(TEXTS)}\n"
            )
            text = chance.choice([text, text, text, chance.choice(TEXTS), LAUGHS + "seed: *i\n"])
            file.write_bytes(chance.choice([lambda content, _: content, mutations.flip])(text.encode(), chance))
        return lambda: resolve(kind, file, overrides)

    return make


def profiles(place: Path) -> Callable[[Path, random.Random], Callable]:
    """profiles.yml of a book."""
    (place / "notebooks").mkdir()
    (place / "notebooks" / "sums.py").write_text("# %%\n")
    whole = {"profiles": {"smoke": {"sums": {"last": 5}}, "paper": {}}}

    def make(folder: Path, chance: random.Random) -> Callable:
        text = yaml.safe_dump(mutations.value(whole, chance), allow_unicode=True)
        if chance.random() < 0.4:
            text = f"profiles:\n  smoke:\n    sums:\n      last: {chance.choice(TEXTS)}\n"
        if chance.random() < 0.2:
            text = mutations.flip(text.encode(), chance).decode("latin-1")
        (place / "notebooks" / "profiles.yml").write_text(text, encoding="utf-8")
        return lambda: find_pages(place, "smoke", folder)

    return make


class Markup(HTMLParser):
    """What a browser takes for markup, and the text that it shows."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.events, self.shown = set(), [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        live = [
            (name, value) for name, value in attributes if name.startswith("on") or name in ("href", "src", "srcdoc")
        ]
        self.events += [name for name, value in live if value != PICTURE]
        if tag == "script" and dict(attributes) != {"type": "application/json"}:
            self.events.append("script")

    def handle_data(self, text):
        self.shown += text


def titles(place: Path) -> Callable[[Path, random.Random], Callable]:
    """Titles with markup in the lists of examples, in a table and beside a figure."""

    def make(folder: Path, chance: random.Random) -> Callable:
        texts = [mixed(chance) for _ in range(20)]
        top = {row: [chance.randrange(20) for _ in range(examples.TOP)] for row in ("fused", texts[0])}

        def case() -> None:
            table = examples.table({"target": 1, "history": [2, 3], "top": top}, texts)
            content = figures.compact(go.Figure(go.Bar(x=texts[:5], y=[1, 2, 3, 4, 5], name=texts[6])))
            words = {"caption": texts[4], "alt": texts[5], "data": markup.table_html(table)}
            for html in (
                markup.table_html(table, texts[1]),
                markup.table_html(pd.DataFrame({texts[2]: texts}, index=pd.Index(range(20), name=texts[3] + "'"))),
                staging.figure_html(content, words, PICTURE, texts[7]),
            ):
                page = Markup(html)
                assert page.tags <= ALLOWED and not page.events, (page.tags - ALLOWED, page.events)
                assert html.count("<script") == html.count("</script") <= 1
            json.loads(html.partition('<script type="application/json">')[2].partition("</script>")[0])

        return case

    return make


def mixed(chance: random.Random) -> str:
    return "".join(chance.choice([*LIVE, "wool ", "& ", "x" * 30]) for _ in range(chance.randint(1, 3)))
