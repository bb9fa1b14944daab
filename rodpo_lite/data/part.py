"""What has arrived of a file: NAME.part, beside which NAME.part.json says where it comes from."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from rodpo_lite.errors import InputError


class Origin(BaseModel):
    """What a part is the beginning of; validator: ETag or Last-Modified; size in bytes, None if it was not said."""

    url: str = ""
    validator: str | None = None
    size: int | None = None


class Part:
    """NAME.part, which no other process has at the same time; length in bytes. Raises InputError where one has it."""

    def __init__(self, target: Path) -> None:
        self.path, self._about = (target.with_name(target.name + end) for end in (".part", ".part.json"))
        self.name, self._stream, self.origin = target.name, _locked(self.path), Origin()
        self.length = os.fstat(self._stream.fileno()).st_size
        with suppress(OSError, ValueError):
            self.origin = Origin.model_validate_json(self._about.read_bytes())

    def begin(self, origin: Origin) -> None:
        """Start over, from another origin; bytes go first, so that a kill leaves none under the wrong origin."""
        self.clear()
        self._about.write_text(origin.model_dump_json(), encoding="utf-8")
        self.origin = origin

    def write(self, chunk: bytes) -> None:
        """Append, without a buffer."""
        rest = memoryview(chunk)
        while rest:
            written = self._stream.write(rest)
            self.length, rest = self.length + written, rest[written:]

    def clear(self) -> None:
        """Throw away what has arrived."""
        self._stream.truncate(0)
        self.length = 0

    def finish(self, target: Path) -> None:
        """Make it the file, at once."""
        os.fsync(self._stream.fileno())
        os.replace(self.path, target)
        self._about.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it; one without a byte is removed."""
        if not self.length:
            self._about.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._stream.close()


def _locked(path: Path) -> BinaryIO:
    while True:
        stream = path.open("ab", buffering=0)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise InputError(f"Another process is fetching {path.with_suffix('')}: wait until it is done.") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()  # the other process has just renamed or removed it
