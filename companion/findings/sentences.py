"""Sentences about findings: templates in book/sentences, filled in with the facts that the other modules compute."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from rodpo_lite.evaluation.statistics import Interval, signed

FOLDER = Path(__file__).resolve().parents[2] / "book" / "sentences"  # every page that imports this depends on them


def render(name: str, **facts: Any) -> str:
    """Fill in book/sentences/<name>.md.j2; a data frame arrives there as a list of its rows.

    A number is not parted from its %. Raises jinja2.UndefinedError for a fact that is missing.
    """
    given = {key: _rows(value) for key, value in facts.items()}
    return _joined(_ENVIRONMENT.get_template(f"{name}.md.j2").render(given)).replace(" %", "\u00a0%")


def fill(page: str, **facts: Any) -> str:
    """Fill in the text of a page, in which `sentence("<name>", facts)` stands for what `render` makes of them."""
    given = {key: _rows(value) for key, value in facts.items()}
    return _ENVIRONMENT.from_string(page).render(given, sentence=lambda name, facts: render(name, **facts))


def listed(words: Iterable[Any]) -> str:
    """a; a and b; a, b and c."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


def _each(values: Iterable[Any], form: str) -> list[str]:
    """Every value in a format string: a row by the names of its columns, anything else as `{}`."""
    return [form.format(**value) if isinstance(value, dict) else form.format(value) for value in values]


def _interval(row: dict[str, Any], digits: int = 1, unit: str = " %") -> str:
    """The estimate of a row, its change or mean, with low and high."""
    estimate = next(row[name] for name in ("change %", "estimate", "mean") if name in row)
    return Interval(estimate, row["low"], row["high"]).text(digits, unit)


def _with_intervals(rows: Sequence[dict[str, Any]], digits: int = 1, unit: str = " %") -> list[dict[str, Any]]:
    return [row | {"interval": _interval(row, digits, unit)} for row in rows]


def _above(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["low"] > 0]


def _below(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["high"] < 0]


def _grouped(rows: Iterable[dict[str, Any]], *columns: str) -> list[tuple[Any, list[dict[str, Any]]]]:
    """(value, rows with it), in the order of the first; of several columns a tuple of values."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        key = row[columns[0]] if len(columns) == 1 else tuple(row[column] for column in columns)
        groups.setdefault(key, []).append(row)
    return list(groups.items())


def _ranked(protocol: str) -> str:
    """The name of a protocol, as it is said after "with"."""
    return {"all items": "all items ranked", "history dropped": "the history dropped"}[protocol]


def _rows(value: Any) -> Any:
    if isinstance(value, pd.Series):
        value = value.to_dict()
    if not isinstance(value, pd.DataFrame):
        return value
    return (value.reset_index() if value.index.names[0] else value).to_dict("records")


def _joined(text: str) -> str:
    """The lines of each paragraph, list item and table row as one."""
    lines = [""]
    for line in text.strip().splitlines():
        if not line.strip():
            lines += [""] * bool(lines[-1])
        elif not lines[-1] or line.lstrip()[0] in "-|":
            lines.append(line.rstrip())
        else:
            lines[-1] += f" {line.strip()}"
    return "\n".join(lines).strip()


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER), undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
)  # fmt: skip
_ENVIRONMENT.filters |= {"above": _above, "below": _below, "each": _each, "grouped": _grouped, "interval": _interval}
_ENVIRONMENT.filters |= {"intervals": _with_intervals, "listed": listed, "ranked": _ranked, "signed": signed}
