"""Public originals into a folder: what is not there is downloaded, from the first address that has it, and checked."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rodpo_lite.data.download import OtherFile, Source, WrongSource
from rodpo_lite.data.features import require
from rodpo_lite.data.originals import ORIGINALS, Checksums, File, Pin, read_originals
from rodpo_lite.data.part import Part
from rodpo_lite.errors import InputError


def fetch(
    name: str,
    out: Path,
    roles: Sequence[str],
    max_gib: float = 20,
    timeout: float = 30,
    originals: Path | None = None,
) -> Iterator[str]:
    """Fetch files of an original into the folder `out`; yields a line about each, its terms, and what to run next.

    max_gib: limit of each file. timeout: seconds without a byte. originals: the list [default: the project's]. Raises
    InputError for a name, a role or a limit that is not valid, and for a file that cannot be fetched or is another one
    than before.
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
    require("requests", "requests", "Downloads")
    with _told(out):
        out.mkdir(parents=True, exist_ok=True)
    for role in dict.fromkeys(roles):
        file = entry.files[role]
        with _told(out / file.name):
            line = _Fetch(file, f"{name}/{file.name}", out, Checksums(originals, out), max_gib, timeout).run()
        yield line
    yield f"{entry.note} {entry.homepage}"
    if command := entry.import_command(name, out):
        yield f"next: {command}"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the file system as InputError: that of a full disk does not say which file it is about."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read or written: {error.strerror or error}.") from None


@dataclass(frozen=True)
class _Fetch:
    """One file on its way into a folder; key: its name in the record of checksums."""

    file: File
    key: str
    folder: Path
    checksums: Checksums
    max_gib: float
    timeout: float

    def run(self) -> str:
        """Fetch the file unless it is there; returns what was done, and raises InputError if it is not there then."""
        target = self.folder / self.file.name
        if target.is_dir():
            raise InputError(f"{target} is a folder, where a file is to be: remove it, or choose another folder.")
        if not target.exists():
            with closing(Part(target)) as part:
                if not target.exists():  # else another process has just finished it
                    state = self._brought(part)
                    part.finish(target)
                    return f"{target}: {part.length:,} bytes, {state}"
        with suppress(OSError):
            target.with_name(f"{target.name}.part.json").unlink()  # a kill may have left it
        known = self.checksums.known(self.key, self.file)
        if known is None:
            return f"{target}: there already, unverified, for no checksum of it is known"
        if (found := _sha256(target)) != known.sha256:
            raise InputError(
                f"{target} is there already with SHA-256 {found}, but {known.where} expects {known.sha256}: remove the "
                "file to fetch it again, or choose another folder."
            )
        return f"{target}: there already, verified"

    def _brought(self, part: Part) -> str:
        """All bytes of the file; returns whether they are verified."""
        known = self.checksums.known(self.key, self.file)
        hosts, size = frozenset(urlsplit(url).hostname for url in self.file.urls), known.size if known else None
        failures, replaced = [], False
        for url in sorted(self.file.urls, key=lambda url: url != part.origin.url):
            try:
                Source(url, hosts, size, known is not None, self.max_gib, self.timeout).receive(part)
                return self._checked(part, url)
            except WrongSource as error:
                failures.append(f"{url} {error}")
                replaced = replaced or isinstance(error, OtherFile)
        advice = "run it again later"
        if replaced:
            where = self.checksums.known(self.key, self.file).where
            advice = f"if the publisher has replaced it, remove the checksum of {self.key} from {where}"
        elif part.length:
            advice += f", and it goes on from the {part.length:,} bytes that have arrived"
        raise InputError(f"{self.file.name} was not fetched, because {', and '.join(failures)}: {advice}.")

    def _checked(self, part: Part, url: str) -> str:
        """Whether all that has arrived is verified; if it cannot be right, throws it away and raises WrongSource."""
        try:
            found, known = _sha256(part.path), self.checksums.known(self.key, self.file)
            first = known is None
            if first:
                self._whole(part)
                known = self.checksums.keep(self.key, Pin(sha256=found, size=part.length, url=url))
            if found != known.sha256:
                raise OtherFile(f"sends a file with SHA-256 {found}, while {known.sha256} is expected")
        except WrongSource:
            part.clear()
            raise
        return f"unverified: its checksum was not known, and is now in {known.where}" if first else "verified"

    def _whole(self, part: Part) -> None:
        """Raise WrongSource for an empty file, and for a .gz that cannot be read to its end."""
        if not part.length:
            raise WrongSource("sends an empty file")
        if not self.file.name.endswith(".gz"):
            return
        try:
            with gzip.open(part.path) as stream:
                while stream.read(2**20):
                    pass
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise WrongSource("does not send a whole gzip file") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
