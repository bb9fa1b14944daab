"""Files to import: tables as text or with types, JSON lines, what packs them, broken in every way that a file is."""

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.feather

from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from trust import mutations

REVIEWS = {
    "amazon2014": ("reviewerID", "asin", "unixReviewTime", "overall"),
    "amazon2018": ("reviewerID", "asin", "unixReviewTime", "overall"),
    "amazon2023": ("user_id", "parent_asin", "timestamp", "rating"),
}
FIELDS = [
    '"',
    '""',
    '"a,b"',
    '"a\nb"',
    "a\0b",
    "\ufeff",
    "ü",
    "x" * 5000,
    "",
    "nan",
    "1e999",
    "-1",
    "9" * 30,
    "2014-02-30",
    "=1+1",
]
TIMES = ["1/2/2014", "13.05.2014 16:53", "May 13, 2014 4:53 PM", "2014-05-13 16:53:20 PDT", "2014", "20140513", "12:30"]
LINES = ["[" * 50_000, "{", "NaN", '"a"', "\0", '{"a": 1e999}']
TYPES = ("token", "float", "token_seq", "", "int", ":", "token:float")


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", content)
    return packed.getvalue()


def family(place: Path) -> Callable[[Path, random.Random], Callable]:
    def make(folder: Path, chance: random.Random) -> Callable:
        format = chance.choice(["csv", "csv", "csv", "recbole", *REVIEWS])
        make_files = chance.choice([csv, csv, typed]) if format == "csv" else recbole if format == "recbole" else lines
        source, items = make_files(folder, chance, format)
        for path in (source, items):
            if path and chance.random() < 0.3:
                mutations.bytes_of(path, chance)
            if path and chance.random() < 0.25:
                packed = chance.choice([gzip.compress, bz2.compress, lzma.compress, zipped])(path.read_bytes())
                path.write_bytes(
                    chance.choice([lambda content, _: content, mutations.cut, mutations.flip])(packed, chance)
                )
        options = {"min_rating": chance.choice([None, None, 3.0]), "core": chance.choice([0, 0, 0, 2, 100])}
        options["repeats"] = chance.choice(["keep", "keep", "first"])
        options["ties"] = chance.choice(["hash", "hash", "file"])
        options["time_format"] = chance.choice([None] * 6 + ["seconds", "day-first", "%d.%m.%Y", "%", "x"])
        if format == "csv" and chance.random() < 0.2:
            options["delimiter"] = chance.choice([";", "\t", "tab", "space", "::", "ab", "", '"', "\0", "x"])
        if format == "csv" and chance.random() < 0.1:
            options |= {"no_header": True, "user": "1", "item": chance.choice(["2", "1", "0", "x"]), "time": "3"}
        if format in ("csv", "recbole") and chance.random() < 0.1:
            options["encoding"] = chance.choice(["latin-1", "utf-16", "ascii", "rot13", "idna", "punycode", "x", ""])

        def case() -> None:
            import_dataset(format, Request(source, items, **options), folder / "out")
            read_dataset(folder / "out")

        return case

    return make


def rows(chance: random.Random) -> list[tuple[str, str, int, int]]:
    return [(f"u{n // 5}", f"i{chance.randrange(8)}", 1_400_000_000 + n, chance.randint(1, 5)) for n in range(40)]


def written(path: Path, head: list[str], body: list[list], chance: random.Random, delimiter: str) -> Path:
    """A table with a strange field, a row that is too long, a mark before it, or line ends that are mixed."""
    if chance.random() < 0.5:
        row = chance.choice([head, *body])
        row[chance.randrange(len(row))] = chance.choice(FIELDS)
    if chance.random() < 0.1:
        chance.choice(body).append("more")
    ends = chance.choice([["\n"], ["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"]])
    text = "".join(delimiter.join(map(str, row)) + chance.choice(ends) for row in [head, *body])
    encoding = chance.choice(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
    path.write_bytes(text.encode(encoding, "replace"))
    return path


def csv(folder: Path, chance: random.Random, format: str) -> tuple[Path, Path | None]:
    delimiter, items = chance.choice([",", ",", ";", "\t", "|", "^", "::", " "]), None
    head = chance.choice([["user_id", "item_id", "timestamp", "rating"], ["who", "item", "time", "rating"]])
    body = [list(row) for row in rows(chance)]
    if chance.random() < 0.2:
        for row, time in zip(body, chance.choices(TIMES, k=len(body)) if chance.random() < 0.3 else [TIMES[0]] * 40):
            row[2] = chance.choice(TIMES) if chance.random() < 0.02 else time
    source = written(folder / "a.csv", list(head), body, chance, delimiter)
    if chance.random() < 0.4:
        about = [[f"i{n}", f"thing {n} of wool", n] for n in range(8)]
        items = written(folder / "items.csv", ["item_id", "title", "price"], about, chance, delimiter)
    return source, items


def typed(folder: Path, chance: random.Random, format: str) -> tuple[Path, None]:
    """A table as pandas writes it, with a column of another kind."""
    frame = pd.DataFrame(rows(chance), columns=["user_id", "item_id", "timestamp", "rating"])
    name, other = chance.choice(list(frame)), chance.choice(["category", "str", "float", "datetime64[ns]", "object"])
    with_others = {"object": [[1]] * len(frame), "datetime64[ns]": pd.Timestamp("2014-05-13")}
    if other in with_others or frame[name].dtype != object or other in ("category", "str"):
        frame[name] = with_others[other] if other in with_others else frame[name].astype(other)
    path, kind = folder / "a.csv", chance.choice(["parquet", "feather", "json"])
    if kind == "json":
        frame.to_json(path, orient=chance.choice(["records", "columns"]), lines=False)
        if chance.random() < 0.7:
            path.write_text("\n".join(json.dumps(row, default=str) for row in frame.to_dict("records")))
    elif kind == "parquet":
        frame.to_parquet(path, row_group_size=chance.choice([7, 100]))
    else:
        pyarrow.feather.write_feather(frame, str(path))
    return path, None


def recbole(folder: Path, chance: random.Random, format: str) -> tuple[Path, Path | None]:
    head = ["user_id:token", "item_id:token", "timestamp:float", "rating:float"]
    about = ["item_id:token", "title:token_seq"]
    for names in (head, about):
        if chance.random() < 0.2:
            place = chance.randrange(len(names))
            names[place] = f"{names[place].partition(':')[0]}:{chance.choice(TYPES)}"
    source = written(folder / "a.inter", head, [list(row) for row in rows(chance)], chance, "\t")
    titles = [[f"i{n}", f"thing {n} of wool"] for n in range(8)]
    return source, written(folder / "a.item", about, titles, chance, "\t") if chance.random() < 0.5 else None


def lines(folder: Path, chance: random.Random, format: str) -> tuple[Path, Path | None]:
    keys, reviews = REVIEWS[format], [dict(zip(REVIEWS[format], row)) for row in rows(chance)]
    if format == "amazon2023":
        reviews = [record | {"timestamp": 1000 * record["timestamp"]} for record in reviews]
    metadata = [{keys[1]: f"i{n}", "title": f"thing {n} of wool", "description": [["a"], "b"]} for n in range(8)]
    paths = []
    for name, records in (("a.json", reviews), ("items.json", metadata)):
        for _ in range(chance.choice([0, 1, 1, 3])):
            place = chance.randrange(len(records))
            records[place] = mutations.value(records[place], chance)
        text = [json.dumps(record) for record in records]
        if chance.random() < 0.2:
            text[chance.randrange(len(text))] = chance.choice([repr(records[0]), *LINES])
        paths.append(folder / name)
        paths[-1].write_text("\n".join(text) + "\n", encoding="utf-8", errors="replace")
    return paths[0], paths[1] if chance.random() < 0.5 else None
