"""Tables as text in every usual form: quotes, encodings, delimiters and headers."""

import gzip
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from import_cases import START, log, sequences, store, text
from importing import imported, refused, write

from rodpo_lite.data.importers import delimited
from rodpo_lite.errors import Notice

ROWS = log()
RIGHT = sequences(ROWS)
HEAD = ("user_id", "item_id", "timestamp", "title")


def titled(*titles: tuple[int, str]) -> list[tuple]:
    """The rows, each with a title; those at these places have another."""
    rows = [(*row, f"Track {n}") for n, row in enumerate(ROWS)]
    for place, title in titles:
        rows[place] = (*rows[place][:3], title)
    return rows


# quotes


@pytest.mark.parametrize(
    "titles",
    [
        [(13, '"Live'), (-20, 'Maxi 12"')],
        [(13, '"Weird" Al')],
        [(13, '"Heroes"'), (14, '"Live'), (15, 'Say "Hi"')],
        [(0, '"'), (-1, '"')],
        [(5, 'a\\"b"'), (9, '""')],
    ],
)
@pytest.mark.parametrize("separator", ["\t", ",", ";", "|", "::"])
def test_odd_quotes_lose_no_row(titles, separator, tmp_path):
    assert imported(store(tmp_path / "a", titled(*titles), HEAD, separator))[1] == RIGHT


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_quotes_around_fields_go_and_hold_delimiters(separator, tmp_path):
    rows = [
        tuple(f'"{field}"' for field in row) for row in titled((3, f'Say ""Hi{separator}"" you'), (7, "two\nlines"))
    ]
    source = store(tmp_path / "a", rows, [f'"{name}"' for name in HEAD], separator)
    with pytest.warns(Notice, match="line breaks between quotes in 1 of its rows; the longest goes from line 9 to 10"):
        dataset, found, _ = imported(source)
    assert found == RIGHT and dataset.user_ids[0] == "u0"
    rows = [tuple(f'"{field}"' for field in row) for row in titled()]  # as R writes them, without need
    assert imported(store(tmp_path / "b", rows, [f'"{name}"' for name in HEAD], separator))[1] == RIGHT


def test_quotes_after_a_backslash(tmp_path):
    """As in the books of Book-Crossing."""
    rows = [(f'"{u}"', f'"{i}"', f'"{t}"', f'"{title}"') for u, i, t, title in titled((3, 'a \\"b\\"; c'), (5, "d; e"))]
    assert imported(store(tmp_path / "a", rows, [f'"{name}"' for name in HEAD], ";"))[1] == RIGHT


def test_a_field_that_swallows_rows_is_never_silent(tmp_path):
    rows = titled((3, '"a, b"'), (13, '"Live'), (-20, 'Maxi 12"'))
    with pytest.warns(
        Notice, match="line breaks between quotes in 1 of its rows; the longest goes from line 15 to 222"
    ):
        imported(store(tmp_path / "a", rows, HEAD))
    rows = titled((3, '"a, b"'), (13, '"Live" now'))
    refused(store(tmp_path / "b", rows, HEAD), "The row that begins in line 15 of .* cannot be read")


def test_a_row_of_another_width_is_named_whatever_else_is_quoted(tmp_path):
    lines = text(titled((13, '"Live')), HEAD, "\t").splitlines()
    lines[100] += "\tmore"
    refused(write(tmp_path / "a", "\n".join(lines)), "Line 101 of .* has 5 fields, but the first line names 4 columns")


# encodings


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_are_found(encoding, packed, tmp_path):
    rows = [(row.user.replace("u", "Zoë "), row.item, row.time) for row in ROWS]
    content = text(rows, end="\r\n").encode(encoding)
    dataset, found, _ = imported(write(tmp_path / "a", gzip.compress(content) if packed else content))
    assert found == RIGHT and dataset.user_ids[:2] == ["Zoë 0", "Zoë 1"]


def test_what_is_not_utf8_is_said_with_its_line_and_another_encoding_may_be_named(tmp_path):
    rows = [(row.user, row.item, row.time) for row in ROWS]
    rows[4] = ("Zoë", *rows[4][1:])
    with pytest.warns(Notice, match="is not UTF-8 text, first in line 6; .* read as Windows-1252"):
        imported(store(tmp_path / "a", rows, encoding="latin-1"))
    chinese = [(f"用户{row.user}", row.item, row.time) for row in ROWS]
    source = store(tmp_path / "b", chinese, encoding="gb18030")
    assert imported(source, encoding="gb18030")[0].user_ids[0] == "用户u0"
    for name in ("gb", "rot13", "hex"):
        refused(source, f"--encoding '{name}' is not known; latin-1", encoding=name)
    refused(source, "Line 2 of .* is not ASCII text; name its encoding with --encoding", encoding="ascii")
    refused(
        write(tmp_path / "c", b"user_id,item_id\n\x81\x8d,1\n"), "Line 2 of .* is not UTF-8 text; name its encoding"
    )


# delimiters and headers


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", " ", "   "])
def test_delimiters_are_found(separator, tmp_path):
    assert imported(store(tmp_path / "a", ROWS, separator=separator))[1] == RIGHT


@pytest.mark.parametrize(
    ("given", "separator"), [("^", "^"), ("~~", "~~"), ("tab", "\t"), ("space", " "), ("::", "::"), (";", ";")]
)
def test_delimiters_may_be_named(given, separator, tmp_path):
    assert imported(store(tmp_path / "a", ROWS, separator=separator), delimiter=given)[1] == RIGHT


@pytest.mark.parametrize("mark", [";", ",", "\t"])
@pytest.mark.parametrize("header", [True, False])
def test_the_line_by_which_excel_names_the_delimiter(mark, header, tmp_path):
    rows = [(*row, "a, b; c") if mark == "\t" else (*row, "d") for row in ROWS]
    source = write(tmp_path / "a", f"sep={mark}\n" + text(rows, HEAD if header else None, mark))
    numbers = {} if header else {"no_header": True, "user": "1", "item": "2", "time": "3"}
    assert imported(source, **numbers)[1] == RIGHT


def test_empty_lines_and_spaces_around_fields_are_nothing(tmp_path):
    lines = text([(f" {row.user} ", f"\u00a0{row.item}", f" {row.time}") for row in ROWS]).replace("\n", "\n\n")
    dataset, found, _ = imported(write(tmp_path / "a", lines))
    assert found == RIGHT and dataset.user_ids[0] == "u0"
    refused(write(tmp_path / "b", lines + "a,b\n"), f"Line {2 * len(ROWS) + 3} of .* has 2 fields")


@pytest.mark.parametrize(("separator", "name"), [("\t", "u.data"), ("::", "ratings.dat"), (",", "ratings.csv")])
def test_a_table_without_a_header_keeps_its_first_row(separator, name, tmp_path):
    rows = [(row.user[1:], row.item[1:], 4, row.time) for row in ROWS]
    source = store(tmp_path / name, rows, None, separator)
    right = [[item[1:] for item in sequence] for sequence in RIGHT]
    assert imported(source, no_header=True, user="1", item="2", time="4")[1] == right
    with pytest.warns(
        Notice, match="no header; its columns are taken as those of MovieLens: --no-header --user 1 --item 2"
    ):
        assert imported(source)[1] == right
    refused(source, "seems to have no header, as its first line is '0', .*: give --no-header", user="1", item="2")
    refused(
        source,
        "The column '1' of .* is named twice, but --item needs one of its own",
        no_header=True,
        user="1",
        item="1",
    )
    refused(
        source,
        "has no user and no item column; its columns are '1', '2', '3', '4': give numbers, as in --user 1 --item 2",
        no_header=True,
    )
    refused(
        source, "has no column '9' for --item; its columns are '1', '2', '3', '4'", no_header=True, user="1", item="9"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda row: (f"A{row.user}", f"B{row.item}", "5.0", row.time),  # ratings of Amazon
        lambda row: (row.user[1:], pd.Timestamp(row.time, unit="s").isoformat(), row.item[1:], 7),  # YooChoose
        lambda row: (row.item[1:], row.user[1:], row.time),
    ],
)
def test_a_header_that_seems_to_be_a_row_is_no_header(make, tmp_path):
    refused(
        store(tmp_path / "a", map(make, ROWS), None), "seems to have no header, .*: give --no-header and the numbers"
    )


def test_a_first_line_without_numbers_is_told_how_it_may_be_a_row(tmp_path):
    source = store(tmp_path / "a", [(row.user, row.item) for row in ROWS], None, "\t")
    refused(
        source,
        "has no user and no item column; its columns are 'u0', .*give --no-header and numbers, as in --user 1 --item 2",
    )
    with pytest.warns(Notice, match="no time column"):
        assert len(imported(source, no_header=True, user="1", item="2")[0].items) == len(ROWS)


def test_all_that_is_missing_is_asked_for_at_once(tmp_path):
    rows = [(row.user, row.item, f"{1 + n % 28}.5.2021") for n, row in enumerate(ROWS)]
    source = store(tmp_path / "a", rows, ("Wer", "Was", "am Tag"))
    refused(
        source, "has no user and no item column; .* name what is missing with --user NAME --item NAME --time 'am Tag'"
    )
    refused(source, "has no item column; .*with --item NAME --time 'am Tag'", user="Wer")
    refused(source, "has no item and no rating column; .*--item NAME --rating NAME", user="Wer", min_rating=3.0)


DATED = {
    "dates": lambda n: f"{1 + n % 28}.5.2021", "ISO 8601": lambda n: f"2021-05-{1 + n % 28:02}T12:00",
    "Unix seconds": lambda n: START + n, "milliseconds": lambda n: 1000 * START + n,
    "dates as numbers": lambda n: 20210501 + n % 28,
}  # fmt: skip
NO_TIMES = {
    "prices": lambda n: f"{n}.99", "years": lambda n: 1990 + n % 30, "barcodes": lambda n: 4_006_381_333_931 + n,
    "one day": lambda n: "2021-05-01", "words": lambda n: "May", "numbers of orders": lambda n: 10_000_000 + n,
    "nothing": lambda n: "",
}  # fmt: skip


@pytest.mark.parametrize("written", DATED)
def test_times_that_are_not_called_so_are_not_left_out_in_silence(written, tmp_path):
    rows = [(row.user, row.item, DATED[written](n), 7) for n, row in enumerate(ROWS)]
    source = store(tmp_path / "a", rows, ("user", "item", "bought on", "price"))
    refused(source, "there are times in 'bought on': give --time 'bought on', or --ties file if they are of something")
    assert imported(source, time="bought on")[0].first_time is not None
    with pytest.warns(Notice, match="no time column"):
        assert imported(source, ties="file")[0].first_time is None


@pytest.mark.parametrize("written", NO_TIMES)
def test_what_is_no_time_is_not_taken_for_one(written, tmp_path):
    rows = [(row.user, row.item, NO_TIMES[written](n)) for n, row in enumerate(ROWS)]
    with pytest.warns(Notice, match="no time column"):
        assert imported(store(tmp_path / "a", rows, ("user", "item", "x")))[0].first_time is None


def test_names_that_are_numbers_may_name_columns(tmp_path):
    """As pandas writes a table whose columns have no names."""
    source = store(tmp_path / "a", ROWS, (0, 1, 2))
    assert imported(source, user="0", item="1", time="2")[1] == RIGHT


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"user": "item_id"}, "has no item column"),
        ({"user": "item_id", "item": "item_id"}, "The column 'item_id' of .* is named twice, but --item needs"),
        ({"time": "user_id"}, "has no user column"),
        ({"item": "timestamp", "time": "timestamp"}, "The column 'timestamp' of .* is named twice, but --time needs"),
        ({"rating": "item_id", "min_rating": 3.0}, "has no item column"),
    ],
)
def test_no_column_has_two_roles(options, expected, tmp_path):
    refused(store(tmp_path / "a", ROWS), expected, **options)


@pytest.mark.parametrize("given", [None, "item_id"])
def test_two_columns_of_one_name_are_refused(given, tmp_path):
    rows = [(row.user, row.item, row.item, row.time) for row in ROWS]
    source = store(tmp_path / "a", rows, ("user_id", "item_id", "item_id", "timestamp"))
    refused(source, "has several columns called 'item_id': give each a name of its own", item=given)
    columns = [pa.array(column) for column in zip(*rows)]
    pyarrow.parquet.write_table(pa.table(columns, ["user_id", "item_id", "item_id", "timestamp"]), tmp_path / "b")
    refused(tmp_path / "b", "has several columns of one name: give each a name of its own", item=given)


def test_a_small_block_reads_like_a_large_one(tmp_path, monkeypatch):
    """Lines, quotes and letters of several bytes across the ends of blocks."""
    monkeypatch.setattr(delimited, "BATCH", 7)
    monkeypatch.setattr("rodpo_lite.data.importers.files.BLOCK", 13)
    rows = [
        (f"{row.user}é", row.item, row.time, random.Random(n).choice(["x", '"a, b"', '"c ""d"""']))
        for n, row in enumerate(ROWS)
    ]
    for encoding in ("utf-8", "utf-16", "latin-1"):
        source = write(tmp_path / encoding, text(rows, HEAD, end="\r\n").encode(encoding))
        assert imported(source)[1] == RIGHT
