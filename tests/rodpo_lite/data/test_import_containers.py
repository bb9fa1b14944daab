"""Containers and tables with types: whatever the first bytes of a file say that it is, and what is not read."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pytest
from import_cases import log, sequences, text
from importing import imported, refused, write

ROWS = log()
RIGHT = sequences(ROWS)


def zipped(content: bytes, *more: str, name: str = "log.csv") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        for other in more:
            archive.writestr(other, "x")
    return packed.getvalue()


def by_arrow(codec: str):
    return lambda content: pa.Codec(codec).compress(content, asbytes=True)


def streamed(codec: str):
    def pack(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()

    return pack


PACKED = {
    "gzip": gzip.compress,
    "two members": lambda content: gzip.compress(content[:1000]) + gzip.compress(content[1000:]),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": streamed("zstd"),
    "lz4": streamed("lz4"),
    "zip": zipped,
    "zip by a Mac": lambda content: zipped(content, "__MACOSX/._log.csv", ".DS_Store", "folder/"),
    "zip of gzip": lambda content: zipped(gzip.compress(content), name="log.csv.gz"),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_containers_are_known_by_their_first_bytes_whatever_their_names(pack, tmp_path):
    assert imported(write(tmp_path / "log.csv", pack(text(ROWS).encode())))[1] == RIGHT


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd", "lz4", "zip"])
def test_a_container_that_is_cut_short_is_damaged(name, tmp_path):
    packed = PACKED[name](text(log(300, 400)).encode())
    refused(write(tmp_path / "a", packed[: len(packed) // 2]), "is a damaged .* file, or was cut short; fetch it again")


def test_archives_of_more_than_a_table_say_what_to_do(tmp_path):
    content = text(ROWS).encode()
    refused(
        write(tmp_path / "a", zipped(content, "movies.csv")),
        r"archive of one file: unpack it .*\(log.csv, movies.csv\)",
    )
    refused(write(tmp_path / "b", zipped(content, "[Content_Types].xml")), "is a spreadsheet: save its table as CSV")
    encrypted = bytearray(zipped(content))
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\1\2") + 8] |= 1
    refused(write(tmp_path / "c", bytes(encrypted)), "is encrypted or not an archive of one file")


@pytest.mark.parametrize(
    ("start", "what"),
    [(b"SQLite format 3\0", "an SQLite database"), (b"\x80\x05\x95", "a pickle"), (b"\x89HDF\r\n", "an HDF5 file"),
     (b"<!DOCTYPE html>", "a web page"), (b"\xd0\xcf\x11\xe0", "an old Excel workbook")],
)  # fmt: skip
def test_what_holds_tables_in_other_ways_is_named(start, what, tmp_path):
    refused(
        write(tmp_path / "a", start + b"x" * 999), f"is {what}, which is not read: give its table as CSV or Parquet"
    )


FRAME = pd.DataFrame(ROWS, columns=["user_id", "item_id", "timestamp"])
TYPED = {
    "parquet": lambda frame, path: frame.to_parquet(path, index=False),
    "parquet with an index": lambda frame, path: frame.set_index("user_id").to_parquet(path),
    "feather": lambda frame, path: pa.feather.write_feather(frame, str(path), compression="zstd"),
    "orc": lambda frame, path: pa.orc.write_table(pa.Table.from_pandas(frame, preserve_index=False), str(path)),
}
WAYS = {
    "as text": lambda frame: frame,
    "categories": lambda frame: frame.astype({"user_id": "category", "item_id": "category"}),
    "times": lambda frame: frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="s")),
    "times with a zone": lambda frame: frame.assign(
        timestamp=pd.to_datetime(frame["timestamp"], unit="s", utc=True).dt.tz_convert("Asia/Tokyo")
    ),
    "fractions": lambda frame: frame.assign(timestamp=frame["timestamp"] + 0.25),
}


@pytest.mark.parametrize("save", TYPED.values(), ids=TYPED)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_files_with_types(save, way, tmp_path):
    frame = way(FRAME)
    if "category" in str(frame["user_id"].dtype) and save is TYPED["orc"]:
        pytest.skip("ORC has no categories")
    save(frame, tmp_path / "log.csv")
    dataset, found, _ = imported(tmp_path / "log.csv")
    assert found == RIGHT and dataset.user_ids[0] == "u0"
    assert dataset.timestamps[0] == ROWS[0].time


def test_numbers_that_pandas_made_fractions_are_ids_and_columns_are_chosen(tmp_path):
    """A column of whole numbers with one that is missing has fractions in pandas."""
    frame = pd.DataFrame([(float(row.user[1:]), int(row.item[1:]), row.time, [1.0]) for row in ROWS])
    frame.columns = ["user_id", "item_id", "timestamp", "other"]
    frame.loc[0, "user_id"] = None
    frame.to_parquet(tmp_path / "a")
    dataset, _, lines = imported(tmp_path / "a")
    assert dataset.user_ids[:2] == ["0", "1"] and lines == ["dropped: rows without user (1)"]
    refused(
        tmp_path / "a",
        "has no column 'who' for --user; its columns are 'user_id', 'item_id', 'timestamp', 'other'",
        user="who",
    )
    frame.assign(timestamp="soon").to_parquet(tmp_path / "b")
    refused(tmp_path / "b", "the time 'soon' in row 2 is not valid")
    whole = (tmp_path / "a").read_bytes()
    refused(write(tmp_path / "c", whole[: len(whole) // 2]), "is a damaged parquet file")
    refused(write(tmp_path / "d", gzip.compress(whole)), "is a damaged parquet file, or packed once more: .*unpack it")


@pytest.mark.parametrize("mark", ["", "\ufeff", "\n"])
def test_json_lines(mark, tmp_path):
    records = [
        {"user_id": int(row.user[1:]), "item_id": row.item, "timestamp": row.time, "tags": ["a"]} for row in ROWS
    ]
    source = write(tmp_path / "a", mark + "".join(json.dumps(record) + "\n" for record in records))
    dataset, found, _ = imported(source)
    assert found == RIGHT and dataset.user_ids[:2] == ["0", "1"]
    records[9]["timestamp"] = "soon"
    refused(write(source, "\n".join(map(json.dumps, records))), "the time 'soon' in line 10 is not valid")
    refused(write(source, json.dumps(records, indent=1)), "no user column|must hold one JSON object on each line")
