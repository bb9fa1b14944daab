"""Downloads from a server on this machine that behaves as badly as it is told to, by the command line."""

import gzip
import hashlib
import json
import os
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from importing import PLAIN

from rodpo_lite import files
from rodpo_lite.cli import main
from rodpo_lite.data import download, originals
from rodpo_lite.data.importers import FORMATS

CONTENT = gzip.compress(random.Random(0).randbytes(400_000))
HALF = 200_000
NAME = "reviews.json.gz"


@dataclass
class Answer:
    """An answer to one request; announce: its Content-Length, -1 for none; stop: bytes after which the body ends."""

    content: bytes = CONTENT
    status: int = 200
    tag: str | None = '"1"'
    ranges: bool = True
    announce: int | None = None
    stop: int | None = None
    stall: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """A server; each path has answers, of which the last one is repeated. asked: path and Range of every request."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str = "/a", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(site):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answers = site.answers.get(self.path, [Answer(b"", 404)])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                asked, if_range = self.headers.get("Range"), self.headers.get("If-Range")
                site.asked.append((self.path, asked))
                status, start, headers = answer.status, 0, dict(answer.headers)
                if asked and answer.ranges and status == 200 and if_range in (None, answer.tag):
                    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                    status, size = 206, len(answer.content)
                    headers.setdefault("Content-Range", f"bytes {start}-{size - 1}/{size}")
                    if start >= size:
                        status, headers["Content-Range"] = 416, f"bytes */{size}"
                body = answer.content[start:]
                if answer.tag:
                    headers["ETag"] = answer.tag
                if answer.announce != -1:
                    headers["Content-Length"] = len(body) if answer.announce is None else answer.announce
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, str(value))
                self.end_headers()
                self.wfile.write(body[: answer.stop])
                self.wfile.flush()
                if answer.stall:
                    site.closed.wait(20)

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0.001)
    site = Site()
    yield site
    site.close()


@pytest.fixture
def rodpo(monkeypatch, capsys):
    """The command line in this process: exit code, what it printed, and what it said on standard error."""

    def command(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rodpo", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def fetch(site, rodpo, tmp_path):
    """`rodpo data fetch` of one file from these addresses into `tmp_path / "out"`; it fails with a sentence, or not."""

    def command(*urls: str, refusal: str | None = None, sha256: str | None = None, **options) -> str:
        listed(tmp_path, urls or [site.url()], sha256)
        given = {"timeout": 5, "roles": "interactions"} | options
        words = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]
        code, out, err = rodpo(
            "data", "fetch", "tiny", "--out", tmp_path / "out", "--originals", tmp_path / "originals.yml", *words
        )
        if refusal is None:
            assert code == 0, err
            return out
        assert_sentence(code, err, refusal)
        assert not (tmp_path / "out" / NAME).exists()
        return err

    return command


def listed(folder: Path, urls, sha256: str | None = None, name: str = NAME) -> Path:
    file = {"name": name, "urls": list(urls), "sha256": sha256}
    entry = {"format": "amazon2014", "homepage": "https://here.example", "note": "For you.", "files": {}}
    entry["files"]["interactions"] = file
    path = folder / "originals.yml"
    path.write_text(yaml.safe_dump({"tiny": entry}))
    return path


def assert_sentence(code: int, err: str, match: str) -> None:
    message = err.strip()
    assert code == 2 and message.startswith("rodpo: ") and message.endswith(".") and "\n" not in message, err
    assert re.search(match, message), message


def there(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").iterdir()}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pins(folder: Path) -> dict:
    return json.loads((folder / "originals.lock.json").read_text())


def test_a_file_is_fetched_pinned_and_from_then_on_verified(site, fetch, rodpo, tmp_path):
    site.answers["/a"] = [Answer()]
    out = fetch()
    assert "unverified" in out and "For you. https://here.example" in out
    assert there(tmp_path) == {NAME} and (tmp_path / "out" / NAME).read_bytes() == CONTENT
    assert pins(tmp_path) == {f"tiny/{NAME}": {"sha256": digest(CONTENT), "size": len(CONTENT), "url": site.url()}}
    assert "there already, verified" in fetch() and len(site.asked) == 1
    (tmp_path / "out" / NAME).unlink()
    assert "bytes, verified" in fetch() and len(site.asked) == 2
    (tmp_path / "out" / NAME).write_bytes(b"mine")
    code, _, err = rodpo("data", "fetch", "tiny", "--out", tmp_path / "out", "--originals", tmp_path / "originals.yml",
                         "--roles", "interactions")  # fmt: skip
    assert_sentence(code, err, f"is there already with SHA-256 {digest(b'mine')}, .* expects {digest(CONTENT)}: remove")
    assert (tmp_path / "out" / NAME).read_bytes() == b"mine"


def test_a_later_different_file_is_refused(site, fetch, tmp_path):
    site.answers["/a"] = [Answer()]
    fetch()
    (tmp_path / "out" / NAME).unlink()
    other = bytearray(CONTENT)
    other[-1] ^= 1
    site.answers["/a"] = [Answer(bytes(other), tag='"2"')]
    err = fetch(refusal=f"{digest(bytes(other))}, while {digest(CONTENT)} is expected: if the publisher has replaced")
    assert f"remove the checksum of tiny/{NAME} from {tmp_path / 'originals.lock.json'}" in err
    assert there(tmp_path) == set()
    site.answers["/a"] = [Answer(CONTENT + b"more")]
    fetch(refusal="bytes, while .* are expected: if the publisher has replaced")
    assert pins(tmp_path)[f"tiny/{NAME}"]["sha256"] == digest(CONTENT)


def test_the_command_that_is_printed_imports_the_file(site, fetch, rodpo, tmp_path):
    rows = [{"reviewerID": u, "asin": i, "unixReviewTime": 10**9 + t, "overall": 5.0} for u, i, t in PLAIN]
    site.answers["/a"] = [Answer(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))]
    command = fetch().splitlines()[-1].removeprefix("next: ")
    code, out, err = rodpo(*shlex.split(command)[1:])
    assert code == 0 and "2 users, 4 items, 6 interactions" in out, err


def test_a_cut_connection_is_resumed_where_it_ended(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(stop=HALF), Answer(stop=100_000), Answer()]
    fetch()
    starts = [int(asked[6:-1]) for _, asked in site.asked[1:]]
    assert HALF - download.CHUNK <= starts[0] <= HALF < starts[1] <= HALF + 100_000
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_attempts_end_and_the_next_call_goes_on(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(stop=HALF), Answer(status=503)]
    fetch(refusal="answers 503: run it again later, and it goes on from the [0-9,]+ bytes")
    assert len(site.asked) == download.ATTEMPTS and there(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}
    site.answers["/a"] = [Answer()]
    fetch()
    assert site.asked[-1][1] and there(tmp_path) == {NAME}


def test_a_server_that_stalls(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(stop=HALF, stall=True), Answer(stop=0, stall=True), Answer()]
    fetch(timeout=0.3)
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT
    assert [asked is not None for _, asked in site.asked] == [False, True, True]


def test_a_server_that_promises_more_than_it_has(site, fetch):
    site.answers["/a"] = [Answer(announce=len(CONTENT) + 10, tag=None)]
    fetch(refusal="ends the connection too early|sends only")


def test_a_server_that_promises_less_than_it_has(site, fetch, tmp_path, monkeypatch):
    site.answers["/a"] = [Answer(announce=1000)]
    fetch(refusal="does not send a whole gzip file")
    size = len(CONTENT)
    longer = {"Content-Range": f"bytes {HALF}-{size - 1}/{size}"}
    site.answers["/a"] = [Answer(stop=HALF)] + [Answer(CONTENT + b"more", announce=-1, headers=longer)] * 2
    monkeypatch.setattr(download, "CHUNK", HALF)
    fetch(refusal="sends more than the [0-9,]+ bytes that it announces")
    assert there(tmp_path) == set()


def test_a_server_that_ignores_ranges_starts_over(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(stop=HALF), Answer(ranges=False)]
    fetch()
    assert site.asked[1][1] and (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_without_a_validator_nothing_is_put_together(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(stop=HALF, tag='W/"1"'), Answer(tag=None)]
    fetch()
    assert site.asked == [("/a", None)] * 2
    site.answers["/a"] = [Answer(stop=HALF, tag=None), Answer(tag=None)]
    (tmp_path / "out" / NAME).unlink()
    fetch()
    assert site.asked[-1][1], "its checksum is known now"
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changes_between_attempts(honest, site, fetch, tmp_path):
    """By If-Range the server sends all of it; one that knows only ranges is seen through by its ETag."""
    new = gzip.compress(random.Random(1).randbytes(400_000))
    assert len(new) == len(CONTENT)
    site.answers["/a"] = [Answer(stop=HALF), Answer(new, tag='"2"')]
    if not honest:
        body = {"Content-Range": f"bytes {HALF}-{len(new) - 1}/{len(new)}"}
        site.answers["/a"].insert(1, Answer(new[HALF:], 206, '"2"', ranges=False, headers=body))
    fetch()
    assert (tmp_path / "out" / NAME).read_bytes() == new


def test_a_part_that_is_complete_or_too_long(site, fetch, tmp_path):
    """A kill may fall between the last byte and the renaming; 416 is the answer where the size was not known."""
    out = tmp_path / "out"
    out.mkdir()
    about = {"url": site.url(), "validator": '"1"', "size": None}
    for content, size, asked in ((CONTENT, None, 1), (CONTENT, len(CONTENT), 0), (CONTENT + b"x", None, 2)):
        (out / f"{NAME}.part").write_bytes(content)
        (out / f"{NAME}.part.json").write_text(json.dumps(about | {"size": size}))
        site.answers["/a"], site.asked = [Answer()], []
        fetch()
        assert (out / NAME).read_bytes() == CONTENT and there(tmp_path) == {NAME} and len(site.asked) == asked
        (out / NAME).unlink()
        (tmp_path / "originals.lock.json").unlink()


@pytest.mark.parametrize("about", ["", "[]", '{"url": 3}', '{"url":'])
def test_a_part_of_unknown_origin_starts_over(about, site, fetch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{NAME}.part").write_bytes(b"x" * 1000)
    (tmp_path / "out" / f"{NAME}.part.json").write_text(about)
    site.answers["/a"] = [Answer()]
    fetch()
    assert site.asked == [("/a", None)] and (tmp_path / "out" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (Answer(b"", 404), "answers 404"),
        (Answer(b"", 503), "answers 503"),
        (Answer(gzip.compress(b"other")), "sends a file with SHA-256"),
        (Answer(b"<html>log in", headers={"Content-Type": "text/html; charset=utf-8"}), "sends a web page"),
    ],
)
def test_the_next_mirror_is_tried(first, says, site, fetch, tmp_path):
    site.answers |= {"/a": [first], "/b": [Answer()]}
    assert "bytes, verified" in fetch(site.url("/a"), site.url("/b"), sha256=digest(CONTENT))
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT and not (tmp_path / "originals.lock.json").exists()
    (tmp_path / "out" / NAME).unlink()
    site.answers["/b"] = [Answer(b"", 410)]
    fetch(site.url("/a"), site.url("/b"), sha256=digest(CONTENT), refusal=f"{says}.*, and .*/b answers 410")


def test_what_came_from_one_mirror_goes_on_there(site, fetch, tmp_path):
    site.answers |= {"/a": [Answer(b"", 404)], "/b": [Answer(stop=HALF), Answer(status=500)]}
    fetch(site.url("/a"), site.url("/b"), refusal="/a answers 404, and .*/b answers 500")
    site.answers["/b"], site.asked = [Answer()], []
    fetch(site.url("/a"), site.url("/b"))
    assert [path for path, _ in site.asked] == ["/b"] and site.asked[0][1]


def test_redirects_stay_with_the_hosts_of_the_list(site, fetch):
    site.answers |= {"/a": [Answer(b"", 302, headers={"Location": site.url("/b", "localhost")})], "/b": [Answer()]}
    fetch(refusal="redirects to the host 'localhost', which the list does not name")
    assert [path for path, _ in site.asked] == ["/a"]
    fetch(site.url("/a"), site.url("/none", "localhost"))
    assert [path for path, _ in site.asked] == ["/a", "/a", "/b"]


def test_the_body_of_a_redirect_is_not_read(site, fetch):
    endless = Answer(b"", 302, announce=10**9, stall=True, headers={"Location": "/b"})
    site.answers |= {"/a": [endless], "/b": [Answer()]}
    fetch()
    assert [path for path, _ in site.asked] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("/a", "redirects too often"),
        ("file:///etc/passwd", "redirects to the host None"),
        ("ftp://127.0.0.1/a", "redirects from http to ftp at the host '127.0.0.1'"),
        ("http://[", "redirects to what is no address"),
    ],
)
def test_redirects_that_lead_nowhere(location, says, site, fetch):
    site.answers["/a"] = [Answer(b"", 301, headers={"Location": location})]
    fetch(refusal=says)


def test_a_redirect_never_drops_encryption():
    with pytest.raises(download.WrongSource, match=r"from https to http at the host 'a\.example'"):
        download._redirected("https://a.example/x", "http://a.example/y", frozenset({"a.example"}))
    assert download._redirected("http://a.example/x", "https://a.example/y", frozenset({"a.example"}))


@pytest.mark.parametrize("announce", [None, -1])
def test_a_file_over_the_limit(announce, site, fetch, tmp_path):
    site.answers["/a"] = [Answer(announce=announce)]
    fetch(refusal="(has|sends) .*more than .*--max-gib 0.0002 allows: raise it", max_gib=0.0002)
    held = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.part"))
    assert held <= 0.0002 * 2**30 and (held > 0) == (announce == -1)
    fetch()
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_a_gzip_file_that_is_cut_or_none(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(announce=-1, stop=HALF)]
    fetch(refusal="does not send a whole gzip file")
    site.answers["/a"] = [Answer(b"not found, sorry")]
    fetch(refusal="does not send a whole gzip file")
    site.answers["/a"] = [Answer(b"")]
    fetch(refusal="sends an empty file")
    assert there(tmp_path) == set() and not (tmp_path / "originals.lock.json").exists()


def test_chunks_that_end_early_are_resumed(site, fetch, tmp_path):
    chunked = b"%x\r\n%s\r\n" % (HALF, CONTENT[:HALF])
    headers = {"Transfer-Encoding": "chunked"}
    site.answers["/a"] = [Answer(chunked, announce=-1, headers=headers), Answer()]
    fetch()
    assert site.asked[1][1] and (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_a_gz_that_is_sent_as_an_encoding_is_not_unpacked(site, fetch, tmp_path):
    site.answers["/a"] = [Answer(headers={"Content-Encoding": "x-gzip"})]
    fetch()
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_a_host_that_is_not_there(site, fetch):
    fetch("http://127.0.0.1:9/a", refusal="http://127.0.0.1:9/a cannot be reached: run it again later.")


def test_a_folder_that_is_none(site, fetch, tmp_path):
    site.answers["/a"] = [Answer()]
    (tmp_path / "out").write_text("a file")
    fetch(refusal=f"{tmp_path / 'out'} cannot be read or written: File exists")


def test_a_file_that_is_a_folder(site, rodpo, tmp_path):
    (tmp_path / "out" / NAME).mkdir(parents=True)
    path = listed(tmp_path, [site.url()])
    code, _, err = rodpo(
        "data", "fetch", "tiny", "--out", tmp_path / "out", "--originals", path, "--roles", "interactions"
    )
    assert_sentence(code, err, "is a folder, where a file is to be")
    assert site.asked == [] and there(tmp_path) == {NAME}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(site, fetch, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    fetch(refusal="out/reviews.json.gz.part cannot be read or written: Permission denied")


def test_a_disk_that_is_full(site, fetch, tmp_path):
    """Stood in for by a limit on the size of files, which a write meets in the same way."""
    site.answers["/a"] = [Answer()]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        fetch(refusal=f"out/{NAME} cannot be read or written: File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "out" / f"{NAME}.part").read_bytes() == CONTENT[:HALF]
    fetch()
    assert site.asked[-1][1] == f"bytes={HALF}-" and (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_where_the_list_is_read_only_the_checksum_is_kept_beside_the_file(site, fetch, tmp_path, monkeypatch):
    write_bytes = files.write_bytes

    def guarded(path: Path, content: bytes) -> None:
        if path.parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        write_bytes(path, content)

    monkeypatch.setattr(files, "write_bytes", guarded)
    site.answers["/a"] = [Answer()]
    with pytest.warns(match="originals.lock.json cannot be written .Permission denied., so the checksum"):
        fetch()
    assert there(tmp_path) == {NAME, "originals.lock.json"} and not (tmp_path / "originals.lock.json").exists()
    assert "there already, verified" in fetch()
    (tmp_path / "out" / NAME).unlink()
    site.answers["/a"] = [Answer(gzip.compress(b"other"))]
    fetch(refusal=f"while .* are expected: .* from {tmp_path / 'out' / 'originals.lock.json'}")


def test_a_record_that_is_damaged_is_not_taken_for_empty(site, fetch, tmp_path):
    site.answers["/a"] = [Answer()]
    (tmp_path / "originals.lock.json").write_text('{"tiny": 1}')
    fetch(refusal="originals.lock.json is damaged: restore it")
    assert site.asked == []


def heeds_ctrl_c() -> None:
    """Tests that a shell started in the background ignore it, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(site, tmp_path, seconds: float = 20) -> subprocess.Popen:
    """A process that has fetched half of the file and waits for the rest."""
    site.answers["/a"] = [Answer(stop=HALF, stall=True), Answer()]
    command = ["data", "fetch", "tiny", "--out", tmp_path / "out", "--roles", "interactions"]
    command += ["--originals", listed(tmp_path, [site.url()])]
    process = subprocess.Popen(
        [sys.executable, "-c", "from rodpo_lite.cli import main; main()", *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=heeds_ctrl_c,
    )  # fmt: skip
    part, end = tmp_path / "out" / f"{NAME}.part", time.monotonic() + seconds
    while not (part.exists() and part.stat().st_size > HALF - download.CHUNK):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    return process


def test_another_process_is_noticed_and_one_that_is_killed_is_gone_on_with(site, fetch, tmp_path):
    process = started(site, tmp_path)
    fetch(refusal=f"Another process is fetching {tmp_path / 'out' / NAME}: wait until it is done")
    process.kill()
    process.communicate()
    assert there(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}
    fetch()
    assert site.asked[-1][1] and there(tmp_path) == {NAME}
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_ctrl_c_keeps_what_has_arrived(site, fetch, tmp_path):
    process = started(site, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err == "rodpo: Stopped; the same command goes on from what has arrived.\n"
    fetch()
    assert site.asked[-1][1] and (tmp_path / "out" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/b", "..", ".", "", ".hidden", "a\\b", "a\nb", "a\0", "x" * 300]
)
def test_names_that_would_leave_the_folder(name, site, rodpo, tmp_path):
    listed(tmp_path, [site.url()], name=name)
    code, _, err = rodpo("data", "fetch", "tiny", "--out", tmp_path / "out", "--originals", tmp_path / "originals.yml")
    assert_sentence(code, err, "The list of originals .*, tiny.files.interactions.name: String should")
    assert [path.name for path in tmp_path.iterdir()] == ["originals.yml"] and site.asked == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"urls": ["file:///etc/passwd"]}, "tiny.files.interactions.urls.0: String should match"),
        ({"urls": []}, "tiny.files.interactions.urls: "),
        ({"sha256": "abc"}, "tiny.files.interactions.sha256: String should match"),
        ({"checksum": "abc"}, "tiny.files.interactions.checksum: Extra inputs are not permitted"),
    ],
)
def test_a_list_that_is_wrong(change, says, site, rodpo, tmp_path):
    path = listed(tmp_path, [site.url()])
    entries = yaml.safe_load(path.read_text())
    entries["tiny"]["files"]["interactions"] |= change
    path.write_text(yaml.safe_dump(entries))
    code, _, err = rodpo("data", "fetch", "tiny", "--out", tmp_path / "out", "--originals", path)
    assert_sentence(code, err, says)
    entries = yaml.safe_load(listed(tmp_path, [site.url()]).read_text())
    entries["tiny"]["files"]["items"] = entries["tiny"]["files"]["interactions"]
    path.write_text(yaml.safe_dump(entries))
    code, _, err = rodpo("data", "fetch", "tiny", "--out", tmp_path / "out", "--originals", path)
    assert_sentence(code, err, "tiny.files: Value error, two files have the same name")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tinny"], "There is no original 'tinny': choose one of tiny"),
        (["tiny", "--roles", "interactions,images"], "The role 'images' is not valid: tiny has interactions"),
        (["tiny", "--roles", ""], "The role '' is not valid"),
        (["tiny", "--max-gib", "nan"], "--max-gib nan must be above 0 and below a million"),
        (["tiny", "--max-gib", "-1"], "--max-gib -1 must be"),
        (["tiny", "--timeout", "inf"], "--timeout inf above 0 and at most 3600"),
    ],
)
def test_what_cannot_be_asked_for(arguments, says, site, rodpo, tmp_path):
    path = listed(tmp_path, [site.url()])
    arguments += ["--roles", "interactions"] if "--roles" not in arguments else []
    code, _, err = rodpo("data", "fetch", *arguments, "--out", tmp_path / "out", "--originals", path)
    assert_sentence(code, err, says)
    assert not (tmp_path / "out").exists()


def test_without_requests_one_sentence_says_what_to_install(fetch, monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    fetch(refusal="Downloads need requests, which is not installed: `pip install requests`")


def test_the_list_of_the_project():
    entries = originals.read_originals(originals.ORIGINALS)
    assert set(entries) == {"beauty", "toys", "sports", "games2018", "beauty2023"}
    known = json.loads(originals.ORIGINALS.with_suffix(".lock.json").read_text())
    assert set(known) <= {f"{name}/{file.name}" for name, entry in entries.items() for file in entry.files.values()}
    for entry in entries.values():
        assert entry.format in FORMATS and {"interactions", "items"} <= set(entry.files)
        assert ("images" in entry.files) == ("images" in FORMATS[entry.format].uses)
        for file in entry.files.values():
            assert all(url.startswith("https://") and url.endswith(f"/{file.name}") for url in file.urls)


def test_the_command_to_run_next(tmp_path):
    entries = originals.read_originals(originals.ORIGINALS)
    folder = tmp_path / "of mine"
    folder.mkdir()
    assert entries["beauty2023"].import_command("beauty2023", folder) is None
    for entry in (entries["beauty2023"], entries["beauty"]):
        for file in entry.files.values():
            (folder / file.name).touch()
    words = shlex.split(entries["beauty2023"].import_command("beauty2023", folder))
    assert words == ["rodpo", "data", "import", "amazon2023", f"{folder}/All_Beauty.jsonl.gz", "--items",
                     f"{folder}/meta_All_Beauty.jsonl.gz", "--core", "5", "--out", f"{folder}/beauty2023"]  # fmt: skip
    assert "--images" in shlex.split(entries["beauty"].import_command("beauty", folder))
