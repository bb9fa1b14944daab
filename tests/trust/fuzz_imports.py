"""Files to import: tables, JSON lines and gzip, broken in every way that a file is."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

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
LINES = ["[" * 50_000, "{", "NaN", '"a"', "\0", '{"a": 1e999}']
TYPES = ("token", "float", "token_seq", "", "int", ":", "token:float")


def family(place: Path) -> Callable[[Path, random.Random], Callable]:
    def make(folder: Path, chance: random.Random) -> Callable:
        format = chance.choice(["csv", "csv", "recbole", *REVIEWS])
        source, items = (csv if format == "csv" else recbole if format == "recbole" else lines)(folder, chance, format)
        for path in (source, items):
            if path and chance.random() < 0.3:
                mutations.bytes_of(path, chance)
            if path and chance.random() < 0.25:
                packed = gzip.compress(path.read_bytes())
                path.write_bytes(
                    chance.choice([lambda content, _: content, mutations.cut, mutations.flip])(packed, chance)
                )
        options = {"min_rating": chance.choice([None, None, 3.0]), "core": chance.choice([0, 0, 0, 2, 100])}
        options["repeats"] = chance.choice(["keep", "keep", "first"])
        if format == "csv" and chance.random() < 0.2:
            options["delimiter"] = chance.choice([";", "\t", "tab", "ab", "", '"', "\0", "x"])

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
    encoding = chance.choice(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "latin-1"])
    path.write_bytes(text.encode(encoding, "replace"))
    return path


def csv(folder: Path, chance: random.Random, format: str) -> tuple[Path, Path | None]:
    delimiter, items = chance.choice([",", ",", ";", "\t", "|", "^"]), None
    head = chance.choice([["user_id", "item_id", "timestamp", "rating"], ["who", "item", "time", "rating"]])
    source = written(folder / "a.csv", list(head), [list(row) for row in rows(chance)], chance, delimiter)
    if chance.random() < 0.4:
        about = [[f"i{n}", f"thing {n} of wool", n] for n in range(8)]
        items = written(folder / "items.csv", ["item_id", "title", "price"], about, chance, delimiter)
    return source, items


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
