"""What becomes of rows: ids that are missing or written in two ways, ties, users who are hardly one, the account."""

import random
from collections import Counter
from itertools import pairwise

import pandas as pd
import pytest
from import_cases import START, Row, log, sequences, store
from importing import imported, json_lines, refused, table, write

from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.errors import Notice

ROWS = log()


def account(source, **options) -> list[str]:
    return imported(source, **options)[0].manifest["account"]


# ids


@pytest.mark.parametrize(
    "missing",
    [
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "null",
        "NULL",
        "Null",
        "none",
        "None",
        "nan",
        "NaN",
        "<NA>",
        "\\N",
        "",
        " ",
        "undefined",
    ],
)
@pytest.mark.parametrize("column", [0, 1])
def test_placeholders_are_missing_ids_and_counted(missing, column, tmp_path):
    rows = [
        tuple(missing if place == column and n % 3 == 0 else field for place, field in enumerate(row))
        for n, row in enumerate(ROWS)
    ]
    dataset, _, lines = imported(store(tmp_path / "a.csv", rows))
    assert lines[0].startswith(f"dropped: rows without {('user', 'item')[column]} ({len(ROWS) // 3})")
    ids = (dataset.user_ids, dataset.item_ids)[column]
    assert all(name[0] in "ui" and name[1:].isdecimal() for name in ids)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_user_with_an_implausible_share_of_the_log_is_named(share, tmp_path):
    chance = random.Random(1)
    rows = [(row if chance.random() > share else row._replace(user="guest")) for row in log(300)]
    with pytest.warns(Notice, match=r"The user 'guest' has \d+ % of the log; if it is a bot, or many, drop its rows"):
        said = account(store(tmp_path / "a.csv", rows))
    assert said[-1].startswith("longest history: ") and "of user 'guest'" in said[-1]


def test_users_who_merely_have_more_than_others_are_not_named(tmp_path, recwarn):
    rows = [Row(f"u{user}", f"i{n % 40}", START + n) for user in range(30) for n in range(5 + 3 * user)]
    assert account(store(tmp_path / "a.csv", rows))[-1] == "longest history: 92 of user 'u29', 6.3 % of the log"
    assert not recwarn.list


@pytest.mark.parametrize(
    "write_second",
    [lambda n: f"{n}.0", lambda n: f" {n}", lambda n: f"{n}\u00a0", lambda n: f'"{n}"', lambda n: f"\ufeff{n}"],
)
@pytest.mark.parametrize("column", ["user", "item"])
def test_an_id_that_is_written_in_two_ways_is_one(write_second, column, tmp_path):
    plain = [Row(row.user[1:], row.item[1:], row.time) for row in ROWS]
    rows = [
        row._replace(**{column: write_second(getattr(row, column))}) if n % 2 else row for n, row in enumerate(plain)
    ]
    dataset, found, _ = imported(store(tmp_path / "a.csv", rows))
    assert found == sequences(plain) and dataset.user_ids == [str(n) for n in range(30)]


def test_numbers_with_exponents_are_the_ids_that_they_stand_for(tmp_path):
    """R writes 100000 as 1e+05, and a spreadsheet as 1.00E+05."""
    rows = [("u", item, n) for n, item in enumerate(["1e+05", "99999", "100000", "1.00E+05", "1.5E+1"])]
    assert imported(write(tmp_path / "a.csv", table(rows)))[1] == [["100000", "99999", "100000", "100000", "15"]]


@pytest.mark.parametrize(
    "ids", [["1.0", "1.10", "1.1", "2.0"], ["007", "7", "07", "7.5"], ["12e4", "a3f", "120000"], ["1,0", "1", "10"]]
)
def test_ids_that_only_look_like_numbers_stay_apart(ids, tmp_path):
    rows = [("u", f'"{item}"', n) for n, item in enumerate(ids)]
    assert imported(write(tmp_path / "a.csv", table(rows)))[1] == [ids]


def test_ids_in_json_may_be_numbers_and_texts(tmp_path):
    users = [1, "1", 1.0, "a", True, None, [1], {"a": 1}, "1.0"]
    records = [{"user": user, "item": f"i{n}", "time": START + n} for n, user in enumerate(users)]
    dataset, found, lines = imported(json_lines(tmp_path / "a", records))
    assert dataset.user_ids == ["1"] and found == [["i0", "i1", "i2", "i8"]]
    assert lines == ["dropped: rows without user (4), users with fewer than 3 interactions (1)"]


def test_texts_are_found_for_ids_that_are_written_otherwise(tmp_path):
    pytest.importorskip("sklearn")
    source = store(tmp_path / "a.csv", [Row(row.user, row.item[1:], row.time) for row in ROWS])
    items = write(tmp_path / "items.csv", "item_id,title\n" + "".join(f"{n}.0,thing {n}\n" for n in range(40)))
    dataset, _, lines = imported(source, items=items)
    assert lines == [] and all(title == f"thing {name}" for name, title in zip(dataset.item_ids, dataset.titles))


# ties


def days(seed: int = 0) -> list[tuple]:
    chance = random.Random(seed)
    return [
        (f"c{user}", f"{chance.randrange(100):03}", f"2024-03-{1 + n // 4:02}")
        for user in range(300)
        for n in range(12)
    ]


@pytest.mark.parametrize(("order", "word"), [(1, "ascend"), (-1, "descend"), (0, "")])
def test_ties_and_the_order_of_the_file_are_said(order, word, tmp_path):
    rows = sorted(days(), key=lambda row: (row[0], row[2]))
    if order:
        rows = sorted(days(), key=lambda row: (row[0], row[2], order * int(row[1])))
    source = store(tmp_path / "a.csv", rows, ("customer", "sku", "date"))
    said = account(source)
    expected = "ties: 81.5 % of neighbours have the same time; " + (f"in the file their items {word}; " if word else "")
    assert said[1:3] == [
        "times: ISO 8601, 2024-03-01T00:00:00 to 2024-03-03T00:00:00",
        expected + "their order is a hash of user and item",
    ]
    assert account(source, ties="file")[2] == expected + "their order is that of the file"
    refused(source, "--ties 'item' is not valid: allowed are hash, file", ties="item")


@pytest.mark.parametrize("names", [lambda n: f"i{n}", lambda n: str(n), lambda n: f"{n:03}", lambda n: f"sku-{n}"])
def test_the_order_of_a_file_that_is_sorted_by_item_says_nothing(names, tmp_path):
    """As in the counts of last.fm, which have no times: what comes next would be the next item."""
    rows = sorted((user, n) for user in range(60) for n in random.Random(user).sample(range(120), 10))
    source = store(tmp_path / "a.csv", [(f"u{user}", names(n)) for user, n in rows], ("user", "item"))
    with pytest.warns(Notice, match="no time column"):
        dataset, found, _ = imported(source)
    assert dataset.manifest["account"][1:2] == [
        "ties: the file has no times; in the file their items ascend; their order is a hash of user and item"
    ]
    places = {names(n): n for n in range(120)}
    rising = [places[a] < places[b] for sequence in found for a, b in pairwise(sequence)]
    assert 0.4 < sum(rising) / len(rising) < 0.6
    with pytest.warns(Notice, match="no time column"):
        kept = imported(source, ties="file")[1]
    assert kept == [[names(n) for user, n in rows if user == who] for who in range(60)]


def test_hashed_ties_do_not_depend_on_the_file_and_differ_between_users(tmp_path):
    rows = days()
    orders = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        source = store(tmp_path / f"{seed}.csv", rows, ("customer", "sku", "date"))
        dataset, found, _ = imported(source)
        orders.append(dict(zip(dataset.user_ids, found)))
    assert orders[0] == orders[1] == orders[2]
    pairs = [(f"u{user}", item, 7) for user in range(200) for item in "abc"]
    found = imported(write(tmp_path / "b.csv", table(pairs)))[1]
    counts = Counter("".join(sequence) for sequence in found)
    assert len(counts) == 6 and min(counts.values()) > 15, "each order for about a sixth of the users"


def test_exact_duplicates_go_and_repeats_at_other_times_stay(tmp_path):
    rows = [("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 1), ("u", "b", 1), ("u", "c", 3)]
    _, found, lines = imported(write(tmp_path / "a.csv", table(rows)))
    assert sorted(found[0][:2]) == ["a", "b"] and found[0][2:] == ["a", "c"]
    assert lines == ["dropped: exact duplicates (2), users with fewer than 3 interactions (1)"]


# the account


def test_the_account_is_kept_with_the_dataset_and_survives_what_is_done_to_it(tmp_path):
    source = store(tmp_path / "a.csv", [(*row, 4) for row in ROWS], ("visitorid", "sku", "ts", "stars"))
    import_dataset("csv", Request(source, min_rating=3.0), tmp_path / "out")
    assert read_dataset(tmp_path / "out").manifest["account"] == [
        "columns: user 'visitorid', item 'sku', time 'ts', rating 'stars'",
        "times: Unix seconds, 2017-07-14T02:40:00 to 2017-07-14T09:40:29",
        "ties: 0.0 % of neighbours have the same time",
        "longest history: 8 of user 'u0', 3.3 % of the log",
    ]


def test_what_the_command_prints_is_on_lines_of_its_own_whatever_ids_hold(tmp_path, capsys, monkeypatch):
    from rodpo_lite.cli import main

    records = [{"user": "a\u001b[31m\nb", "item": f"i{n}", "time": START + n} for n in range(4)]
    source = json_lines(tmp_path / "a", records)
    monkeypatch.setattr("sys.argv", ["rodpo", "data", "import", "csv", str(source), "--out", str(tmp_path / "out")])
    main()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 5 and "\u001b" not in printed and "longest history: 4 of user" in printed
    assert pd.read_parquet(tmp_path / "out" / "users.parquet")["id"].tolist() == ["a\u001b[31m\nb"]
