"""The board of verdicts: claim × dataset × base × protocol, a coloured mark for each pair, which opens into a card."""

from collections import Counter
from html import escape
from itertools import product
from typing import Any

from companion.evidence.claims import NOT_RUN
from companion.evidence.ledger import PROTOCOLS
from companion.findings.names import NAMES
from companion.findings.sentences import listed
from rodpo_lite.evaluation.statistics import Interval

HOLM = "Holm's p"
MARKS = {"reproduced": "▲", "contradicted": "▼", "no effect": "=", "inconclusive": "○", NOT_RUN: "…"}
Found = dict[str, Any]  # a claim, or one of its members, as `claims.summaries` gives it


def board(claims: list[Found], page: str = "") -> str:
    """The board as HTML, without datasets on which nothing has run; page: the address of the scoreboard, where this is
    not on it."""
    members = [(claim, member) for claim in claims for member in _all(claim)]
    ran = {member["column"] for _, member in members if member["verdict"] != NOT_RUN}
    columns = [name for name in dict.fromkeys(member["column"] for _, member in members) if name in ran]
    body = "".join(_lines(claim, columns, page) for claim in claims)
    members = [(claim, member) for claim, member in members if member["column"] in ran]
    cards = "".join(_card(claim, member, page) for claim, member in members)
    seen = [kind for kind in MARKS if any(member["verdict"] == kind for _, member in members)]
    legend = " ".join(
        f'<span class="rodpo-mark {_look(kind)}" aria-hidden="true">{MARKS[kind]}</span>&nbsp;{kind}' for kind in seen
    )
    return (
        '<div class="rodpo-table rodpo-board" role="region" aria-label="Verdicts on the claims" tabindex="0">'
        f'<table style="--columns:{len(columns) * len(PROTOCOLS)}">'
        f"<thead>{_head(columns)}</thead><tbody>{body}</tbody></table></div>"
        f'<p class="rodpo-legend">{legend}</p>{cards}'
    )


def _head(columns: list[str]) -> str:
    datasets = "".join(f'<th scope="colgroup" colspan="{len(PROTOCOLS)}">{escape(name)}</th>' for name in columns)
    protocols = "".join(f'<th scope="col">{name}</th>' for _, name in product(columns, PROTOCOLS))
    sides = "".join(f'<th scope="col" rowspan="2">{name}</th>' for name in ("what is claimed", "base"))
    return f"<tr>{sides}{datasets}</tr><tr>{protocols}</tr>"


def _lines(claim: Found, columns: list[str], page: str) -> str:
    """A line for each pair of a claim, under its base."""
    members = [member for member in claim["members"] if member["column"] in columns]
    pairs = list(dict.fromkeys((member["base"], member["after"], member["before"]) for member in members))
    short = f"<small>{escape(in_short(claim))}</small>"
    says = (
        f'<th scope="rowgroup" rowspan="{len(pairs)}" id="{_slug(claim["name"])}">{escape(claim["says"])}{short}</th>'
    )
    lines = []
    for base, after, before in pairs:
        cells = "".join(_cells(claim, (after, before), column) for column in columns)
        name = escape(NAMES["bases"].get(base, base))
        if sum(other == base for other, *_ in pairs) > 1:
            name += f"<span><code>{escape(after)}</code> over <code>{escape(before)}</code></span>"
        lines.append(f'{says if not lines else ""}<th scope="row">{name}</th>{cells}')
    return "".join(f"<tr>{line}</tr>" for line in lines)


def _cells(claim: Found, pair: tuple[str, str], column: str) -> str:
    """The marks of a pair on a dataset: a cell for each protocol, or one where the protocol does not matter."""
    here = [one for one in _all(claim) if ((one["after"], one["before"]), one["column"]) == (pair, column)]
    if claim["measure"] != "ndcg@5":
        return f'<td colspan="{len(PROTOCOLS)}">{_marks(claim, here)}</td>'
    parts = ([member for member in here if member["protocol"] == protocol] for protocol in PROTOCOLS)
    return "".join(f"<td>{_marks(claim, part)}</td>" for part in parts)


def _marks(claim: Found, members: list[Found]) -> str:
    return " ".join(_mark(claim, member) for member in members) or "–"


def _mark(claim: Found, member: Found) -> str:
    """A button that is known by its colour and by its shape, and opens the card of its pair."""
    kind, decides = member["verdict"], member in claim["members"]
    look = f"rodpo-mark {_look(kind)}{'' if decides else ' aside'}"
    about = escape(f"{kind}: {_pair(member)}")
    return (
        f'<button class="{look}" popovertarget="{_id(claim, member)}" title="{about}" aria-label="{about}">'
        f"{MARKS[kind]}</button>"
    )


def _card(claim: Found, member: Found, page: str) -> str:
    """Rule, effect, interval, detection limit and where they are computed, shown when the mark is pressed."""
    kind, own = member["verdict"], _id(claim, member)
    facts = {"the paper says" if claim["source"] == "paper" else "the control asks": claim["says"]}
    facts |= {
        "verdict": kind
        if kind == NOT_RUN or member in claim["members"]
        else f"{kind}, by the same rule, which decides nothing here"
    }
    if kind != NOT_RUN:
        drift = claim["measure"] == "planted_drift"
        unit, digits = (" logits", 3) if drift else (" %", 1)
        effect = Interval(member["estimate"], member["low"], member["high"])
        facts["effect"] = effect.text(digits, "" if drift else unit) + (unit if drift else "")
        facts["after Holm"] = f"p {_p(member[HOLM])}, over {member['seeds']} seeds"
        facts["would be shown"] = (
            f"a true change of {member['smallest']:.{digits}f}{unit} or more, in four of five tries"
        )
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    links = f'<a href="{page}#the-rule">the rule</a> · <a href="{page}#all-effects-at-a-glance">all effects</a>'
    return (
        f'<div class="rodpo-card" popover id="{own}" role="dialog" aria-label="{escape(_pair(member))}">'
        f'<p class="rodpo-card-title"><span class="rodpo-mark {_look(kind)}" aria-hidden="true">{MARKS[kind]}</span> '
        f"{escape(_pair(member))}</p><dl>{rows}</dl>"
        f'<p>{links} <button popovertarget="{own}" popovertargetaction="hide">close</button></p></div>'
    )


def in_short(claim: Found) -> str:
    """A verdict and how often it was reached, such as “reproduced in part: 2 of 12, Toys only”, or so far."""
    counts, of = Counter(member["verdict"] for member in claim["members"]), len(claim["members"])
    if counts[NOT_RUN]:
        shown = [f"{counts[kind]} {kind}" for kind in ("reproduced", "contradicted") if counts[kind]]
        return f"{claim['verdict']}: {listed(shown)}" if shown else claim["verdict"]
    everywhere = {member["column"] for member in claim["members"]}
    parts = []
    for kind, word in (("reproduced", ""), ("contradicted", "against it " if counts["reproduced"] else "")):
        if counts[kind]:
            where = {member["column"] for member in claim["members"] if member["verdict"] == kind}
            parts.append(f"{word}{counts[kind]} of {of}" + (f", {listed(sorted(where))} only" * (where < everywhere)))
    return f"{claim['verdict']}: {'; '.join(parts)}" if parts else claim["verdict"]


def _all(claim: Found) -> list[Found]:
    return claim["members"] + claim["others"]


def _pair(member: Found) -> str:
    stays = ", the reference may stay" * member["stays"]
    return f"{member['after']} over {member['before']}, {member['dataset']}, {member['protocol']}{stays}"


def _p(value: float) -> str:
    return f"= {value:.4f}" if value >= 0.0001 else "< .0001"


def _id(claim: Found, member: Found) -> str:
    aside = ("aside",) * (member not in claim["members"])
    return _slug("-".join(("card", claim["name"], member["after"], member["column"], member["protocol"], *aside)))


def _slug(text: str) -> str:
    return text.lower().replace("_", "-").replace(" ", "-")


def _look(kind: str) -> str:
    return kind.replace(" ", "-")
