"""The picture of the first page: what each rejected item does to NDCG@5, dataset by dataset, on one fixed axis.

It is plain HTML: radio buttons choose one of the tables that are all in the page, so it needs no script, grows with the
text, and is read aloud as a table.
"""

from html import escape
from itertools import product
from math import ceil, floor

import pandas as pd

from companion.evidence.grid import Grid
from companion.findings.explorer import BASES, REJECTED
from companion.findings.sentences import render
from rodpo_lite.evaluation.statistics import signed

SHOWN = ("hard", "uniform", "topk", "topk_on_moe")
AGAINST = {"reference": "the reference", "none": "more training"}
TICK = 10  # percent


def forest(found: pd.DataFrame, grid: Grid) -> str:
    """The picture as HTML. found: `explorer.table`; its lines where no reference stays are shown."""
    kept = found[found["rejected"].isin(SHOWN) & found["against"].isin(AGAINST) & ~found["stays"]]
    if kept.empty:
        return "<p><em>No run is on record yet.</em></p>"
    ends = floor(kept["low"].min() / TICK) * TICK, ceil(kept["high"].max() / TICK) * TICK
    choices = {
        "against": {name: word for name, word in AGAINST.items() if name in set(kept["against"])},
        "base": {name: word for name, word in BASES.items() if name in set(kept["base"])},
        "protocol": {name: name for name in kept["protocol"].unique()},
    }
    toggles = "".join(_toggle(key, words) for key, words in choices.items())
    panels = "".join(_panel(kept, dict(zip(choices, picked)), ends, grid) for picked in product(*choices.values()))
    rules = "".join(
        f'.rodpo-forest:has([value="{_look(key, name)}"]:checked) .panel:not(.{_look(key, name)}){{display:none}}'
        for key, words in choices.items()
        for name in words
    )
    return f'<style>{rules}</style><div class="rodpo-forest"><div class="toggles">{toggles}</div>{panels}</div>'


def _toggle(key: str, words: dict[str, str]) -> str:
    legend = {"against": "compared with", "base": "base", "protocol": "ranking"}[key]
    buttons = "".join(
        f'<label><input type="radio" name="forest-{key}" value="{_look(key, name)}"{" checked" * (place == 0)}>'
        f"<span>{escape(word)}</span></label>"
        for place, (name, word) in enumerate(words.items())
    )
    return f'<div role="radiogroup" aria-label="{legend}"><span>{legend}</span>{buttons}</div>'


def _panel(kept: pd.DataFrame, picked: dict[str, str], ends: tuple[int, int], grid: Grid) -> str:
    """One table, and the sentence that says what it shows."""
    here = kept
    for key, name in picked.items():
        here = here[here[key] == name]
    lines = "".join(_dataset(grid.label(dataset), part, ends) for dataset, part in here.groupby("dataset", sort=False))
    ticks = "".join(
        f'<span style="left:{_across(value, ends):.1f}%">{signed(value, 0) if value else 0}</span>'
        for value in range(ends[0], ends[1] + 1, TICK)
    )
    looks = " ".join(_look(key, name) for key, name in picked.items())
    return (
        f'<div class="panel {looks}"><p class="says" role="status">{escape(_sentence(here, grid))}</p>'
        f'<table><thead><tr><th scope="col">dataset</th><th scope="col">rejected</th>'
        f'<th scope="col" class="axis" aria-label="picture">{ticks}</th><th scope="col">NDCG@5</th></tr></thead>'
        f'<tbody style="--zero:{_across(0, ends):.1f}%">{lines}</tbody></table></div>'
    )


def _dataset(label: str, part: pd.DataFrame, ends: tuple[int, int]) -> str:
    rows = []
    for place, name in enumerate(name for name in SHOWN if name in set(part["rejected"])):
        (line,) = part[part["rejected"] == name].itertuples(index=False, name=None)
        change, low, high = line[-3:]
        kind, mark = ("better", "▲") if low > 0 else ("worse", "▼") if high < 0 else ("open", "●")
        left, right = _across(low, ends), 100 - _across(high, ends)
        head = f'<th scope="rowgroup" rowspan="{part["rejected"].nunique()}">{escape(label)}</th>' * (place == 0)
        rows.append(
            f'<tr>{head}<th scope="row">{escape(REJECTED[name])}</th>'
            f'<td class="track {kind}" aria-hidden="true"><i style="left:{left:.1f}%;right:{right:.1f}%"></i>'
            f'<b style="left:{_across(change, ends):.1f}%">{mark}</b></td>'
            f'<td class="number">{signed(change, 1)} %</td></tr>'
        )
    return "".join(rows)


def _sentence(here: pd.DataFrame, grid: Grid) -> str:
    rows = []
    for name in (name for name in SHOWN if name in set(here["rejected"])):
        part = here[here["rejected"] == name]
        labels = part["dataset"].map(grid.label)
        sides = {"better": labels[part["low"] > 0].tolist(), "worse": labels[part["high"] < 0].tolist()}
        rows.append({"name": REJECTED[name], "of": len(part), **sides})
    return render("forest", rows=rows)


def _across(value: float, ends: tuple[int, int]) -> float:
    """Where a value stands on the axis, in percent of its width."""
    return 100 * (value - ends[0]) / (ends[1] - ends[0])


def _look(key: str, name: str) -> str:
    return f"{key}-{name.replace(' ', '-')}"
