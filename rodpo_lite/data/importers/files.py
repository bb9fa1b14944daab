"""Files that people bring: lines and JSON records of a file, plain or gzip, and the text that their fields make."""

import gzip
import io
import json
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rodpo_lite.errors import InputError, Notice

LINE_LIMIT = 16 * 2**20  # bytes: a longer line is no record of anything, and could fill the memory
BROKEN_SHARE = 0.01
TEXT_LIMIT = 2000  # characters of an item's text: a title, a category and a paragraph
MISSING = frozenset({"", "NaN", "nan", "NULL", "null", "None", "<NA>", "NaT", "\\N"})  # how tools write nothing
UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)  # what a parser raises for a bad line


def existing_file(path: Path, option: str) -> Path:
    """The path itself; raises InputError unless something that can be read as a file is there."""
    if not path.exists():
        raise InputError(f"There is no file {path}, which {option} names.")
    if path.is_dir():
        raise InputError(f"{path}, which {option} names, is a folder, but a file is needed.")
    return path


def read_bytes(path: Path, most: Callable[[io.BufferedIOBase], bytes]) -> Iterator[bytes]:
    """What `most` takes from an open file, plain or gzip by its first bytes, until it takes nothing.

    Shows progress on a terminal. Raises InputError where a gzip file is damaged.
    """
    from tqdm import tqdm

    with path.open("rb") as raw:
        stream = raw
        if raw.peek(2)[:2] == b"\x1f\x8b":
            stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), 2**18)
        size, hidden = path.stat().st_size, None if raw.seekable() else True
        with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=hidden) as bar:
            count = 0
            try:
                while taken := most(stream):
                    yield taken
                    count += 1
                    if count % 2**14 == 0 and not bar.disable:
                        bar.update(raw.tell() - bar.n)
            except (gzip.BadGzipFile, EOFError, zlib.error):
                raise InputError(f"{path} is a damaged gzip file, or was cut short; fetch it again.") from None


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, plain or gzip, with their ends; raises InputError for a line over LINE_LIMIT bytes."""
    for number, line in enumerate(read_bytes(path, lambda stream: stream.readline(LINE_LIMIT + 1)), start=1):
        if len(line) > LINE_LIMIT:
            raise InputError(f"Line {number} of {path} is longer than {LINE_LIMIT >> 20} MiB, so it is not a record.")
        yield line


def read_records(path: Path, parse: Callable[[bytes], Any] = json.loads) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a file with one object on each line.

    Lines that cannot be parsed are left out with a Notice. Raises InputError if they are 1 % of all lines or more.
    """
    lines, broken, first = 0, 0, 0
    for number, line in enumerate(read_lines(path), start=1):
        if line.isspace():
            continue
        lines += 1
        try:
            record = parse(line)
        except UNREADABLE:
            record = None
        if isinstance(record, dict):
            yield number, record
        else:
            broken += 1
            first = first or number
    if broken and broken >= BROKEN_SHARE * lines:
        raise InputError(
            f"{path} must hold one JSON object on each line, but {broken:,} of {lines:,} do not, first line {first}."
        )
    if broken:
        message = f"{path}: {broken:,} of {lines:,} lines are not JSON objects and were left out, first line {first}."
        warnings.warn(message, Notice, stacklevel=2)


def join_text(parts: Iterable[str]) -> str | None:
    """The parts as one line of text, without those that are empty; None if nothing is left."""
    lines = (" ".join(storable(part).split()) for part in parts)
    return ". ".join(line for line in lines if line not in MISSING)[:TEXT_LIMIT] or None


def storable(text: str) -> str:
    """The text with ? for halves of characters, which JSON can express and no file can hold."""
    return text.encode("utf-8", "replace").decode()
