"""What the book adds to a figure when its page has been executed: a still picture, and how it was made.

The picture is for readers without JavaScript. It shows the figure as it looks before anything is moved.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from html import escape, unescape
from pathlib import Path
from typing import Any, NamedTuple

from companion.site.figures import HEIGHT, MADE, NO_SCRIPT

WIDTH = 760  # pixels: a line of text
FIGURE = re.compile(
    r'aria-label="([^"]*)"[^>]*></div><script type="application/json">(.*?)</script>' + re.escape(NO_SCRIPT), re.DOTALL
)


def draw(notebook: Any) -> list[bytes]:
    """Every figure in the outputs of an executed notebook as SVG, in order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = (read(output.get("data", {}).get("text/html", "")) for cell in cells for output in cell.outputs)
    if not (found := [one.figure for one in shown if one]):
        return []
    from kaleido.scopes.plotly import PlotlyScope
    from plotly.offline import get_plotlyjs

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "plotly.min.js"
        script.write_text(get_plotlyjs(), encoding="utf-8")
        scope = PlotlyScope(plotlyjs=str(script))
        try:
            return [_svg(scope, figure) for figure in found]
        finally:
            scope._shutdown_kaleido()


class Found(NamedTuple):
    """A figure of an output: plotly's JSON, its alt text and its caption as HTML."""

    figure: dict[str, Any]
    alt: str
    caption: str


def read(html: str) -> Found | None:
    """The figure that an output holds; None if it holds none."""
    if not (match := FIGURE.search(html)):
        return None
    caption = re.search("<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    return Found(json.loads(match[2]), unescape(match[1]), f"<p><em>{caption[1]}</em></p>" if caption else "")


def complete(html: str, pictures: Iterator[str], made: str) -> str:
    """An output with the address of a picture in each of its figures, taken from `pictures`, and how it was made."""

    def picture(match: re.Match) -> str:
        image = f'<img src="{next(pictures)}" alt="{match[1]}" width="{WIDTH}" loading="lazy">'
        return match[0].removesuffix(NO_SCRIPT) + f"<noscript>{image}</noscript>"

    return FIGURE.sub(picture, html).replace(MADE, f'<p class="rodpo-made">{escape(made)}</p>')


def _svg(scope: Any, figure: dict[str, Any]) -> bytes:
    layout = {key: value for key, value in figure["layout"].items() if key not in ("sliders", "updatemenus")}
    size = {"width": WIDTH, "height": int(layout.get("height") or HEIGHT)}
    return scope.transform({"data": figure["data"], "layout": layout}, format="svg", **size)
