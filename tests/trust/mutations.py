"""How files and values are broken."""

import json
import random
from pathlib import Path
from typing import Any

JUNK = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    -(10**30),
    0.5,
    -0.0,
    1e308,
    "",
    " ",
    "0",
    "nan",
    "../x",
    "/etc/passwd",
    "a\nb",
    "\0",
    "ü" * 300,
    "<script>alert(1)</script>",
    [],
    [None],
    [[[]]],
    {},
    {"": None},
    {"name": {}},
    ["text"],
]


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))] if content else content


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def splice(content: bytes, chance: random.Random) -> bytes:
    """A part of it once more, or something foreign, somewhere in it."""
    here, start = chance.randrange(len(content) + 1), chance.randrange(len(content) + 1)
    foreign = [
        b"\0",
        b"\xff\xfe",
        b'"',
        b"\r",
        b"\n\n",
        b"{",
        b"]",
        b",",
        b"\xef\xbb\xbf",
        content[start : start + 200],
    ]
    return content[:here] + chance.choice(foreign) + content[here:]


def bytes_of(path: Path, chance: random.Random) -> None:
    """Break a file, byte by byte."""
    if chance.random() < 0.03:
        path.write_bytes(b"[" * 100_000)
        return
    path.write_bytes(chance.choice([cut, flip, flip, splice])(path.read_bytes(), chance))


def value(document: Any, chance: random.Random) -> Any:
    """A document with one of its values, at any depth, gone or replaced by junk."""
    if isinstance(document, dict | list) and document and chance.random() < 0.85:
        changed = document.copy()
        key = chance.choice(list(document)) if isinstance(document, dict) else chance.randrange(len(document))
        if chance.random() < 0.25:
            del changed[key]
        else:
            changed[key] = value(document[key], chance)
        return changed
    return chance.choice(JUNK)


def json_of(path: Path, chance: random.Random) -> None:
    """Break a JSON file so that it is still one; raises ValueError if it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    for _ in range(chance.choice([1, 1, 2, 4])):
        document = value(document, chance)
    path.write_text(json.dumps(document), encoding="utf-8")
