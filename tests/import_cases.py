"""Logs as people bring them: a plain one, whose rows are known, in whatever form a test asks for."""

import random
from pathlib import Path
from typing import NamedTuple

from importing import write

START = 1_500_000_000


class Row(NamedTuple):
    """A user, an item, and when."""

    user: str
    item: str
    time: int


def log(users: int = 30, items: int = 40, each: int = 8, seed: int = 7) -> list[Row]:
    """Rows in order of time within a user; no two at the same time, no item twice for a user."""
    chance = random.Random(seed)
    return [
        Row(f"u{user}", f"i{item}", START + 3600 * place + user)
        for user in range(users)
        for place, item in enumerate(chance.sample(range(items), each))
    ]


def sequences(rows) -> list[list[str]]:
    """The items of each user in order of time, users in order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.user, []).append(row)
    return [[row.item for row in sorted(taken, key=lambda row: row.time)] for taken in found.values()]


def text(rows, header=("user_id", "item_id", "timestamp"), separator: str = ",", end: str = "\n") -> str:
    return "".join(separator.join(map(str, row)) + end for row in [*([header] if header else []), *rows])


def store(path: Path, rows, header=("user_id", "item_id", "timestamp"), separator: str = ",", encoding="utf-8") -> Path:
    return write(path, text(rows, header, separator).encode(encoding))
