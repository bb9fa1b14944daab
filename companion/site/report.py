"""The report of a trial on one's own log: one HTML file that needs nothing else, with the answer in its first lines."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from companion.evidence.trial import REFERENCE, Trial
from companion.findings import own_log
from companion.findings.decision import ALIGNMENTS, Decision
from companion.site import figures
from companion.site.markup import table_html
from rodpo_lite.errors import printable
from rodpo_lite.files import write_bytes
from rodpo_lite.provenance import machine, versions

FOLDER = Path(__file__).parent


def answer(trial: Trial, decision: Decision, quick: bool) -> tuple[str, str]:
    """The answer in a few words, and in a sentence or two."""
    needed = own_log.enough(trial, decision).to_dict("records")
    before, more = trial.seconds(REFERENCE), trial.seconds(decision.candidate)
    facts = {"decision": decision, "quick": quick, "users": trial.dataset.n_users, "needed": needed}
    text = _template("answer.j2", autoescape=False).render(facts | {"more": 100 * more / before})
    words, sentences = text.replace(" %", "\u00a0%").split("\n")
    return words, sentences


def write(trial: Trial, decision: Decision, out: Path, quick: bool = False, worth: float = 2.0) -> None:
    """Write the report."""
    compared, whom = own_log.comparison(trial, decision.incumbent), own_log.for_whom(trial, decision)
    later, push = own_log.taken_later(trial)
    needed, dataset = own_log.enough(trial, decision), trial.dataset
    shown = decision.candidate if decision.verdict == "keep" else decision.incumbent
    words, sentences = answer(trial, decision, quick)
    facts = {
        "verdict": words,
        "answer": sentences,
        "name": dataset.name,
        "decision": decision,
        "seeds": trial.seeds,
        "worth": f"{worth:g}",
        "alignments": len(ALIGNMENTS),
        "account": _account(trial),
        "compared": _compared(compared, decision.incumbent),
        "needed": len(needed),
        "needed_table": table_html(_with_commas(needed), "How many users would show a gain, in three logs of four"),
        "later": _later(later),
        "push": table_html(push, "Of the push at the start of alignment, what lands on items that are taken later"),
        "whom": None if whom.empty else _whom(whom, decision),
        "settings": table_html(_settings(trial), "What differs from the defaults"),
        "use": _use(trial, shown),
        "made": _made(trial),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
    }
    write_bytes(out, _template("decision.html").render(facts).encode())


def _template(name: str, autoescape: bool = True) -> jinja2.Template:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return jinja2.Template(text, autoescape=autoescape, undefined=jinja2.StrictUndefined)


def _compared(table: pd.DataFrame, incumbent: str) -> dict[str, Any]:
    shown = table.dropna(subset="change %").assign(part="validation")
    fig = figures.forest(shown, "change %", "model", "part", rows=shown["model"])
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title=f"change of validation NDCG@5 over {incumbent}, %")
    best = table.loc[table["NDCG@5, history dropped"].idxmax(), "model"]
    caption = f"Change over {incumbent} on validation, with 95 % intervals."
    return _figure(fig, caption, f"Each model's change over {incumbent}; {best} is the best on validation.", table)


def _later(table: pd.DataFrame) -> dict[str, Any]:
    share = table["taken later, %"]
    fig = go.Figure(go.Scatter(x=table["rank"], y=share, mode="lines", line_color=figures.VERMILION))
    fig.update_xaxes(title="rank in the reference", type="log", dtick=1)
    fig.update_yaxes(title="taken later, % of positions", rangemode="tozero")
    caption = "How often the item at a rank of the reference is one that the user takes later, over training positions."
    alt = f"A curve, from {share.iloc[0]:.1f} % at rank 1 to {share.iloc[-1]:.2f} % at rank {len(share)}."
    return _figure(fig, caption, alt, table)


def _whom(table: pd.DataFrame, decision: Decision) -> dict[str, Any]:
    part = "test" if decision.test else "validation"
    fig = figures.forest(table.assign(part=part), "change %", "interactions", "part", rows=table["interactions"])
    fig.add_vline(x=0, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title=f"change of {part} NDCG@5, {decision.candidate} over {decision.incumbent}, %")
    fig.update_yaxes(title="interactions of a user", type="category")
    most = table.loc[table["change %"].idxmax()]
    caption = f"What {decision.candidate} changes over {decision.incumbent}, by the length of a user's history."
    alt = f"It changes most for users with {most['interactions']} interactions, by {most['change %']:+.1f} %."
    return _figure(fig, caption, alt, table)


def _figure(fig: go.Figure, caption: str, alt: str, table: pd.DataFrame) -> dict[str, Any]:
    fig.update_layout(showlegend=False, height=380)
    text = json.dumps(figures.compact(fig), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return {"json": text, "caption": caption, "alt": alt, "table": table_html(table), "height": 380}


def _account(trial: Trial) -> list[str]:
    dataset, lines = trial.dataset, trial.dataset.manifest.get("account")
    counts = f"{dataset.n_users:,} users, {dataset.n_items:,} items, {len(dataset.items):,} interactions"
    more = [str(line) for line in lines] if isinstance(lines, list) else []
    return [printable(line) for line in [counts, *more, str(dataset.manifest.get("notes", ""))] if line]


def _with_commas(needed: pd.DataFrame) -> pd.DataFrame:
    return needed.assign(users=[f"{count:,}" for count in needed["users"]])


def _settings(trial: Trial) -> pd.DataFrame:
    rows = [
        (stage, f"{family}.{key}", str(value))
        for stage, settings in (("reference", trial.reference), ("alignment", trial.alignment))
        for family, keys in settings.items()
        for key, value in keys.items()
    ]
    return pd.DataFrame(rows, columns=["stage", "key", "value"])


def _use(trial: Trial, model: str) -> list[str]:
    if model in trial.baselines:
        return [f"rodpo baseline --data {trial.data} --name {model}"]
    folders = f"--data {trial.data} --run {trial.best_run(model)}"
    return [
        f"rodpo recommend {folders} --user {printable(trial.dataset.user_ids[0])!r}",
        f"rodpo recommend {folders} --all --out recommendations.parquet",
    ]


def _made(trial: Trial) -> str:
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"Seeds {', '.join(map(str, trial.seeds))}; {used}; {machine()['model']}."
