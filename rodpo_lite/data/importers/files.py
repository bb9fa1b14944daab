"""Files that people bring: their bytes, out of what packs them, their lines, JSON records and texts."""

import atexit
import bz2
import codecs
import gzip
import io
import itertools
import json
import lzma
import os
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from rodpo_lite.errors import InputError, Notice

BLOCK, BATCH = 2**20, 2**16  # bytes and rows that are read at a time
LINE_LIMIT = 16 * 2**20  # bytes: a longer line is no record of anything, and could fill the memory
BROKEN_SHARE = 0.01
TEXT_LIMIT = 2000  # characters of an item's text: a title, a category and a paragraph
MISSING = frozenset({"", "NaN", "nan", "NULL", "null", "None", "<NA>", "NaT", "\\N"})  # how tools write nothing
_WORDS = (
    "na", "n/a", "#n/a", "n.a.", "-nan", "null", "none", "nil", "(null)", "undefined", "#null!", "#ref!", "#value!",
)  # fmt: skip
# The same for ids and times, which are seldom called None, as titles may be.
ABSENT = MISSING.union(*((word, word.upper(), word.capitalize()) for word in _WORDS), ("\\n", "0000-00-00 00:00:00"))
UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)  # what a parser raises for a bad line
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException)
_NOISE = re.compile(  # letters that are no words: addresses, names of pictures, keys
    r"(?:https?://|www\.)\S+|\S+\.(?:jpe?g|png|gif|webp)\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{16,}\b", re.I
)
Batch = tuple[Sequence[int], Sequence[Sequence[Any]]]  # the lines that rows end in, and their values by column


def existing_file(path: Path, option: str) -> Path:
    """The path itself, or that of a copy of a pipe, which can be read only once; InputError if no file is there."""
    if not path.exists():
        raise InputError(f"There is no file {path}, which {option} names.")
    if path.is_dir():
        raise InputError(f"{path}, which {option} names, is a folder, but a file is needed.")
    if path.is_file():
        return path
    with path.open("rb") as pipe, tempfile.NamedTemporaryFile(prefix="rodpo-", delete=False) as copy:
        atexit.register(Path(copy.name).unlink, missing_ok=True)
        shutil.copyfileobj(pipe, copy)
    return Path(copy.name)


@contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, out of what its first bytes say that they are packed in, with progress on a terminal.

    Raises InputError for a file that is damaged, and for an archive of several files.
    """
    from tqdm import tqdm

    hidden = bool(os.environ.get("TQDM_DISABLE")) or None  # else shown on a terminal
    kind, bar = "", {"desc": path.name, "leave": False, "disable": hidden}
    with path.open("rb") as file, tqdm.wrapattr(file, "read", path.stat().st_size, **bar) as stream:
        try:
            for _ in range(3):
                if kinds := [kind for kind, (start, _) in _PACKED.items() if stream.peek(8).startswith(start)]:
                    kind = kinds[0]
                    stream = io.BufferedReader(_PACKED[kind][1](stream, path), 2**18)
            yield stream
        except DAMAGED as error:
            if isinstance(error, OSError) and error.errno:  # the disk's
                raise
            raise InputError(f"{path} is a damaged {kind} file, or was cut short; fetch it again.") from None


def _member(stream: Any, path: Path) -> Any:
    """The only file in a zip archive, beside what macOS puts there; raises InputError if there is not one."""
    archive = zipfile.ZipFile(stream)
    names = [name for name in archive.namelist() if not re.search(r"/$|(^|/)\.|^__MACOSX/", name)]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise InputError(f"{path} is a spreadsheet: save its table as CSV and import that.")
    if len(names) != 1 or archive.getinfo(names[0]).flag_bits & 1:
        listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise InputError(f"{path} is encrypted or not an archive of one file: unpack it and name a file ({listed}).")
    return archive.open(names[0])


_PACKED: dict[str, tuple[bytes, Callable[[Any, Path], Any]]] = {
    "gzip": (b"\x1f\x8b", lambda stream, _: gzip.GzipFile(fileobj=stream)),
    "bzip2": (b"BZh", lambda stream, _: bz2.BZ2File(stream)),
    "xz": (b"\xfd7zXZ\0", lambda stream, _: lzma.LZMAFile(stream)),
    "Zstandard": (b"\x28\xb5\x2f\xfd", lambda stream, _: pa.CompressedInputStream(stream, "zstd")),
    "LZ4": (b"\x04\x22\x4d\x18", lambda stream, _: pa.CompressedInputStream(stream, "lz4")),
    "zip": (b"PK", _member),
}


def read_lines(path: Path, encoding: str | None = None) -> Iterator[tuple[int, list[Any]]]:
    """Blocks of lines without their ends, text or without an encoding bytes, and the number of the first of each.

    Raises InputError for a line over LINE_LIMIT, and UnicodeError, with `line`, and `plain` if what
    is before it in the block is ASCII.
    """
    number, rest, end, decode = 1, b"", b"\n", lambda block, _: block
    if encoding:
        rest, end = "", "\n"
        decode = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True).decode
    with unpacked(path) as stream:
        for block in itertools.chain(iter(lambda: stream.read(BLOCK), b""), [b""]):
            try:
                *lines, rest = (rest + decode(block, not block)).split(end)
            except UnicodeError as error:
                before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                error.line, error.plain = number + before.count(b"\n"), before.isascii()
                raise
            yield number, lines
            number += len(lines)
            if len(rest) > LINE_LIMIT:
                raise InputError(
                    f"Line {number} of {path} is longer than {LINE_LIMIT >> 20} MiB, so it is not a record."
                )
    if rest:
        yield number, [rest]


def read_records(path: Path, parse: Callable[[bytes], Any] = json.loads) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a file with one object on each line.

    Lines that cannot be parsed are left out with a Notice. Raises InputError if they are 1 % of all lines or more.
    """
    count, broken, first = 0, 0, 0
    for begin, lines in read_lines(path):
        for number, line in enumerate(lines, start=begin):
            if not line.strip():
                continue
            count += 1
            try:
                record = parse(line)
            except UNREADABLE:
                record = None
            if isinstance(record, dict):
                yield number, record
            else:
                broken += 1
                first = first or number
    if broken and broken >= BROKEN_SHARE * count:
        raise InputError(
            f"{path} must hold one JSON object on each line, but {broken:,} of {count:,} do not, first line {first}."
        )
    if broken:
        message = f"{path}: {broken:,} of {count:,} lines are not JSON objects and were left out, first line {first}."
        warnings.warn(message, Notice, stacklevel=2)


def written(value: Any) -> Any:
    """A value without blanks around it; None where a person or a tool wrote that there is none."""
    if isinstance(value, str):
        value = value.strip(" \t\r\n\xa0\ufeff\u200b\0")
        return None if value in ABSENT else value
    return None if value != value else value  # NaN


def texts_in(value: Any, depth: int = 2) -> Iterator[str]:
    """The strings in a field, which may be a list of lists, but nothing deeper."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple) and depth:
        for part in value:
            yield from texts_in(part, depth - 1)


def join_text(parts: Iterable[str]) -> str | None:
    """The parts as one line of text, without addresses and parts that are empty; None if nothing is left."""
    lines = (" ".join(_NOISE.sub(" ", storable(part)).split()) for part in parts)
    return ". ".join(line for line in lines if line not in MISSING)[:TEXT_LIMIT] or None


def storable(text: str) -> str:
    """The text with ? for halves of characters, which JSON can express and no file can hold."""
    return text.encode("utf-8", "replace").decode()
