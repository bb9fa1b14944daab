"""Figures and tables as a notebook shows them: the numbers stay the numbers, and text stays text."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from companion.site import figures, markup


def outputs(fig: go.Figure, **words) -> list[tuple]:
    """What a cell shows for a figure and its caption, each with its metadata."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "display", lambda what, **options: shown.append((what, options["metadata"])))
        figures.show(fig, **({"caption": "c", "alt": "a"} | words))
    return shown


def content(fig: go.Figure) -> dict:
    return outputs(fig)[0][0][figures.PLOTLY]


def test_numbers_are_rounded_to_six_digits_but_never_coarser_than_units():
    y = np.array([1 / 3, 12345678.9, 1e-9 / 3, np.nan, np.inf, 0.0, 2.0, -1 / 3])
    fig = go.Figure(go.Scatter(x=np.arange(8), y=y))
    fig.add_heatmap(z=np.array([[1.25, 2.0], [3.0, 4.0]]))
    scatter, heatmap = content(fig)["data"]
    assert scatter["x"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert scatter["y"] == [0.333333, 12345679, 3.33333e-10, None, None, 0, 2, -0.333333]
    assert heatmap["z"] == [[1.25, 2], [3, 4]]


def test_dates_sliders_and_frames_survive():
    fig = go.Figure(go.Scatter(x=pd.to_datetime(["2014-07-23"]), y=[1]), frames=[go.Frame(data=[{"y": [2]}], name="f")])
    fig.update_layout(sliders=[{"steps": [{"label": "f", "method": "animate", "args": [["f"]]}]}])
    shown = content(fig)
    assert shown["data"][0]["x"][0].startswith("2014-07-23")
    assert shown["frames"][0]["data"][0]["y"] == [2]
    assert shown["layout"]["sliders"][0]["steps"][0]["args"] == [["f"]]


def test_every_figure_has_the_book_s_template_even_without_setup():
    fig = go.Figure(go.Scatter(y=[1]), layout={"template": "plotly_dark"})
    layout = content(fig)["layout"]
    assert layout["template"]["layout"]["colorway"] == list(figures.COLOURS)
    assert layout["template"]["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"


def test_setup_makes_the_template_the_default_and_import_does_not():
    """In a process of its own: another test of this one may have set it up before."""
    code = "import plotly.io as pio; from companion.site import figures; print(pio.templates.default); figures.setup()"
    code += "; print(pio.templates.default)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] != figures.TEMPLATE and said[1] == figures.TEMPLATE


def test_series_differ_in_colour_and_in_a_second_channel():
    styles = [figures.style(n) for n in range(len(figures.COLOURS))]
    for channel in (("line", "color"), ("line", "dash"), ("marker", "symbol")):
        assert len({look[channel[0]][channel[1]] for look in styles}) == len(styles)
    assert figures.style("topk") == figures.style(0)
    with pytest.raises(KeyError, match="topkk"):
        figures.style("topkk")


def test_a_long_table_is_cut_and_says_so():
    html = markup.table_html(pd.DataFrame({"k": range(1200)}), "Pushes at $K$ = 20")
    assert html.count("<tr>") == 1 + markup.MAX_ROWS
    assert "The first 300 of 1,200 rows." in html
    assert r"\(K\)" in html


def test_a_mean_with_its_deviation_is_a_number():
    html = markup.table_html(pd.DataFrame({"test": ["0.03375 ± 0.00044", "0.01487"], "text": ["a ± 1", "b"]}))
    assert html.count('<td class="number">') == 2 and '<th scope="col" class="number">test</th>' in html


def test_a_table_shows_a_named_index_missing_values_and_prices_as_they_are():
    data = pd.DataFrame(
        {"ndcg": [0.0521234, np.nan], "n": [19412, 7], "title": ["$5 & $6", None]},
        index=pd.Index(["toys", "x<y"], name="set"),
    )
    cells = re.findall(r"<td[^>]*>(.*?)</td>", markup.table_html(data))
    assert cells == ["toys", "0.05212", "19412", "$5 &amp; $6", "x&lt;y", "–", "7", "–"]


def test_columns_of_numbers_are_aligned_and_others_are_not():
    data = pd.DataFrame(
        {"a": [1, 2], "b": ["1,200", "−3"], "c": ["4 %", "5 %"], "d": ["1", "or 2"], "e": ["sku-1", "2"]}
    )
    cells = re.findall(r"<td([^>]*)>", markup.table_html(data.head(1)))
    assert cells == [' class="number"'] * 4 + [""]
    cells = re.findall(r"<td([^>]*)>", markup.table_html(data))
    assert cells == ([' class="number"'] * 3 + ["", ""]) * 2


def test_a_figure_needs_words():
    with pytest.raises(ValueError, match="caption and an alt"):
        figures.show(go.Figure(), caption="c", alt=" ")


def test_a_figure_is_plotly_s_own_with_words_and_data_as_metadata():
    data = pd.DataFrame({"k": [20]})
    figure, caption = outputs(go.Figure(go.Scatter(y=[1])), caption="Of $K$", alt="One point.", data=data)
    assert figure[0][figures.PLOTLY]["data"][0]["y"] == [1] and figure[0]["text/plain"] == "One point."
    words = {"caption": "Of $K$", "alt": "One point.", "data": markup.table_html(data)}
    assert figure[1] == {figures.METADATA: words}
    assert caption[0].data == "*Of $K$*" and caption[1] == {figures.METADATA: figures.CAPTION}
    json.dumps(figure, allow_nan=False)


def test_a_live_figure_carries_its_name_and_inputs():
    figure, _ = outputs(go.Figure(go.Scatter(y=[1])), live="race", inputs={"users": 3})
    words = figure[1][figures.METADATA]
    assert words["live"] == "race" and words["inputs"] == {"users": 3}
    assert figure[0][figures.PLOTLY]["data"][0]["y"] == [1], "a notebook shows the still"


@pytest.mark.parametrize("renderer", ["colab", "notebook"])
def test_a_figure_shows_where_plotly_s_own_form_is_not_known(renderer, monkeypatch):
    monkeypatch.setattr(pio.renderers, "default", renderer)
    (data, _), _ = outputs(go.Figure(go.Scatter(y=[1], name="these points")))
    assert "these points" in data["text/html"] and figures.PLOTLY in data


def test_a_slider_shows_one_group_at_a_time():
    fig = go.Figure([go.Scatter(y=[n]) for n in range(4)])
    figures.slider(fig, {"low": [0, 1], "high": [2, 3]}, "high", "K = ")
    assert [trace.visible for trace in fig.data] == [False, False, True, True]
    slider = fig.layout.sliders[0]
    assert slider.active == 1 and slider.currentvalue.prefix == "K = "
    assert [step.args[0]["visible"] for step in slider.steps] == [
        [True, True, False, False],
        [False, False, True, True],
    ]


def test_axes_of_numbers_stay_where_they_are():
    def shown(fig, **axis):
        figures.slider(fig, {"low": [0], "high": [1]}, "low", "")
        fig.update_yaxes(**axis)  # what a notebook does later counts
        figures.show(fig, caption="What.", alt="What it shows.")
        return fig.layout

    layout = shown(go.Figure([go.Scatter(x=["a", "b"], y=[n, 10.0 * n], error_y={"array": [2, 2]}) for n in (1, 2)]))
    assert layout.xaxis.range is None
    assert layout.yaxis.range[0] <= 1 and layout.yaxis.range[1] >= 22
    layout = shown(go.Figure([go.Bar(y=[n, 2.0 * n]) for n in (1, 2)]))
    assert layout.yaxis.range[0] == 0 and layout.yaxis.range[1] >= 4, "bars begin at zero"
    points = [go.Scatter(y=[1.0]), go.Scatter(y=[100.0])]
    assert shown(go.Figure(points), type="log").yaxis.range is None
    assert shown(go.Figure(points), rangemode="tozero").yaxis.range[0] == 0
    assert shown(go.Figure(go.Scatter(x=[0, 1], y=[1, 2]))).xaxis.range[0] < 0, "a point at zero is not cut in half"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from -5 % to -0.2", "from −5\u00a0% to −0.2"),
        ("24% of", "24\u00a0% of"),
        ("[-1.4 %, +2 %]", "[−1.4\u00a0%, +2\u00a0%]"),
        ("2.2e-16 on 2026-11-25, the top-20", "2.2e-16 on 2026-11-25, the top-20"),
        ("`x = -1 %`, $-1$ and [there](page-1/-2)", "`x = -1 %`, $-1$ and [there](page-1/-2)"),
    ],
)
def test_numbers_are_set_as_in_print(text, expected):
    assert markup.typeset(text) == expected


def test_mathematics_in_a_column_only_where_it_is_asked_for():
    data = pd.DataFrame({"formula": ["$x < y$"], "title": ["$5 to $6"]})
    html = markup.table_html(data, mathematics=["formula"])
    assert r"\(x &lt; y\)" in html and "$5 to $6" in html


def test_a_forest_has_a_line_for_each_row_and_a_step_for_each_slide():
    data = pd.DataFrame(
        [(d, p, row, 1.0, 0.5, 2.0) for p in ("all", "new") for d in ("toys", "beauty") for row in ("b", "a")],
        columns=["dataset", "protocol", "row", "change", "low", "high"],
    )
    fig = figures.forest(data, "change", "row", "dataset", rows=["a", "b"], slide="protocol")
    assert list(fig.layout.yaxis.categoryarray) == ["b", "a"] and fig.layout.legend.traceorder == "reversed"
    assert [(trace.name, trace.visible) for trace in fig.data] == [
        ("Beauty", True), ("Toys", True), ("Beauty", False), ("Toys", False),
    ]  # fmt: skip
    assert [trace.marker.color for trace in fig.data[:2]] == [figures.COLOURS[2], figures.COLOURS[0]]
    assert list(fig.data[0].error_x.array) == [1, 1] and list(fig.data[0].error_x.arrayminus) == [0.5, 0.5]
    assert [step.args[0]["visible"] for step in fig.layout.sliders[0].steps] == [
        [True, True, False, False], [False, False, True, True],
    ]  # fmt: skip


def test_a_dataset_is_called_as_the_grid_labels_it():
    assert [figures._label(name) for name in ("toys-timed", "toys", "topk")] == ["Toys, timed", "Toys", "topk"]


def test_points_over_numbers_have_a_line_for_each_series_and_a_step_for_each_slide():
    data = pd.DataFrame(
        [(p, what, x, 2 * x, 1.5 * x, 3 * x) for p in ("all", "new") for what in ("b", "a") for x in (1.0, 2.0)],
        columns=["protocol", "what", "epochs", "change", "low", "high"],
    )
    fig = figures.over(data, "epochs", "change", "what", slide="protocol", text="epochs", mode="lines")
    shown = [(trace.name, list(trace.x), list(trace.y), trace.visible) for trace in fig.data]
    assert shown == [(name, [1, 2], [2, 4], step == 0) for step in range(2) for name in ("b", "a")]
    assert list(fig.data[0].error_y.array) == [1, 2] and list(fig.data[0].error_y.arrayminus) == [0.5, 1]
    assert [step.label for step in fig.layout.sliders[0].steps] == ["all", "new"]
    assert not figures.over(data[:0], "epochs", "change", "what", slide="protocol", text="epochs", mode="lines").data
