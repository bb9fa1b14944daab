"""The board of verdicts: a line for each claim, a column for each dataset, a coloured mark for each deciding pair."""

from collections import Counter
from html import escape
from typing import Any

from companion.findings.sentences import listed
from rodpo_lite.evaluation.statistics import Interval

MARKS = {"reproduced": "▲", "contradicted": "▼", "no effect": "=", "inconclusive": "○", "not run yet": "…"}


def board(claims: list[dict[str, Any]], link: str) -> str:
    """The board as HTML. claims: as `claims.summaries` gives them, members with the `column` that they belong to; link:
    the page that explains them."""
    columns = list(dict.fromkeys(member["column"] for claim in claims for member in claim["members"]))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("the paper says", *columns, "in short"))
    body = "".join(_line(claim, columns, link) for claim in claims)
    seen = [kind for kind in MARKS if any(kind in _kinds(claim) for claim in claims)]
    legend = " ".join(
        f'<span class="rodpo-mark {_look(kind)}" aria-hidden="true">{MARKS[kind]}</span> {kind}' for kind in seen
    )
    return (
        '<div class="rodpo-table rodpo-board" role="region" aria-label="Verdicts on the claims" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<p class="rodpo-legend">{legend}</p>'
    )


def _line(claim: dict[str, Any], columns: list[str], link: str) -> str:
    cells = []
    for column in columns:
        members = [member for member in claim["members"] if member["column"] == column]
        cells.append(
            f"<td>{' '.join(_mark(member['verdict'], _about(member, claim)) for member in members) or '–'}</td>"
        )
    says = f'<th scope="row"><a href="{link}#{claim["name"].replace("_", "-")}">{escape(claim["says"])}</a></th>'
    return f"<tr>{says}{''.join(cells)}<td>{escape(in_short(claim))}</td></tr>"


def _mark(kind: str, about: str) -> str:
    """A mark that is known by its colour and by its shape; about: what a reader who points at it is told."""
    shown = f'<span aria-hidden="true">{MARKS[kind]}</span><span class="rodpo-hidden">{escape(about)}</span>'
    return f'<span class="rodpo-mark {_look(kind)}" title="{escape(about)}">{shown}</span>'


def _look(kind: str) -> str:
    return kind.replace(" ", "-")


def _about(member: dict[str, Any], claim: dict[str, Any]) -> str:
    pair = f"{member['after']} over {member['before']}: {member['verdict']}"
    if member["verdict"] == "not run yet":
        return pair
    drift = claim["measure"] == "planted_drift"
    change = Interval(member["estimate"], member["low"], member["high"]).text(3 if drift else 1, "" if drift else " %")
    return f"{pair}, {change}{' logits' if drift else ''}"


def _kinds(claim: dict[str, Any]) -> Counter[str]:
    return Counter(member["verdict"] for member in claim["members"])


def in_short(claim: dict[str, Any]) -> str:
    """A verdict in a few words, such as “4 of 6 pairs” or “2 of 12 pairs, Toys only”."""
    counts, of = _kinds(claim), len(claim["members"])
    parts = []
    for kind, word in (("reproduced", ""), ("contradicted", "against it ")):
        if counts[kind]:
            where = {member["column"] for member in claim["members"] if member["verdict"] == kind}
            only = (
                f", {listed(sorted(where))} only" if len(where) < len({m["column"] for m in claim["members"]}) else ""
            )
            parts.append(f"{word}{counts[kind]} of {of} pair{'s' * (of > 1)}{only}")
    if not parts:
        return next(iter(counts)) if len(counts) == 1 else f"0 of {of} pairs"
    return "; ".join(parts)
