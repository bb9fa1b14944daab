"""Imports of items' texts, RecBole's files and Amazon reviews: small files worked out by hand."""

import gzip
import json

import numpy as np
import pytest
from importing import PLAIN, imported, json_lines, refused, table, write

from rodpo_lite.errors import Notice

START = 1_400_000_000
REVIEWS = {
    "amazon2014": lambda u, i, t: {"reviewerID": u, "asin": i, "overall": 5.0, "unixReviewTime": START + t},
    "amazon2018": lambda u, i, t: {
        "overall": 5.0,
        "reviewerID": u,
        "asin": i,
        "unixReviewTime": START + t,
        "vote": "3",
    },
    "amazon2023": lambda u, i, t: {
        "rating": 5.0,
        "asin": "variant",
        "parent_asin": i,
        "user_id": u,
        "timestamp": (START + t) * 1000,
    },
}
FIG = {"title": "Fig &amp; Co", "description": ["<b>very</b> ripe", "var x = getTime();"]}
ABOUT = {
    "amazon2014": (
        {"asin": "fig", **FIG, "brand": "B\\/C", "categories": [["Fruit", "Dry"]], "description": "ripe"},
        "Fig & Co. B\\/C. Fruit. Dry. ripe",
    ),
    "amazon2018": (
        {"asin": "fig", **FIG, "brand": "B", "category": ["Fruit"], "feature": ["new"]},
        "Fig & Co. B. Fruit. very ripe. new",
    ),
    "amazon2023": (
        {"parent_asin": "fig", **FIG, "store": "S", "categories": [], "features": ["new"], "price": None},
        "Fig & Co. S. very ripe. new",
    ),
}


def test_texts_of_items_come_from_a_second_table(tmp_path):
    pytest.importorskip("sklearn")
    source = write(tmp_path / "a.csv", table(PLAIN))
    rows = [
        ("plum", "Blue  plum", 3, "stone\nfruit"),
        ("fig", "Fig", 1, ""),
        ("fig", "second", 1, ""),
        ("yam", "x", 1, "x"),
    ]
    items = write(
        tmp_path / "items.csv",
        table([(i, t, p, f'"{d}"') for i, t, p, d in rows], ("id", "title", "price", "about"), ";"),
    )
    dataset, _, lines = imported(source, items=items)
    assert dataset.titles == ["pear", "Fig", "kiwi", "Blue plum. stone fruit"]
    assert dataset.present["text"].tolist() == [False, True, False, True]
    assert lines == ["without text: 2 of 4 items"]
    assert imported(source, items=items, text=("about", "price"))[0].titles[3] == "stone fruit. 3"
    refused(source, "no column 'colour' for --text; its columns are 'id', 'title'", items=items, text=("colour",))
    prices = write(
        tmp_path / "p.csv",
        "id;price;since;title\n"
        + "".join(f"{i};3,{n};2014-01-0{n};{i} {n}\n" for n, i in enumerate(("fig", "kiwi"), 1)),
    )
    assert imported(source, items=prices)[0].titles == ["pear", "fig 1", "kiwi 2", "plum"], "no prices and no dates"
    refused(source, "has no id column", items=write(tmp_path / "b.csv", "name,title\n"))
    other = write(tmp_path / "c.csv", "item_id,title\n7,seven\n")
    with pytest.warns(Notice, match="No item has a usable text"):
        assert imported(source, items=other)[0].features == {}


def test_recbole_files_with_typed_columns(tmp_path):
    pytest.importorskip("sklearn")
    folder = tmp_path / "tiny"
    folder.mkdir()
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    write(folder / "tiny.inter", table([(u, i, 4, f"{t}.0") for u, i, t in PLAIN], names, "\t"))
    names = ("item_id:token", "title:token_seq", "year:token", "class:token_seq")
    write(
        folder / "tiny.item",
        table([("fig", '"Fig" of old', 1990, "green sweet"), ("pear", "Pear", 1, "")], names, "\t"),
    )
    dataset, _, _ = imported(folder, "recbole")
    assert dataset.titles == ["Pear", '"Fig" of old. green sweet', "kiwi", "plum"]
    assert dataset.timestamps.tolist() == [1, 2, 3, 4, 5, 6]
    write(folder / "tiny.test.inter", "")
    refused(folder, "several .inter files in .*tiny.inter, tiny.test.inter", "recbole")
    refused(
        write(tmp_path / "b.inter", table(PLAIN, delimiter="\t")),
        "the column 'user_id' .* as in item_id:token",
        "recbole",
    )


@pytest.mark.parametrize("format", REVIEWS)
def test_amazon_reviews_and_metadata(format, tmp_path):
    pytest.importorskip("sklearn")
    reviews = json_lines(tmp_path / "reviews.json", [REVIEWS[format](*row) for row in PLAIN])
    about, expected = ABOUT[format]
    line = (repr(about).replace("\\\\", "\\") if format == "amazon2014" else json.dumps(about)) + "\n"
    meta = write(tmp_path / "meta.json.gz", gzip.compress(('{"asin": "yam"\n' + line).encode()))
    dataset, sequences, lines = imported(reviews, format, items=meta)
    assert sequences == [["fig", "kiwi", "pear"], ["pear", "fig", "plum"]]
    assert dataset.timestamps.tolist() == [START + t for t in range(1, 7)]
    assert dataset.titles[1] == expected and lines == ["without text: 3 of 4 items"]
    other = "amazon2023" if format != "amazon2023" else "amazon2018"
    refused(reviews, "seems to be of another format: no line has .*; the first one has ", other)


def test_metadata_is_parsed_never_run(tmp_path):
    pytest.importorskip("sklearn")
    reviews = json_lines(tmp_path / "reviews.json", [REVIEWS["amazon2014"](*row) for row in PLAIN])
    meta = write(tmp_path / "meta.json", f"{{'asin': 'fig', 'title': open({str(tmp_path / 'run')!r}, 'w').name}}\n")
    refused(reviews, "1 of 1 do not, first line 1", "amazon2014", items=meta)
    nested = write(tmp_path / "nested.json", '{"asin": "fig", "title": ' + "[" * 900 + "]" * 900 + "}\n")
    with pytest.warns(Notice, match="No item has a usable text"):
        imported(reviews, "amazon2014", items=nested)
    deep = write(tmp_path / "deep.json", "{'asin': 'fig', 'title': " + "[" * 100_000 + "\n")
    refused(reviews, "1 of 1 do not", "amazon2014", items=deep)


def test_a_few_broken_lines_are_left_out(tmp_path):
    records = [json.dumps(REVIEWS["amazon2018"](f"u{n // 4}", f"i{n % 4}", n)) for n in range(400)]
    records[17] = records[17][:40]
    records[30] = "[1, 2]"
    source = write(tmp_path / "reviews.json", "\n\n".join(records))
    with pytest.warns(Notice, match="2 of 400 lines are not JSON objects and were left out, first line 35"):
        dataset, _, _ = imported(source, "amazon2018")
    assert len(dataset.items) == 398
    records[40:42] = ["{" * 100_000, "\\"]
    refused(write(source, "\n".join(records)), "4 of 400 do not, first line 18", "amazon2018")


def test_half_characters_are_stored_as_question_marks(tmp_path):
    reviews = json_lines(tmp_path / "r.json", [REVIEWS["amazon2018"]("u", f"\ud800{n}", n) for n in range(4)])
    assert imported(reviews, "amazon2018")[1] == [["?0", "?1", "?2", "?3"]]


def test_published_image_features(tmp_path):
    reviews = json_lines(
        tmp_path / "reviews.json", [REVIEWS["amazon2014"](u, f"{i:<10}".replace(" ", "0"), t) for u, i, t in PLAIN]
    )
    values = np.zeros((3, 4096), "<f4")
    values[0, :2], values[1, 5], values[2, 0] = (3, 4), 2, np.inf
    records = [name.encode() + row.tobytes() for name, row in zip(("fig0000000", "yam0000000", "plum000000"), values)]
    images = write(tmp_path / "image.b", b"".join(records))
    dataset, _, lines = imported(reviews, "amazon2014", images=images)
    assert dataset.present["image"].tolist() == [False, True, False, False] and lines == ["without image: 3 of 4 items"]
    assert dataset.features["image"][1, :3].tolist() == pytest.approx([0.6, 0.8, 0], abs=1e-3)
    refused(reviews, "is cut short", "amazon2014", images=write(images, b"".join(records)[:-1]))
