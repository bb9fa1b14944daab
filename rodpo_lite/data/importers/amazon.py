"""Amazon reviews as the McAuley lab publishes them, of 2014, 2018 and 2023: one object on each line."""

import ast
import dataclasses
import html
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rodpo_lite.data.features import Made
from rodpo_lite.data.importers.columns import read_interactions
from rodpo_lite.data.importers.files import join_text, read_records, texts_in, unpacked
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.tables import record_table
from rodpo_lite.errors import InputError

TEXT_KEYS = ("title", "brand", "store", "categories", "category", "description", "features", "feature")
FIELD_LIMIT = 20_000  # characters of one field that are looked at
LITERAL_LIMIT = 2**20  # bytes: Python's own parser takes hundreds of times the memory of what it parses
IMAGE_DIM = 4096
_IMAGE = np.dtype([("asin", "S10"), ("values", "<f4", IMAGE_DIM)])
_IDS = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["']([^"']*)["']""")


def read_reviews(request: Request, keys: tuple[str, str, str, str]) -> InteractionLog:
    """Reviews; keys: of user, item, time and rating. Raises InputError where one of the first three never occurs."""
    table = record_table(request.source)
    if missing := sorted(set(keys[:3]).difference(table.columns)):
        raise InputError(
            f"{request.source} seems to be of another format: no line has {', '.join(missing)}; the first one has "
            f"{', '.join(key[:40] for key in table.columns[:20]) or 'nothing'}."
        )
    named = dict(zip(("user", "item", "time", "rating"), keys))
    return read_interactions(table, dataclasses.replace(request, **named))


def read_texts(
    request: Request, ids: list[str], key: str, parse: Callable[[bytes], Any] = json.loads
) -> list[str | None]:
    """Texts from metadata, whose objects have their id under this key; of two objects the first counts."""
    texts: dict[str, str | None] = dict.fromkeys(ids)
    known = {identity.encode("utf-8", "replace") for identity in ids}

    def parse_wanted(line: bytes) -> Any:
        """Nothing if the line mentions other items only: parsing it costs far more than looking."""
        mentioned = _IDS.findall(line)
        return parse(line) if not mentioned or not known.isdisjoint(mentioned) else {}

    for _, record in read_records(request.items, parse_wanted):
        identity = record.get(key)
        if isinstance(identity, str) and texts.get(identity, "") is None:
            texts[identity] = join_text(_plain(part) for field in TEXT_KEYS for part in texts_in(record.get(field)))
    return [texts[identity] for identity in ids]


def literal(line: bytes) -> Any:
    """An object as JSON or, as in 2014, as a Python literal; raises what `files.UNREADABLE` lists."""
    try:
        return json.loads(line)
    except ValueError:
        if len(line) > LITERAL_LIMIT:
            raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know, such as \\/
        return ast.literal_eval(line.decode("utf-8"))


def image_features(request: Request, ids: list[str]) -> Made:
    """The published image features, float16 [N, 4096]: in the file, ten bytes of id and 4096 float32 for each item."""
    numbers = {identity: number for number, identity in enumerate(ids)}
    rows, present = np.zeros((len(ids), IMAGE_DIM), np.float16), np.zeros(len(ids), bool)
    with unpacked(request.images) as stream:
        while record := stream.read(_IMAGE.itemsize):
            if len(record) < _IMAGE.itemsize:
                raise InputError(
                    f"{request.images} is cut short, or is no file of image features, which has {_IMAGE.itemsize:,} "
                    "bytes an item."
                )
            number = numbers.get(record[:10].decode("ascii", "replace").strip("\0 "))
            if number is not None:
                values = np.frombuffer(record, _IMAGE)["values"][0].astype(np.float64)
                length = np.linalg.norm(values)
                if np.isfinite(length) and length > 0:
                    rows[number], present[number] = values / length, True
    return rows, present, "features published with the reviews, unit rows"


def _plain(text: str) -> str:
    """Text without HTML, and nothing where a page's script was taken for text, as happened in 2018."""
    text = html.unescape(re.sub(r"<[^<>]*>", " ", text[:FIELD_LIMIT]))
    return "" if "getTime(" in text else text
