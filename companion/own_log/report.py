"""The report of a trial on one's own log: one HTML file that needs nothing else, with the answer in its first lines."""

import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from companion.own_log import tables
from companion.own_log.decision import ALIGNMENTS, Decision, seeds_counted
from companion.own_log.trial import REFERENCE, Trial
from companion.site import figures
from companion.site.markup import table_html
from rodpo_lite.errors import printable
from rodpo_lite.files import write_bytes
from rodpo_lite.provenance import machine, versions

FOLDER = Path(__file__).parent
NEEDED = "How many users would show a gain, in three logs of four"
PUSH = (
    "Of the push at the start of alignment, what would land on items that are taken later, were only those taken so "
    "far spared"
)


def answer(trial: Trial, decision: Decision, quick: bool, worth: float) -> tuple[str, str]:
    """The answer in a few words, and in a sentence or two."""
    gain = worth or min(tables.GAINS)
    needed = tables.enough(trial, decision, [gain]).get(gain)
    before, more = trial.seconds(REFERENCE), trial.seconds(decision.candidate)
    facts = {"decision": decision, "quick": quick, "users": trial.dataset.n_users}
    facts |= {"needed": needed, "gain": f"{gain:g}", "worth": worth}
    facts["timed"] = trial.dataset.first_time is not None
    text = _template("answer.j2", autoescape=False).render(facts | {"more": 100 * more / before})
    words, sentences = text.replace(" %", "\u00a0%").split("\n")
    return words, sentences


def write(trial: Trial, decision: Decision, out: Path, quick: bool = False, worth: float = 2.0) -> None:
    """Write the report."""
    compared, whom = tables.comparison(trial, decision.incumbent), tables.for_whom(trial, decision)
    later, push = tables.taken_later(trial)
    needed, dataset = tables.enough(trial, decision), trial.dataset
    words, sentences = answer(trial, decision, quick, worth)
    facts = {
        "verdict": words,
        "answer": sentences,
        "name": dataset.name,
        "decision": decision,
        "seeds": trial.seeds,
        "worth": f"{worth:g}",
        "alignments": len(ALIGNMENTS),
        "account": _account(trial),
        "compared": _html(models_picture(compared, decision.incumbent)),
        "needed": len(needed),
        "counted": seeds_counted(len(trial.seeds)),
        "needed_table": table_html(needed.map("{:,}".format).to_frame(), NEEDED),
        "later": _html(later_picture(later)),
        "push": table_html(push, PUSH),
        "whom": None if whom.empty else _html(whom_picture(whom, decision)),
        "settings": table_html(_settings(trial), "What differs from the defaults"),
        "use": _use(trial, decision.use),
        "made": _made(trial),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
    }
    write_bytes(out, _template("decision.html").render(facts).encode())


def _template(name: str, autoescape: bool = True) -> jinja2.Template:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return jinja2.Template(text, autoescape=autoescape, undefined=jinja2.StrictUndefined)


class Picture(NamedTuple):
    """A figure of the report, as `figures.show` takes it."""

    fig: go.Figure
    caption: str
    alt: str
    data: pd.DataFrame


def models_picture(table: pd.DataFrame, incumbent: str) -> Picture:
    """Each model's change over the best one without preferences; table: `tables.comparison`."""
    shown = table.dropna(subset="change %").assign(part="validation")
    fig = figures.forest(shown, "change %", "model", "part", rows=shown["model"])
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title=f"change of validation NDCG@5 over {incumbent}, %")
    best = table.loc[table["NDCG@5, history dropped"].idxmax(), "model"]
    caption = f"Change over {incumbent} on validation, with 95 % intervals."
    return _picture(fig, caption, f"Each model's change over {incumbent}; {best} is the best on validation.", table)


def later_picture(table: pd.DataFrame) -> Picture:
    """Items that are taken later, by rank; table: the first of `tables.taken_later`."""
    share = table["taken later, %"]
    fig = go.Figure(go.Scatter(x=table["rank"], y=share, mode="lines", line_color=figures.VERMILION))
    fig.update_xaxes(title="rank in the reference", type="log", dtick=1)
    fig.update_yaxes(title="taken later, % of positions", rangemode="tozero")
    caption = "How often the item at a rank of the reference is one that the user takes later, over training positions."
    alt = f"A curve, from {share.iloc[0]:.1f} % at rank 1 to {share.iloc[-1]:.2f} % at rank {len(share)}."
    return _picture(fig, caption, alt, table)


def whom_picture(table: pd.DataFrame, decision: Decision) -> Picture:
    """The change by the length of a history; table: `tables.for_whom`, not empty."""
    part = "test" if decision.test else "validation"
    fig = figures.forest(table.assign(part=part), "change %", "interactions", "part", rows=table["interactions"])
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title=f"change of {part} NDCG@5, {decision.candidate} over {decision.incumbent}, %")
    fig.update_yaxes(title="interactions of a user", type="category")
    most = table.loc[table["change %"].idxmax()]
    caption = f"What {decision.candidate} changes over {decision.incumbent}, by the length of a user's history."
    alt = f"It changes most for users with {most['interactions']} interactions, by {most['change %']:+.1f} %."
    return _picture(fig, caption, alt, table)


def _picture(fig: go.Figure, caption: str, alt: str, table: pd.DataFrame) -> Picture:
    return Picture(fig.update_layout(showlegend=False, height=380), caption, alt, table)


def _html(picture: Picture) -> dict[str, Any]:
    text = json.dumps(figures.compact(picture.fig), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    words = {"caption": picture.caption, "alt": picture.alt, "table": table_html(picture.data)}
    return words | {"json": text, "height": picture.fig.layout.height}


def _account(trial: Trial) -> list[str]:
    dataset, lines = trial.dataset, trial.dataset.manifest.get("account")
    counts = f"{dataset.n_users:,} users, {dataset.n_items:,} items, {len(dataset.items):,} interactions"
    more = [str(line) for line in lines] if isinstance(lines, list) else []
    return [printable(line) for line in [counts, *more, str(dataset.manifest.get("notes", ""))] if line]


def _settings(trial: Trial) -> pd.DataFrame:
    rows = [
        (stage, f"{family}.{key}", str(value))
        for stage, settings in (("reference", trial.reference), ("alignment", trial.alignment))
        for family, keys in settings.items()
        for key, value in keys.items()
    ]
    return pd.DataFrame(rows, columns=["stage", "key", "value"])


def _use(trial: Trial, model: str) -> list[str]:
    which = f"--baseline {model}" if model in trial.baselines else f"--run {shlex.quote(str(trial.best_run(model)))}"
    command = f"rodpo recommend --data {shlex.quote(str(trial.data))} {which}"
    return [
        f"{command} --user {shlex.quote(printable(trial.dataset.user_ids[0]))}",
        f"{command} --all --out recommendations.parquet",
    ]


def _made(trial: Trial) -> str:
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"Seeds {', '.join(map(str, trial.seeds))}; {used}; {machine()['model']}."
