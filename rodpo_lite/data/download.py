"""All bytes of a file from one address over HTTP, in as many attempts as that takes, into a part."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from rodpo_lite.data.part import Origin, Part
from rodpo_lite.errors import InputError

CHUNK = 2**16  # bytes that are read at a time, and the most that is lost when a connection ends
STEP = 2**20  # bytes: an attempt that brought as many more does not count
ATTEMPTS, PAUSE = 4, 1.0  # attempts at an address, and seconds before the second, doubled before each further one
REDIRECTS = 5


class WrongSource(Exception):
    """This address cannot give the file; another one may."""


class OtherFile(WrongSource):
    """This address gives another file than the one that is known."""


class _Cut(Exception):
    """The connection failed: worth another attempt, which goes on from there."""


@dataclass(frozen=True)
class Source:
    """One address of a file.

    hosts: those that it may redirect to. size: of the file in bytes, None if unknown. checked: whether its checksum is
    known, so that a wrong continuation comes to light. max_gib: limit of its size. timeout: seconds without a byte.
    """

    url: str
    hosts: frozenset[str | None]
    size: int | None
    checked: bool
    max_gib: float
    timeout: float

    def receive(self, part: Part) -> None:
        """Bring all bytes into the part, in a few attempts.

        Raises WrongSource if this address cannot give them, and InputError for a file over the limit.
        """
        attempt, furthest = 1, part.length
        while True:
            try:
                return self._attempt(part)
            except _Cut as error:
                attempt = 1 if part.length >= furthest + STEP else attempt + 1
                furthest = max(furthest, part.length)
                if attempt > ATTEMPTS:
                    raise WrongSource(str(error)) from None
                time.sleep(PAUSE * 2 ** max(attempt - 2, 0))

    def _attempt(self, part: Part) -> None:
        validator, headers = part.origin.validator, {"Accept-Encoding": "identity"}  # a .gz is not to be unpacked
        resumed = part.length > 0 and part.origin.url == self.url and (self.checked or validator is not None)
        if resumed and part.length == part.origin.size:
            return
        if resumed:
            headers |= {"Range": f"bytes={part.length}-"} | ({"If-Range": validator} if validator else {})
        with self._session() as session, self._answer(session, headers) as response:
            if response.status_code == 200:
                self._begin(part, response.headers)
            elif not resumed or response.status_code not in (206, 416):
                raise _refusal(response.status_code)
            elif response.headers.get("Content-Range") == f"bytes */{part.length}":
                return  # its size was not known, and nothing is missing
            elif not self._continues(part, response):
                part.clear()
                raise _Cut("has changed the file meanwhile")
            self._copy(part, response)

    def _session(self) -> Any:
        """One that never looks where a redirect leads, as it would read that response's whole body for it."""
        from requests import Session

        session = Session()
        session.get_redirect_target = lambda response: None
        return session

    def _answer(self, session: Any, headers: dict[str, str]) -> Any:
        """The response after all redirects, its body unread."""
        from requests import exceptions

        url = self.url
        for _ in range(REDIRECTS + 1):
            try:
                response = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=self.timeout)
            except exceptions.SSLError:
                raise WrongSource("has a certificate that is not accepted") from None
            except exceptions.Timeout:
                raise _Cut(f"does not answer within {self.timeout:g} s") from None
            except exceptions.ConnectionError:
                raise _Cut("cannot be reached") from None
            except exceptions.RequestException as error:
                raise WrongSource(f"cannot be asked for ({type(error).__name__})") from None
            if not response.is_redirect:
                return response
            response.close()
            url = _redirected(url, response.headers["Location"], self.hosts)
        raise WrongSource("redirects too often")

    def _begin(self, part: Part, headers: Any) -> None:
        """Start over with a response that holds the whole file."""
        if "html" in headers.get("Content-Type", ""):
            raise WrongSource("sends a web page instead")
        if headers.get("Content-Encoding", "identity") != "identity" and not part.name.endswith(".gz"):
            raise WrongSource("sends it in another encoding")
        length = "" if "Transfer-Encoding" in headers else headers.get("Content-Length", "")
        size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        self._within_limits(size)
        part.begin(Origin(url=self.url, validator=_validator(headers), size=size))

    def _continues(self, part: Part, response: Any) -> bool:
        """Whether a response goes on where the part ends, and is about the same file."""
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", response.headers.get("Content-Range", ""))
        if response.status_code != 206 or not found or int(found[1]) != part.length:
            return False
        size = part.origin.size if found[2] == "*" else int(found[2])
        if part.origin.size not in (None, size) or _validator(response.headers) not in (None, part.origin.validator):
            return False
        self._within_limits(size)
        part.origin = part.origin.model_copy(update={"size": size})
        return True

    def _within_limits(self, size: int | None) -> None:
        if size is not None and size > self.max_gib * 2**30:
            raise InputError(
                f"{self.url} has {size:,} bytes, more than --max-gib {self.max_gib:g} allows: raise it to fetch them."
            )
        if size is not None and self.size not in (None, size):
            raise OtherFile(f"has {size:,} bytes, while {self.size:,} are expected")

    def _copy(self, part: Part, response: Any) -> None:
        """Append the body to the part, with progress on a terminal."""
        from tqdm import tqdm

        size, at = part.origin.size, part.length
        with tqdm(total=size, initial=at, desc=part.name, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            for chunk in self._chunks(response):
                reached = part.length + len(chunk)
                if size is not None and reached > size:
                    part.clear()
                    raise WrongSource(f"sends more than the {size:,} bytes that it announces")
                if reached > self.max_gib * 2**30:
                    raise InputError(
                        f"{self.url} sends more than --max-gib {self.max_gib:g} allows: raise it to go on, or remove "
                        f"{part.path}."
                    )
                part.write(chunk)
                bar.update(len(chunk))
        if size is not None and part.length < size:
            raise _Cut(f"sends only {part.length:,} of {size:,} bytes")

    def _chunks(self, response: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        try:
            while chunk := response.raw.read(CHUNK, decode_content=False):
                yield chunk
        except ReadTimeoutError:
            raise _Cut(f"sends nothing for {self.timeout:g} s") from None
        except HTTPError:
            raise _Cut("ends the connection too early") from None


def _refusal(status: int) -> Exception:
    """Of a status that brings no file: one that may pass, or one that stays."""
    return (_Cut if status in (408, 425, 429) or status >= 500 else WrongSource)(f"answers {status}")


def _validator(headers: Any) -> str | None:
    """What tells one version of a file from another; a weak ETag does not."""
    tag = headers.get("ETag", "W/")
    return headers.get("Last-Modified") if tag.startswith("W/") else tag


def _redirected(url: str, location: str, hosts: frozenset[str | None]) -> str:
    """Where a redirect leads; raises WrongSource unless it is one of the hosts, and as safe."""
    try:
        target = urljoin(url, location)
        found = urlsplit(target)
        host = found.hostname
    except ValueError:
        raise WrongSource("redirects to what is no address") from None
    if host not in hosts:
        raise WrongSource(f"redirects to the host {host!r}, which the list does not name for this file")
    if found.scheme != "https" and (found.scheme != "http" or urlsplit(url).scheme == "https"):
        raise WrongSource(f"redirects from {urlsplit(url).scheme} to {found.scheme} at the host {host!r}")
    return target
