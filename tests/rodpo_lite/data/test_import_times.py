"""Times as people write them, worked out by hand, and which of several columns they are taken from."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from import_cases import log, sequences, store
from importing import imported, refused, table, write

from rodpo_lite.errors import Notice

ROWS = log()
RIGHT = sequences(ROWS)
AT = 1_400_000_000  # 2014-05-13 16:53:20 UTC, a Tuesday
DAY = 1_399_939_200  # its midnight


def stamped(path, *times, **options):
    """The dataset of one user who takes an item at each of these times."""
    rows = [("u", f"i{n}", f'"{time}"' if "," in str(time) else time) for n, time in enumerate(times)]
    return imported(write(path, table(rows)), **options)[0]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2014-05-13 16:53:20 UTC", AT),
        ("2014-05-13 16:53:20 GMT", AT),
        ("2014-05-13 16:53:20.750 UTC", AT),
        ("2014-05-13 18:53:20 CEST", AT),
        ("2014-05-13 12:53:20 EDT", AT),
        ("2014-05-13 18:53:20 Europe/Berlin", AT),
        ("2014-05-13T18:53:20+02:00[Europe/Berlin]", AT),
        ("2014-05-13 16:53:20,750", AT),
        ("2014-05-13 09:53:20-07", AT),
        ("2014-05-13 4:53:20 PM", AT),
        ("Tue May 13 09:53:20 PDT 2014", AT),
        ("Tue May 13 16:53:20 +0000 2014", AT),
        ("Tue, 13 May 2014 16:53:20 GMT", AT),
        ("Tuesday, May 13, 2014 4:53:20 p.m.", AT),
        ("Tue May 13 2014 18:53:20 GMT+0200 (Central European Summer Time)", AT),
        ("13/May/2014:16:53:20 +0000", AT),
        ("05/13/2014 04:53:20 PM", AT),
        ("13/05/2014 16:53:20", AT),
        ("13.05.2014 16:53:20", AT),
        ("5/13/2014 16:53", AT - 20),
        ("2014/05/13 16:53", AT - 20),
        ("May 13th, 2014", DAY),
        ("05 13, 2014", DAY),
        ("13-May-2014", DAY),
        ("13-May-14", DAY),
        ("13. May 2014", DAY),
        ("20140513", DAY),
        ("201405131653", AT - 20),
        ("20140513165320", AT),
        ("20140513.0", DAY),
        ("2014-05", DAY - 12 * 86_400),
        ("201405", DAY - 12 * 86_400),
        ("May 2014", DAY - 12 * 86_400),
        ("2014", 1_388_534_400),
        (f"{AT}.75", AT),
        (f"{AT}000", AT),
    ],
)
def test_usual_forms(written, seconds, tmp_path):
    dataset = stamped(tmp_path / "a.csv", written, written, written)
    assert dataset.timestamps.tolist() == [seconds] * 3


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["1/2/2010", "13/2/2010", "1/3/2010"], ["2010-02-01", "2010-03-01", "2010-02-13"]),
        (["1/2/2010", "2/13/2010", "1/3/2010"], ["2010-01-02", "2010-01-03", "2010-02-13"]),
        (["1.2.2010", "2.2.2010", "3.2.2010"], ["2010-02-01", "2010-02-02", "2010-02-03"]),
        (["2.2.2010 8:26", "3.3.2010 8:26", "4.4.2010 18:26"], ["2010-02-02", "2010-03-03", "2010-04-04"]),
    ],
)
def test_the_whole_column_decides_which_number_is_the_day(times, expected, tmp_path):
    dataset = stamped(tmp_path / "a.csv", *times)
    found = [datetime.fromtimestamp(time, UTC).date().isoformat() for time in dataset.timestamps]
    assert found == sorted(expected)


def test_days_that_may_be_months_are_asked_for(tmp_path):
    source = write(tmp_path / "a.csv", table([("u", f"i{n}", f"{n}/2/2010") for n in range(1, 5)]))
    refused(source, "its times, those in line 2 to begin with, may be month-first or day-first: say so with")
    assert imported(source, time_format="day-first")[0].timestamps[0] == 1_264_982_400
    assert imported(source, time_format="%d/%m/%Y")[0].timestamps[0] == 1_264_982_400
    assert imported(source, time_format="month-first")[0].timestamps[0] == 1_262_390_400
    refused(source, "the time '1/2/2010' in line 2 is not valid: it is not as --time-format %Y says", time_format="%Y")
    refused(source, "--time-format 'days' is not valid: allowed are seconds, .* or a pattern as", time_format="days")
    swapped = write(tmp_path / "b.csv", table([("u", f"i{n}", f"14-05-{n:02}") for n in range(1, 5)]))
    refused(swapped, "may be year-first or day-first: say so with --time-format")


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "microseconds", "nanoseconds"])
def test_a_unit_may_be_named(unit, tmp_path):
    """As of times so early that their size tells nothing."""
    per_second = 1000 ** ["seconds", "milliseconds", "microseconds", "nanoseconds"].index(unit)
    dataset = stamped(tmp_path / "a.csv", *(per_second * n for n in (3, 1, 2)), time_format=unit)
    assert dataset.timestamps.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["12:30:05"] * 3, "the time '12:30:05' in line 2"),
        (
            ["2014-05-13 16:53:20 XYZ"] * 3,
            "the time .* in line 2 is not valid: use Unix time or ISO 8601, or say",
        ),
        (["today"] * 3, "the time 'today' in line 2"),
        (["2014-13-01"] * 3, "the time '2014-13-01' in line 2"),
        (["13/13/2014"] * 3, "the time '13/13/2014' in line 2"),
        (
            ["5/13/2014", "5/14/2014", "2014-05-15"],
            "the time '2014-05-15' in line 4 .* use the same form, as in",
        ),
        ([AT, AT, "true"], "the time 'true' in line 4"),
    ],
)
def test_what_is_no_time_is_refused_with_its_line(times, expected, tmp_path):
    refused(write(tmp_path / "a.csv", table([("u", f"i{n}", time) for n, time in enumerate(times)])), expected)


@pytest.mark.parametrize("missing", ["NA", "null", "0000-00-00 00:00:00", "NaT", "#N/A", " "])
def test_times_that_are_missing_are_counted(missing, tmp_path):
    times = [missing, "2014-05-13", "2014-05-14", missing, "2014-05-15"]
    _, found, lines = imported(write(tmp_path / "a.csv", table([("u", f"i{n}", at) for n, at in enumerate(times)])))
    assert found == [["i1", "i2", "i4"]] and lines == ["dropped: rows without time (2)"]


def iso(time: int) -> str:
    return pd.Timestamp(time, unit="s").isoformat()


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        ({"date": lambda t: 20170714, "hourmin": lambda t: 1200, "time_ms": lambda t: t * 1000}, "time_ms"),
        ({"date": lambda t: iso(t)[:10], "time": lambda t: iso(t)[11:], "datetime": iso}, "datetime"),
        ({"time": lambda t: t % 60, "review_date": lambda t: iso(t)[:10], "ts": lambda t: t}, "ts"),
        ({"timestamp": lambda t: "", "created_at": iso}, "created_at"),
        ({"reviewTime": lambda t: '"07 14, 2017"', "unixReviewTime": lambda t: t}, "unixReviewTime"),
        ({"timestamp": lambda t: t, "eventTime": iso}, "timestamp"),
        ({"date": lambda t: iso(t)[:10], "event_time": lambda t: iso(t) + " UTC"}, "event_time"),
    ],
)
def test_the_finest_column_that_is_plausibly_a_time_is_taken_and_said(columns, taken, tmp_path):
    rows = [(row.user, row.item, *(make(row.time) for make in columns.values())) for row in ROWS]
    dataset, found, _ = imported(store(tmp_path / "a.csv", rows[::-1], ("user_id", "item_id", *columns)), ties="file")
    assert {tuple(sequence) for sequence in found} == {tuple(sequence) for sequence in RIGHT}
    assert dataset.manifest["account"][0] == f"columns: user 'user_id', item 'item_id', time '{taken}'"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda t: t % 300, "Unix seconds, reach from 1970-01-01T00:00:00"),  # how long it was played
        (lambda t: 25_569 + t / 86_400, "Unix seconds, reach from 1970-01-01"),  # days as Excel counts them
        (lambda t: f"{t % 30 + 1900}-01-01", "ISO 8601, reach from 19"),  # years of birth
    ],
)
def test_times_that_no_log_has_are_said(make, what, tmp_path):
    source = store(tmp_path / "a.csv", [(row.user, row.item, make(row.time)) for row in ROWS])
    with pytest.warns(Notice, match=f"in the column 'timestamp' as {what}.*name the column with --time or what"):
        imported(source)


def test_of_columns_that_are_no_times_the_likeliest_is_named(tmp_path):
    source = write(tmp_path / "a.csv", "user,item,date,time\n" + "u,i,soon,late\n" * 3)
    refused(source, "the time 'late' in line 2 is not valid")
