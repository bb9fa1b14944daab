"""Imports of tables: small files worked out by hand for every quirk, and a sentence for whatever is none."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importing import PLAIN, imported, refused, table, write
from typer.testing import CliRunner

from companion.findings.examples import write_example
from rodpo_lite.cli import app, main
from rodpo_lite.data.importers import FORMATS, files
from rodpo_lite.data.importers.dataset import import_dataset
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.errors import InputError, Notice


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_plain_table_in_any_usual_form(delimiter, tmp_path):
    """Numbered in order of first appearance, ordered by time, with byte order mark, Windows' line ends and gzip."""
    text = "\ufeff" + table(PLAIN, delimiter=delimiter, end="\r\n")
    dataset, sequences, lines = imported(write(tmp_path / "a.csv.gz", gzip.compress(text.encode())))
    assert sequences == [["fig", "kiwi", "pear"], ["pear", "fig", "plum"]]
    assert dataset.items.tolist() == [1, 2, 0, 0, 1, 3]
    assert dataset.timestamps.tolist() == [1, 2, 3, 4, 5, 6]
    assert dataset.name == "out" and lines == [] and dataset.features == {}
    assert dataset.user_ids == ["ann", "bob"] and dataset.item_ids == ["pear", "fig", "kiwi", "plum"]
    assert dataset.user_called("bob") == 1
    with pytest.raises(InputError, match="out has no user '1'; the first is called ann, the last bob"):
        dataset.user_called("1")


def test_quotes_unicode_and_line_ends_within_fields(tmp_path):
    rows = [('"Zoë, ""Z"""', f'"item\n{i}"', i) for i in range(3)]
    _, sequences, _ = imported(write(tmp_path / "a.csv", table(rows)))
    assert sequences == [["item\n0", "item\n1", "item\n2"]]
    _, sequences, _ = imported(write(tmp_path / "b.csv", table(PLAIN, end="\r")))
    assert len(sequences) == 2, "line ends of old Macs"


@pytest.mark.parametrize(
    "names",
    [
        ("userId", "movieId", "ts"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("Customer ID", "StockCode", "InvoiceDate"),
    ],
)
def test_columns_are_found_by_their_usual_names(names, tmp_path):
    extra = [(0, *row) for row in PLAIN]
    _, sequences, _ = imported(write(tmp_path / "a.csv", table(extra, ("index", *names))))
    assert sequences == [["fig", "kiwi", "pear"], ["pear", "fig", "plum"]]


def test_columns_that_are_named(tmp_path):
    source = write(tmp_path / "a.csv", table(PLAIN, ("who", "what", "when"), delimiter="^"))
    named = {"user": "who", "item": "what", "time": "when", "delimiter": "^"}
    assert imported(source, **named)[1] == [["fig", "kiwi", "pear"], ["pear", "fig", "plum"]]
    refused(
        write(tmp_path / "b.csv", table(PLAIN, ("who", "item", "when"))), "no user column; .* 'who', 'item', 'when'"
    )
    refused(source, "no column 'wo' for --user; its columns are 'who', 'what', 'when'", **(named | {"user": "wo"}))


def test_without_times_the_order_of_the_file_counts(tmp_path):
    source = write(tmp_path / "a.csv", table([(u, i) for u, i, _ in PLAIN], ("user", "item")))
    with pytest.warns(Notice, match="has no time column.*'user', 'item'"):
        dataset, sequences, _ = imported(source)
    assert sequences == [["pear", "fig", "kiwi"], ["fig", "pear", "plum"]]
    assert dataset.first_time is None and dataset.manifest["has_timestamps"] is False


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ([1_400_000_000, 1_400_000_001, 86_400], [86_400, 1_400_000_000, 1_400_000_001]),
        (["1400000000.75", "1400000001", "1.4e9"], [1_400_000_000, 1_400_000_000, 1_400_000_001]),
        ([1_400_000_000_001, 1_400_000_000_000, 1_500_000_000_999], [1_400_000_000, 1_400_000_000, 1_500_000_000]),
        ([1_400_000_000_000_001, 0, 1_500_000_000_000_000], [0, 1_400_000_000, 1_500_000_000]),
        ([1_400_000_000_000_000_001, 1_400_000_000_000_000_000, 3], [0, 1_400_000_000, 1_400_000_000]),
        (["20140513T165320Z", "2014-05-13 18:53:21+0200", "2014-05-14"], [1_400_000_000, 1_400_000_001, 1_400_025_600]),
        ([20140513, 20140131, 20140512], [1_391_126_400, 1_399_852_800, 1_399_939_200]),
    ],
)  # fmt: skip
def test_units_of_time_are_those_of_the_whole_column(written, seconds, tmp_path):
    source = write(tmp_path / "a.csv", table([("u", f"i{n}", time) for n, time in enumerate(written)]))
    dataset, sequences, _ = imported(source)
    assert dataset.timestamps.tolist() == seconds
    if written[0] == 1_400_000_000_001:
        assert sequences == [["i1", "i0", "i2"]], "milliseconds that a second does not tell apart are in order"


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1, 2, "yesterday"], "the time 'yesterday' in line 4 is not valid: use a number, as in the lines before"),
        (["yesterday", 2, 3], "the time 'yesterday' in line 2 is not valid: use Unix time or ISO 8601"),
        (["2014-05-13", 2, "May 2014"], "the time '2' in line 3 is not valid: use ISO 8601, as in the lines before"),
        ([1_400_000_000, 1_400_000_000_000, 1_400_000_000], "the time 1400000000000 in line 3 .* Unix seconds"),
        ([1, 2, "inf"], "the time 'inf' in line 4"),
        ([1, 2, "1_000"], "the time '1_000' in line 4"),
        ([1, 2, "9" * 400], "the time '99999"),
        (["9999-12-31", "2014-05-13", "2014-05-13"], "the time '9999-12-31' in line 2"),
    ],
)
def test_what_is_no_time_is_named(times, expected, tmp_path):
    refused(write(tmp_path / "a.csv", table([("u", f"i{n}", time) for n, time in enumerate(times)])), expected)


def test_what_is_left_out_is_counted(tmp_path):
    rows = [
        ("u", "a", 3, 5), ("u", "b", 1, 5), ("u", "a", 2, 4), ("u", "b", 1, 5), ("u", "c", 4, 3),
        ("", "a", 1, 5), ("u", "NaN", 1, 5), ("u", "a", " ", 5), ("v", "a", 1, 5), ("v", "b", 2, 5),
        ("u", "d", 9, ""), ("u", "d", 9, 1),
    ]  # fmt: skip
    source = write(tmp_path / "a.csv", table(rows, ("user", "item", "time", "stars")))
    _, sequences, lines = imported(source, min_rating=3.0)
    assert sequences == [["b", "a", "a", "c"]]
    assert lines == [
        "dropped: rows without user (1), rows without item (1), rows without time (1), rows without the minimum rating "
        "(2), exact duplicates (1), users with fewer than 3 interactions (1)"
    ]
    _, sequences, lines = imported(source, min_rating=3.0, repeats="first")
    assert sequences == [["b", "a", "c"]] and "repeats of an item (1)" in lines[0]


def test_a_core_has_enough_of_every_user_and_item(tmp_path):
    """Items d and e fall first, then v with two interactions left, and then nothing: every item has three users."""
    taken = {"t": "abc", "u": "abc", "v": "abde", "w": "abcd"}
    rows = [(user, item, n) for user, items in taken.items() for n, item in enumerate(items)]
    _, sequences, lines = imported(write(tmp_path / "a.csv", table(rows)), core=3)
    assert sequences == [list("abc")] * 3
    assert lines == ["dropped: users with fewer than 3 interactions (1), items with fewer than 3 interactions (2)"]
    refused(
        write(tmp_path / "b.csv", table(rows)),
        r"Nothing is left of .*users with fewer than 5 interactions \(4\)",
        core=5,
    )


def test_ties_keep_the_order_of_the_file_on_request(tmp_path):
    rows = [("u", f"i{n:02}", 7) for n in random.Random(0).sample(range(50), 50)]
    assert imported(write(tmp_path / "a.csv", table(rows)), ties="file")[1] == [[item for _, item, _ in rows]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "its first line is empty"),
        (table([]), "has no rows"),
        (
            table(PLAIN, delimiter="^"),
            r"has no user and no item column; .* are 'user_id\^item_id\^timestamp': .* with --delimiter",
        ),
        (table(PLAIN[:2]), r"Nothing is left of .*users with fewer than 3 interactions \(1\)"),
        (table([("", "", "")] * 4), r"which has 4 rows: rows without user \(4\) were dropped"),
        (table(PLAIN) + "a,b\n", "Line 8 of .* has 2 fields, but the first line names 3 columns"),
        (table(PLAIN) + '"a,b",b,1\n"a,b,1\n"a,b,1\n', "The row that begins in line 9 of .* cannot be read"),
        ((table(PLAIN) + "é,b,1\n").encode() + b"\xff,b,1\n", "Line 9 of .* is not UTF-8 text"),
        (gzip.compress(table(PLAIN).encode(), mtime=0)[:-9], "damaged gzip file"),
        ("user,item\n" + "x" * (files.LINE_LIMIT + 1), "Line 2 of .* is longer than 16 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 80 else "content",
)
def test_what_is_no_table_is_refused(content, expected, tmp_path):
    refused(write(tmp_path / "a.csv", content), expected)


@pytest.mark.parametrize(
    ("format", "options", "expected"),
    [
        ("cvs", {}, "FORMAT 'cvs' is not valid: allowed are csv, recbole, amazon2014"),
        ("csv", {"items": Path("nowhere.csv")}, "There is no file nowhere.csv, which --items names"),
        ("csv", {"image_folder": Path("nowhere")}, "There is no folder nowhere, which --image-folder names"),
        ("csv", {"images": Path("a.b")}, "--images does not belong to the format csv; it belongs to amazon2014"),
        ("amazon2018", {"delimiter": ";"}, "--delimiter does not belong to the format amazon2018; it belongs to csv"),
        ("amazon2014", {"images": Path("nowhere.b")}, "There is no file nowhere.b, which --images names"),
        ("csv", {"repeats": "last"}, "--repeats 'last' is not valid: allowed are keep, first"),
        ("csv", {"delimiter": ""}, "--delimiter '' is not valid"),
        ("csv", {"text": ("title",)}, "--text is of no use without --items"),
        ("csv", {"rating": "stars"}, "--rating is of no use without --min-rating"),
        ("csv", {"min_rating": 3.0}, "has no rating column"),
        ("csv", {"image_model": "clip"}, "--image-model is of no use without --image-folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(format, options, expected, tmp_path):
    refused(write(tmp_path / "a.csv", table(PLAIN)), expected, format, **options)


def test_sources_and_folders_that_do_not_fit_are_refused(tmp_path):
    refused(tmp_path / "nowhere.csv", "There is no file or folder .*nowhere.csv, which SOURCE names")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is a folder, but a file is needed")
    refused(tmp_path / "folder", "There is no .inter file", "recbole")
    with pytest.raises(InputError, match="folder exists already"):
        import_dataset("csv", Request(tmp_path / "nowhere.csv"), tmp_path / "folder")
    with pytest.raises(InputError, match=r"--name '\.\./x' is not valid"):
        import_dataset("csv", Request(tmp_path / "nowhere.csv"), tmp_path / "out", "../x")


def test_an_import_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    source = write(tmp_path / "a.csv", table(PLAIN))

    def stop(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("rodpo_lite.data.schema.read_dataset", stop)
    with pytest.raises(KeyboardInterrupt):
        import_dataset("csv", Request(source), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [source]


IDS = st.sampled_from(["a", "b", "c", "ü", "nan", "", "a,b", 'q"', " a "])
TIMES = st.one_of(st.integers(0, 5), st.sampled_from(["", "7.5", "soon", "2014-01-02", -1, 10**12]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(IDS, IDS, TIMES), max_size=14), st.sampled_from(["keep", "first"]), st.booleans())
def test_any_small_table_becomes_a_dataset_or_is_refused(tmp_path_factory, rows, repeats, mostly_plain):
    """What comes out has the counts of a naive import; what does not come out has a sentence."""
    if mostly_plain:
        rows = [(user, item, time if isinstance(time, int) and time < 10 else 3) for user, item, time in rows]
    source = tmp_path_factory.mktemp("any") / "a.csv"
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(source, index=False)
    complete = [
        (u.strip(), i.strip(), t)
        for u, i, t in rows
        if u.strip() not in ("", "nan") and i.strip() not in ("", "nan") and t != ""
    ]
    kept, seen = [], set()
    for user, item, _ in sorted(dict.fromkeys(complete), key=lambda row: row[2] if mostly_plain else 0):
        if repeats == "keep" or (user, item) not in seen:
            kept.append((user, item))
            seen.add((user, item))
    lengths = Counter(user for user, _ in kept)
    expected = [item for user, item in kept if lengths[user] >= 3]
    try:
        _, sequences, _ = imported(source, repeats=repeats, ties="file")
    except InputError as error:
        assert str(error).endswith(".") and [path.name for path in source.parent.iterdir()] == ["a.csv"]
        assert not mostly_plain or not expected
        return
    assert Counter(item for sequence in sequences for item in sequence) == Counter(expected)
    users = list(dict.fromkeys(user for user, _, _ in complete if lengths[user] >= 3))
    if mostly_plain:
        assert sequences == [[item for user, item in kept if user == name] for name in users]


def test_a_name_that_two_users_have_is_not_answered_for_the_first(tmp_path):
    import_dataset("csv", Request(write(tmp_path / "a.csv", table(PLAIN))), tmp_path / "out")
    pd.DataFrame({"user": [0, 1], "id": ["same", "same"]}).to_parquet(tmp_path / "out" / "users.parquet")
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(manifest | {"files": {}}))
    with pytest.raises(InputError, match="out has several users that are called 'same'"):
        read_dataset(tmp_path / "out").user_called("same")


def test_the_command_line(tmp_path, monkeypatch, capsys):
    """A summary as `rodpo data check` prints it, then what was left out; refusals in one sentence with exit code 2."""
    source, out = write(tmp_path / "a.csv", table([*PLAIN, ("cy", "fig", 9)])), tmp_path / "mine"

    def command(*arguments) -> str:
        monkeypatch.setattr("sys.argv", ["rodpo", "data", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    printed = command("import", "csv", source, "--out", out)
    assert printed == command("check", out) + "dropped: users with fewer than 3 interactions (1)\n"
    assert printed.startswith(f"{out}: mine, 2 users, 4 items, 6 interactions, no item features\n")
    for arguments, expected in [
        (("csv", source, "--out", out), f"rodpo: {out} exists already; choose another folder or remove it first.\n"),
        (("csv", tmp_path / "b.csv", "--out", tmp_path / "b"), "which SOURCE names.\n"),
    ]:
        with pytest.raises(SystemExit) as caught:
            command("import", *arguments)
        refusal = capsys.readouterr()
        assert caught.value.code == 2 and refusal.out == "" and refusal.err.endswith(expected)
        assert refusal.err.count("\n") == 1 and sorted(tmp_path.iterdir()) == [source, out]


def test_the_help_lists_every_format_and_ends_with_examples():
    helped = CliRunner().invoke(app, ["data", "import", "--help"]).output
    described, _, examples = helped.partition("Examples")
    assert all(f"{name}:" in described and f"import {name}" in examples for name in FORMATS)


def test_the_example_is_imported_whole(tmp_path):
    clicks, products = write_example(tmp_path, seed=1)
    assert import_dataset("csv", Request(clicks, items=products), tmp_path / "mine") == []
    dataset = read_dataset(tmp_path / "mine")
    assert len(dataset.items) == sum(1 for _ in clicks.open()) - 1 and set(dataset.features) == {"text"}
    assert (
        np.diff(dataset.timestamps)[np.diff(np.repeat(np.arange(dataset.n_users), dataset.lengths)) == 0] >= 0
    ).all()
