"""One look for every figure, shown natively in a notebook and as a self-contained `<figure>` in the book.

The book's figures are drawn in the reader's browser by `book/_static/figures.js`, from JSON that stands in the page.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import pandas
    import plotly.graph_objects as go

BOOK_MODE = "RODPO_BOOK"  # set to 1 in the kernel that executes a notebook for the book
TEMPLATE = "rodpo"
MAX_ROWS = 50
HEIGHT = 420  # pixels, unless the figure sets its own
NO_SCRIPT = "<noscript><p>This figure is drawn by JavaScript, which is switched off here.</p></noscript>"
MADE = "<!-- how this was made -->"  # the book replaces both, see still.py

# Okabe and Ito (2008), without the yellow and the black, which vanish on one of the two backgrounds.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
)  # fmt: skip
GREY = "#808890"  # readable on white and on dark: references and annotations
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
PATTERNS = ("", "/", ".", "\\", "x", "-")
_VERBATIM = re.compile(r"(`[^`]*`|\$[^$]*\$|\]\([^)]*\))")  # code, mathematics, where a link goes
_NUMBER = re.compile(r"[+−-]?[\d,.]+(\s?%)?")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# A strategy looks the same on every page, and so does a dataset.
_STRATEGIES = ("topk", "hard", "none", "uniform", "static_hard", "static_topk")
_DATASETS = ("toys", "sports", "beauty")
_PLACES = {name: place for names in (_STRATEGIES, _DATASETS) for place, name in enumerate(names)}


def style(series: str | int) -> dict[str, dict[str, str]]:
    """The line and marker of a series, as keyword arguments of `go.Scatter`: colour, dash and symbol together.

    `series` is a negative-selection strategy, a dataset or a place in the order. Raises KeyError for another name.
    """
    if isinstance(series, str):
        if series not in _PLACES:
            raise KeyError(f"no style for {series!r}: one of {', '.join(_PLACES)}, or a number")
        series = _PLACES[series]
    colour = COLOURS[series % len(COLOURS)]
    return {
        "line": {"color": colour, "dash": DASHES[series % len(DASHES)]},
        "marker": {"color": colour, "symbol": SYMBOLS[series % len(SYMBOLS)]},
    }


def template() -> go.layout.Template:
    """The book's plotly template: Okabe-Ito colours, and a second channel (dash, symbol, pattern) for each series.

    Backgrounds are transparent and text is a grey that reads on both; the book replaces it with the theme's colours.
    """
    import plotly.graph_objects as go

    axis = {
        "automargin": True, "gridcolor": "rgba(128, 136, 144, .25)", "linecolor": GREY, "zeroline": False,
        "showline": False, "ticks": "outside", "ticklen": 4, "tickcolor": "rgba(128, 136, 144, .5)",
        "title": {"standoff": 12, "font": {"size": 14}},
    }  # fmt: skip
    error = {"color": GREY}
    control = {"bgcolor": "rgba(128, 136, 144, .12)", "bordercolor": "rgba(128, 136, 144, .5)"}
    return go.layout.Template(
        layout={
            "colorway": COLOURS,
            "colorscale": {"sequential": "Cividis", "sequentialminus": "Cividis_r", "diverging": "RdBu"},
            "font": {"family": FONT, "size": 14, "color": GREY},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {**axis, "showgrid": False, "showline": True},
            "yaxis": axis,
            "hovermode": "closest",
            "hoverlabel": {"font": {"family": FONT}},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}},
            "margin": {"l": 16, "r": 16, "t": 16, "b": 40},
            "updatemenudefaults": {**control, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 36}},
            "sliderdefaults": {**control, "pad": {"t": 48}, "ticklen": 4, "currentvalue": {"font": {"size": 14}}},
        },
        data={
            "scatter": [
                {**style(n), "line": {"dash": DASHES[n], "width": 2.5}, "marker": {"symbol": SYMBOLS[n], "size": 8}}
                for n in range(len(COLOURS))
            ],
            "bar": [
                {"marker": {"pattern": {"shape": shape, "solidity": 0.35}}, "error_x": error, "error_y": error}
                for shape in PATTERNS
            ],
        },
    )


def setup() -> None:
    """Make the book's template plotly's default; call it once at the top of a notebook."""
    import plotly.io as pio

    pio.templates[TEMPLATE] = template()
    pio.templates.default = TEMPLATE


def in_book() -> bool:
    """Whether this process executes a notebook for the book."""
    return os.environ.get(BOOK_MODE) == "1"


def slider(
    fig: go.Figure, groups: dict[str, list[int]], active: str, prefix: str, layouts: dict[str, dict] | None = None
) -> None:  # fmt: skip
    """Add a slider that shows one named group of traces at a time, `active` first; groups hold trace numbers.

    layouts: what a group changes in the layout, as in {"K": {"xaxis.type": "log"}}, for every group or for none.
    """
    for number, trace in enumerate(fig.data):
        trace.visible = number in groups[active]
    steps = []
    for name, chosen in groups.items():
        visible = {"visible": [n in chosen for n in range(len(fig.data))]}
        steps.append({"label": name, "method": "update", "args": [visible, layouts[name]] if layouts else [visible]})
    place = list(groups).index(active)
    fig.update_layout(  # shorter than the figure: the first and the last label are centred under its ends
        sliders=[{"steps": steps, "active": place, "currentvalue": {"prefix": prefix}, "x": 0.08, "len": 0.8}]
    )


def forest(
    data: pandas.DataFrame, value: str, by: str, series: str, *, rows: Iterable[str], slide: str | None = None
) -> go.Figure:  # fmt: skip
    """Points with intervals: a line for each of `rows`, from the top, with the series of one line side by side.

    data: a point a line, with its `value`, `low` and `high`, the row that it belongs `by`, and its `series`; where
    `slide` names a column, a slider shows one of its values at a time, the first at first.
    """
    import plotly.graph_objects as go

    fig, groups = go.Figure(), {}
    for step, shown in data.groupby(slide, sort=False) if slide else [("", data)]:
        for number, (name, part) in enumerate(shown.groupby(series, sort=False)):
            groups.setdefault(step, []).append(len(fig.data))
            fig.add_scatter(
                x=part[value], y=part[by], name=name, mode="markers", orientation="h",
                **style(name if name in _PLACES else number), error_x=whiskers(part[value], part["low"], part["high"]),
            )  # fmt: skip
    fig.update_layout(scattermode="group")
    fig.update_yaxes(categoryorder="array", categoryarray=list(rows)[::-1])
    if slide and groups:
        slider(fig, groups, next(iter(groups)), f"{slide.capitalize()}: ")
    return fig


def whiskers(middle: Any, low: Any, high: Any) -> dict[str, Any]:
    """Error bars from values and the ends of their intervals, as `error_x` or `error_y` takes them."""
    return {"array": high - middle, "arrayminus": middle - low}


def show(fig: go.Figure, *, caption: str, alt: str, data: pandas.DataFrame | None = None) -> None:
    """Show a plotly figure with its caption: natively in Jupyter and VS Code, as accessible HTML in the book.

    caption: a sentence or two; `$…$` in it is mathematics. alt: what a reader who cannot see it must know.
    data: the numbers behind it, offered as a collapsible table. Raises ValueError when caption or alt is empty.
    """
    from IPython.display import HTML, Markdown, display

    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption and an alt text")
    if in_book():
        display(HTML(figure_html(fig, caption=caption, alt=alt, data=data)))
    else:
        display(fig)
        display(Markdown(f"*{caption}*"))


def table(data: pandas.DataFrame, caption: str, *, rows: int = MAX_ROWS, prose: Collection[str] = ()) -> None:
    """Show a data frame as a table with a caption, at most `rows` of it, in a notebook and in the book alike.

    prose: columns in which `$…$` is mathematics, as it is in the caption.
    """
    from IPython.display import HTML, display

    display(HTML(table_html(data, caption, rows=rows, prose=prose)))


def figure_html(fig: go.Figure, *, caption: str, alt: str, data: pandas.DataFrame | None = None) -> str:
    """The figure as HTML that `figures.js` draws: placeholder, JSON, caption and data table, no executable script."""
    content = fig.to_plotly_json()
    content["layout"]["template"] = template().to_plotly_json()
    payload = json.dumps(_compact(content), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    payload = payload.replace("<", "\\u003c")  # nothing in it can close the script element
    height = int(fig.layout.height or HEIGHT)
    details = ""
    if data is not None:
        details = f"<details><summary>Data of this figure</summary>{table_html(data, '')}</details>"
    return (
        '<figure class="rodpo-figure">'
        f'<div class="rodpo-plot" role="img" aria-label="{escape(alt)}" style="min-height:{height}px"></div>'
        f'<script type="application/json">{payload}</script>'
        f"{NO_SCRIPT}<figcaption>{_prose(caption)}</figcaption>{details}{MADE}</figure>"
    )


def table_html(
    data: pandas.DataFrame, caption: str = "", *, rows: int = MAX_ROWS, prose: Collection[str] = ()
) -> str:  # fmt: skip
    """A data frame as an HTML table that scrolls in its own box; a named index becomes the first column(s)."""
    frame = data.reset_index() if any(name is not None for name in data.index.names) else data
    shown = frame.head(rows)
    numeric = [_is_numeric(shown.iloc[:, number]) for number in range(shown.shape[1])]
    head = "".join(
        f'<th scope="col"{_numeric(is_number)}>{_prose(str(name))}</th>' for name, is_number in zip(frame, numeric)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_numeric(is_number)}>{(_prose if name in prose else _code)(_cell(cell))}</td>"
            for name, cell, is_number in zip(frame, row, numeric)
        )
        + "</tr>"
        for row in shown.itertuples(index=False, name=None)
    )
    title = f'<p class="rodpo-caption">{_prose(caption)}</p>' if caption else ""  # outside, or it scrolls away
    note = f"<p>The first {rows} of {len(frame):,} rows.</p>" if len(frame) > rows else ""
    label = escape(re.sub(r"[$\\]", "", caption) or "Data of this figure")
    return (
        f'{title}<div class="rodpo-table" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _is_numeric(column: pandas.Series) -> bool:
    """Whether it holds numbers, or texts that are nothing else."""
    texts = column.map(type).eq(str)
    return column.dtype.kind in "iuf" or bool(len(column) and texts.all() and column.str.fullmatch(_NUMBER).all())


def _numeric(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _cell(value: Any) -> str:
    """One value for a reader: four significant digits, a dash for a missing one."""
    import pandas as pd

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


def _prose(text: str) -> str:
    """Escaped text in which `$…$` is inline mathematics for MathJax and backticks enclose code."""
    return re.sub(r"\$([^$]+)\$", r'<span class="math notranslate nohighlight">\\(\1\\)</span>', _code(typeset(text)))


def _compact(value: Any) -> Any:
    """Plotly's JSON with plain lists for arrays, six significant digits, and null for what is not a finite number."""
    import numpy as np

    if isinstance(value, dict):
        if value.keys() >= {"dtype", "bdata"}:  # plotly's typed array, little-endian
            array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]).newbyteorder("<"))
            if "shape" in value:
                array = array.reshape([int(size) for size in str(value["shape"]).split(",")])
            return _compact(array.tolist())
        return {key: _compact(item) for key, item in value.items()}
    if (
        isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "M"
    ):  # as nanoseconds, tolist() gives integers
        return np.datetime_as_string(value).tolist()
    if isinstance(value, np.ndarray):
        return _compact(value.tolist())
    if isinstance(value, np.generic):
        return _compact(value.item())
    if isinstance(value, list | tuple):
        return [_compact(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        if value == 0:
            return 0
        digits = max(0, 5 - math.floor(math.log10(abs(value))))  # never coarser than units
        return int(value) if value.is_integer() and abs(value) < 1e15 else round(value, digits)
    if value is None or isinstance(value, str | int):
        return value
    return str(value)  # dates
