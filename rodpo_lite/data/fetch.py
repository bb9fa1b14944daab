"""Fetch the public originals of a dataset into a folder, resumed after a cut or a kill and checked by checksum.

By hand over requests: pooch 1.9, given the same files and servers, throws away what has arrived when a connection ends,
overwrites a file of the user's own, unpacks a .gz that a server calls an encoding and, where no checksum is known yet,
takes a web page, half a file, or a redirect to any host.
"""

import gzip
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from rodpo_lite.data.features import require
from rodpo_lite.data.originals import ORIGINALS, Checksums, File, Pin, read_originals
from rodpo_lite.data.schema import sha256
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, write_json

requests: Any = require("requests", "requests", "Downloads")
urllib3: Any = require("urllib3.exceptions", "requests", "Downloads")

CHUNK = 2**16  # bytes that are read at a time, and the most that is lost when a connection ends
ATTEMPTS, PAUSE = 4, 1.0  # attempts at an address, and seconds before the second, doubled before each further one
PROGRESS = 2**20  # bytes: after an attempt that brought as many, they are counted anew


class SourceError(Exception):
    """This address cannot give the file; another one may."""


class InterruptedDownload(Exception):
    """The connection failed: worth another attempt, which goes on from there."""


def fetch(
    name: str, out: Path, roles: Sequence[str], max_gib: float = 20, timeout: float = 30, originals: Path | None = None
) -> Iterator[str]:
    """Fetch files of an original into the folder `out`; yields a line about each, its terms, and what to run next.

    max_gib: limit of each file. timeout: seconds without a byte. originals: the list [default: the project's]. Raises
    InputError for a name, a role or a limit that is not valid, and for a file that cannot be fetched or has changed.
    """
    originals = originals or ORIGINALS
    entries = read_originals(originals)
    if name not in entries:
        raise InputError(f"There is no original {name!r}: choose one of {', '.join(entries)}.")
    entry = entries[name]
    if unknown := [role for role in roles if role not in entry.files]:
        raise InputError(f"The role {unknown[0]!r} is not valid: {name} has {', '.join(entry.files)}.")
    if not (0 < max_gib < 2**20 and 0 < timeout <= 3600):
        raise InputError(
            f"--max-gib {max_gib:g} must be above 0 and below a million, and --timeout {timeout:g} above 0 and at most "
            "3600."
        )
    for role in dict.fromkeys(roles):
        file = entry.files[role]
        try:
            out.mkdir(parents=True, exist_ok=True)
            line = Download(file, f"{name}/{file.name}", out, Checksums(originals, out), max_gib, timeout).run()
        except OSError as error:  # that of a full disk does not say which file it is about
            path = error.filename or out / file.name
            raise InputError(f"{path} cannot be read or written: {error.strerror or error}.") from None
        yield line
    yield f"{entry.note} {entry.homepage}"
    if command := entry.import_command(name, out):
        yield f"next: {command}"


@dataclass
class Download:
    """One file on its way into a folder: NAME.part has what has arrived, and NAME.part.json says from where.

    key: its name in the record of checksums. The origin of a part: its address, and an ETag or Last-Modified.
    """

    file: File
    key: str
    folder: Path
    checksums: Checksums
    max_gib: float
    timeout: float

    def __post_init__(self):
        self.part, self.origin_file = (self.folder / f"{self.file.name}.part{end}" for end in ("", ".json"))

    def run(self) -> str:
        """Fetch the file unless it is there, in one process at a time; returns a line that says what was done."""
        target, lock = self.folder / self.file.name, self.folder / f"{self.file.name}.part.lock"
        if target.is_dir():
            raise InputError(f"{target} is a folder, where a file is to be: remove it, or choose another folder.")
        if not target.exists():
            try:
                with FileLock(lock, timeout=0):
                    line = "" if target.exists() else self._fetch(target)  # another process may just have finished it
                    lock.unlink(missing_ok=True)  # not before the file is there, which no process fetches again
            except Timeout:
                raise InputError(f"Another process is fetching {target}: wait until it is done.") from None
            if line:
                return line
        if (known := self.checksums.known(self.key, self.file)) is None:
            return f"{target}: there already, unverified, for no checksum of it is known"
        expected, where = known
        if (digest := sha256(target)) != expected:
            raise InputError(
                f"{target} is there already with SHA-256 {digest}, but {where} expects {expected}: remove the file to "
                "fetch it again, or choose another folder."
            )
        return f"{target}: there already, verified"

    def _fetch(self, target: Path) -> str:
        """Fetch the file from the first address that has it, that of the part before all others."""
        known, origin, failures = self.checksums.known(self.key, self.file) is not None, self._origin(), []
        for url in sorted(self.file.urls, key=lambda url: url != origin.get("url")):
            try:
                self._receive(url, known)
                state, size = self._verify(url), self._length()
                os.replace(self.part, target)
                self.origin_file.unlink(missing_ok=True)
                return f"{target}: {size:,} bytes, {state}"
            except SourceError as error:
                failures.append(f"{url} {error}")
        if not (size := self._length()):
            self._clear()
        resumed = f", and it goes on from the {size:,} bytes that have arrived" if size else ""
        reasons = ", and ".join(failures)
        raise InputError(f"{self.file.name} was not fetched, because {reasons}: run it again later{resumed}.")

    def _receive(self, url: str, known: bool) -> None:
        """Bring all bytes from an address into the part, in a few attempts; known: whether there is a checksum."""
        failures = 0
        while True:
            before = self._length()
            try:
                return self._attempt(url, known)
            except InputError:
                raise
            except requests.exceptions.SSLError:
                raise SourceError("has a certificate that is not accepted") from None
            except (requests.exceptions.Timeout, urllib3.ReadTimeoutError):
                reason = f"sends nothing for {self.timeout:g} s"
            except requests.exceptions.ConnectionError:
                reason = "cannot be reached"
            except (requests.exceptions.RequestException, ValueError) as error:  # redirected to what is no address
                raise SourceError(f"cannot be asked for ({type(error).__name__})") from None
            except urllib3.HTTPError:
                reason = "ends the connection too early"
            except InterruptedDownload as error:
                reason = str(error)
            failures = 1 if self._length() >= before + PROGRESS else failures + 1
            if failures == ATTEMPTS:
                raise SourceError(reason)
            time.sleep(PAUSE * 2 ** (failures - 1))

    def _attempt(self, url: str, known: bool) -> None:
        """Ask for what is missing, or for all where a wrong continuation would not come to light."""
        origin, headers = self._origin(), {"Accept-Encoding": "identity"}  # a .gz is not to be unpacked
        validator = origin.get("validator")
        start = self._length() if origin.get("url") == url and (validator or known) else 0
        if start:
            headers |= {"Range": f"bytes={start}-"} | ({"If-Range": validator} if validator else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            status, given, host = response.status_code, response.headers, urlsplit(response.url).hostname
            if host not in {urlsplit(listed).hostname for listed in self.file.urls}:
                raise SourceError(f"redirects to the host {host!r}, which the list does not name for this file")
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise SourceError(f"redirects from https to http at the host {host!r}")
            span, current = given.get("Content-Range", ""), given.get("ETag") or given.get("Last-Modified")
            if start and status == 416 and span == f"bytes */{start}":
                return  # nothing is missing
            if start and status in (206, 416):
                if not span.startswith(f"bytes {start}-") or current not in (None, validator):
                    self._clear()
                    raise InterruptedDownload("has changed the file meanwhile")
            elif status != 200:
                passing = status in (408, 425, 429) or status >= 500
                raise (InterruptedDownload if passing else SourceError)(f"answers {status}")
            elif "html" in given.get("Content-Type", ""):
                raise SourceError("sends a web page instead")
            elif given.get("Content-Encoding", "identity") != "identity" and not self.file.name.endswith(".gz"):
                raise SourceError("sends it in another encoding")
            else:
                self._clear()  # bytes go first, so that a kill leaves none under the wrong origin
                write_json(self.origin_file, {"url": url, "validator": current})
            self._append(url, response.raw)

    def _append(self, url: str, body: Any) -> None:
        """Append what is sent to the part, with progress on a terminal."""
        from tqdm.auto import tqdm

        hidden = bool(os.environ.get("TQDM_DISABLE")) or None  # else shown on a terminal
        look = {"desc": self.file.name, "unit": "B", "unit_scale": True, "leave": False, "disable": hidden}
        length = self._length()
        size = None if body.length_remaining is None else length + body.length_remaining
        with self.part.open("ab") as stream, tqdm(total=size, initial=length, **look) as bar:
            while chunk := body.read(CHUNK, decode_content=False):
                length += len(chunk)
                if (least := max(length, size or 0)) > self.max_gib * 2**30:
                    raise InputError(
                        f"{url} has at least {least:,} bytes, more than --max-gib {self.max_gib:g} allows: raise it, "
                        f"or remove what has arrived, {self.part}."
                    )
                stream.write(chunk)
                bar.update(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())
        if size and length < size:
            raise InterruptedDownload(f"sends only {length:,} of {size:,} bytes")

    def _verify(self, url: str) -> str:
        """Compare what has arrived with its checksum, or record that; throws it away if it cannot be right."""
        first, digest = self.checksums.known(self.key, self.file) is None, sha256(self.part)
        if first:
            if problem := self._problem():
                self._clear()
                raise SourceError(problem)
            self.checksums.keep(self.key, Pin(sha256=digest, size=self._length(), url=url))
        expected, where = self.checksums.known(self.key, self.file)
        if digest != expected:
            self._clear()
            raise SourceError(
                f"sends a file with SHA-256 {digest}, while {expected} is expected (if the publisher has replaced it, "
                f"remove the checksum of {self.key} from {where})"
            )
        return f"unverified: its checksum was not known, and is now in {where}" if first else "verified"

    def _problem(self) -> str | None:
        """What shows, without a checksum, that this cannot be the file."""
        if not self._length():
            return "sends an empty file"
        if self.file.name.endswith(".gz"):
            try:
                with gzip.open(self.part) as stream:
                    while stream.read(2**20):
                        pass
            except (gzip.BadGzipFile, EOFError, zlib.error):
                return "does not send a whole gzip file"
        return None

    def _length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _origin(self) -> dict[str, Any]:
        with suppress(InputError):
            return read_json(self.origin_file)
        return {}

    def _clear(self) -> None:
        self.part.unlink(missing_ok=True)
        self.origin_file.unlink(missing_ok=True)
