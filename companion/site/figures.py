"""One look for every figure: the template, the style of each series, and how a notebook shows a figure or a table.

A figure leaves a cell in plotly's own form, with caption, alt text and data as metadata; staging.py makes the book's
HTML of it.
"""

import inspect
import json
import textwrap
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import HTML, Markdown, display
from plotly.utils import PlotlyJSONEncoder
from pydantic import JsonValue

from companion.site.markup import MAX_ROWS, table_html
from companion.site.pages import CAPTION, METADATA, PLOTLY, ROOT
from rodpo_lite.files import read_yaml

TEMPLATE = "rodpo"
_LOOK = read_yaml(Path(__file__).with_name("template.yml"), "The template of figures")
COLOURS = tuple(_LOOK["layout"]["colorway"])
VERMILION = COLOURS[1]
GREY = _LOOK["layout"]["font"]["color"]  # readable on white and on dark: references and annotations

# A strategy looks the same on every page, and so does a dataset.
_STRATEGIES = ("topk", "hard", "none", "uniform", "static_hard", "static_topk")
_DATASETS = ("toys", "sports", "beauty", "games", "toys-timed")
_PLACES = {name: place for names in (_STRATEGIES, _DATASETS) for place, name in enumerate(names)}


def style(series: str | int) -> dict[str, dict[str, str]]:
    """The line and marker of a series, as keyword arguments of `go.Scatter`: colour, dash and symbol together.

    `series` is a negative-selection strategy, a dataset or a place in the order. Raises KeyError for another name.
    """
    if isinstance(series, str):
        if series not in _PLACES:
            raise KeyError(f"no style for {series!r}: one of {', '.join(_PLACES)}, or a number")
        series = _PLACES[series]
    number = series % len(COLOURS)
    colour, look = COLOURS[number], _LOOK["data"]["scatter"][number]
    return {
        "line": {"color": colour, "dash": look["line"]["dash"]},
        "marker": {"color": colour, "symbol": look["marker"]["symbol"]},
    }


def _label(series: str) -> str:
    """What readers call a series: a dataset as the grid labels it."""
    return series.replace("-", ", ").capitalize() if series in _DATASETS else series


def setup() -> None:
    """Make the book's template plotly's default; call it once at the top of a notebook."""
    pio.templates[TEMPLATE] = go.layout.Template(_LOOK)
    pio.templates.default = TEMPLATE


def slider(fig: go.Figure, groups: dict[str, list[int]], active: str, prefix: str) -> None:
    """Add a slider that shows one named group of traces at a time, `active` first; groups hold trace numbers.

    Axes of numbers stay where they are (see `show`). In the book it is a slider of the page's own, or buttons for up to
    four groups.
    """
    visible = {name: [number in chosen for number in range(len(fig.data))] for name, chosen in groups.items()}
    for trace, is_shown in zip(fig.data, visible[active]):
        trace.visible = is_shown
    steps = [{"label": name, "method": "update", "args": [{"visible": shown}]} for name, shown in visible.items()]
    # Shorter than the figure: the first and the last label are centred under its ends.
    look = {"active": list(groups).index(active), "currentvalue": {"prefix": prefix}, "x": 0.08, "len": 0.8}
    fig.update_layout(sliders=[{"steps": steps, **look}])


def _hold(fig: go.Figure) -> None:
    """Fix each axis of numbers whose range is not set to what holds all traces and their error bars."""
    for name, axis in (("x", fig.layout.xaxis), ("y", fig.layout.yaxis)):
        ends = [end for trace in fig.data for end in _ends(trace, name)]
        free = not axis.range and not axis.autorange and axis.type in (None, "linear")
        if not ends or not free or not all(map(np.isfinite, ends)):
            continue
        along = "h" if name == "x" else "v"
        bars = any(trace.type == "bar" and (trace.orientation or "v") == along for trace in fig.data)
        from_zero = [0.0] * (bars or axis.rangemode == "tozero")
        low, high = min([*ends, *from_zero]), max([*ends, *from_zero])
        margin = 0.05 * (high - low) or 1.0
        axis.range = [low - margin * (low not in from_zero), high + margin * (high not in from_zero)]


def _ends(trace: Any, name: str) -> list[float]:
    """The least and the largest number of a trace on an axis; none where it holds categories."""
    values = np.asarray([] if trace[name] is None else trace[name])
    if not len(values) or values.dtype.kind not in "iuf":
        return []
    error = trace[f"error_{name}"] if f"error_{name}" in trace else None
    above, below = ((error[end] if error and error[end] is not None else 0.0) for end in ("array", "arrayminus"))
    return [float(np.nanmin(values - np.asarray(below))), float(np.nanmax(values + np.asarray(above)))]


def forest(
    data: pd.DataFrame, value: str, by: str, series: str, *, rows: Iterable[str], slide: str | None = None
) -> go.Figure:  # fmt: skip
    """Points with intervals: a line for each of `rows`, from the top, with the series of one line side by side.

    data: a point a line, with its `value`, `low` and `high`, the row that it belongs `by`, and its `series`; where
    `slide` names a column, a slider shows one of its values at a time, the first at first.
    """
    fig, groups = go.Figure(), {}
    for step, shown in data.groupby(slide, sort=False) if slide else [("", data)]:
        parts = list(enumerate(shown.groupby(series, sort=False)))
        for number, (name, part) in reversed(parts):  # what is drawn first stands lowest
            groups.setdefault(step, []).append(len(fig.data))
            fig.add_scatter(
                x=part[value], y=part[by], name=_label(name), mode="markers", orientation="h",
                **style(name if name in _PLACES else number), error_x=whiskers(part[value], part["low"], part["high"]),
            )  # fmt: skip
    fig.update_layout(scattermode="group", legend_traceorder="reversed")
    fig.update_yaxes(categoryorder="array", categoryarray=list(rows)[::-1])
    if slide and groups:
        slider(fig, groups, next(iter(groups)), f"{slide.capitalize()}: ")
    return fig


def over(data: pd.DataFrame, x: str, value: str, series: str, *, slide: str, text: str, mode: str) -> go.Figure:
    """Points with intervals over the numbers of the column `x`, around zero; otherwise as `forest`.

    text: what hovering over a point tells beside its numbers. mode: plotly's, with or without lines.
    """
    fig, groups = go.Figure(), {}
    for step, shown in data.groupby(slide, sort=False):
        for number, (name, part) in enumerate(shown.groupby(series, sort=False)):
            groups.setdefault(step, []).append(len(fig.data))
            fig.add_scatter(
                x=part[x], y=part[value], text=part[text], mode=mode, name=_label(name),
                **style(name if name in _PLACES else number), error_y=whiskers(part[value], part["low"], part["high"]),
            )  # fmt: skip
    fig.add_hline(y=0, line_dash="dot", line_color=GREY)
    if groups:
        slider(fig, groups, next(iter(groups)), f"{slide.capitalize()}: ")
    return fig


def show_changes(
    data: pd.DataFrame, rows: Iterable[str], *, caption: str, alt: str, value: str = "change %", by: str = "what",
    series: str = "dataset", slide: str | None = "protocol", title: str = "change of test NDCG@5, %",
    height: int | None = None, hidden: Collection[str] = ("after", "before"), negligible: float = 0,
) -> None:  # fmt: skip
    """Show a `forest` of changes around zero, a line for each of `rows`, or say that there is none.

    data: as `forest` takes it; its table leaves out the columns `hidden`. negligible: half the width of a shaded band.
    """
    if data.empty:
        display(Markdown("*These runs are not on record yet.*"))
        return
    fig = forest(data, value, by, series, rows=rows, slide=slide)
    if negligible:
        fig.add_vrect(x0=-negligible, x1=negligible, fillcolor=GREY, opacity=0.15, line_width=0)
    fig.add_vline(x=0, line_dash="dot", line_color=GREY)
    fig.update_xaxes(title=title)
    fig.update_layout(height=height, showlegend=series == "dataset" or None)  # a single dataset is named, too
    table = data.drop(columns=list(hidden))
    show(fig, caption=caption, alt=alt, data=table.assign(**{by: table[by].str.replace("<br>", " ")}))


def whiskers(middle: Any, low: Any, high: Any) -> dict[str, Any]:
    """Error bars from values and the ends of their intervals, as `error_x` or `error_y` takes them."""
    return {"array": high - middle, "arrayminus": middle - low}


def show(
    fig: go.Figure, *, caption: str, alt: str, data: pd.DataFrame | None = None, live: str | None = None,
    inputs: JsonValue = None, still: str = "",
) -> None:  # fmt: skip
    """Show a plotly figure with its caption: natively in a notebook, as accessible HTML in the book.

    caption: a sentence or two; `$…$` in it is mathematics. alt: what a reader who cannot see it must know. data: the
    numbers behind it, which the book offers as a collapsible table. live: the name of a figure that computes in the
    reader's browser (book/live/<name>.html.j2, book/_static/lab/<name>.js), which gets `inputs` and takes the place of
    this one where scripts run. still: a sentence on this one, which the other does not need. Raises ValueError
    without caption or alt.
    """
    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption and an alt text")
    if fig.layout.sliders:
        _hold(fig)
    native = fig._repr_mimebundle_()  # what plotly shows where its own form is not known, as in Colab
    words = {"caption": caption, "alt": alt, "data": None if data is None else table_html(data)}
    words |= {"live": live, "inputs": inputs, "still": still} if live else {}
    display({**native, PLOTLY: compact(fig), "text/plain": alt}, metadata={METADATA: words}, raw=True)
    display(Markdown(f"*{f'{caption} {still}'.strip()}*"), metadata={METADATA: CAPTION})


def compact(fig: go.Figure) -> dict[str, Any]:
    """A figure in the book's template as plotly's JSON: lists for arrays, six digits, null for what is not finite."""
    layout = fig.layout.to_plotly_json() | {"template": go.layout.Template(_LOOK)}
    content = {"data": fig.data, "layout": layout} | ({"frames": fig.frames} if fig.frames else {})
    return json.loads(json.dumps(content, cls=PlotlyJSONEncoder), parse_float=_rounded)


def _rounded(number: str) -> float:
    """Six significant digits of a number, never coarser than units."""
    value = float(number)
    if value.is_integer() and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.6g}") if abs(value) < 1e6 else round(value, 0)


def table(data: pd.DataFrame, caption: str, *, rows: int = MAX_ROWS, mathematics: Collection[str] = ()) -> None:
    """Show a data frame as a table with a caption, at most `rows` of it, in a notebook and in the book alike.

    mathematics: columns in which `$…$` is mathematics, as it is in the caption.
    """
    display(HTML(table_html(data, caption, rows=rows, mathematics=mathematics)))


def source(*objects: Any) -> None:
    """Show code as it stands in the package, below the name of its file: functions, properties and classes of one."""
    plain = [one.fget if isinstance(one, property) else one for one in objects]
    code = "\n\n".join(textwrap.dedent(inspect.getsource(one)).rstrip() for one in plain)
    file = Path(inspect.getsourcefile(plain[0])).relative_to(ROOT)
    display(Markdown(f"*{file}*\n\n```python\n{code}\n```"))
