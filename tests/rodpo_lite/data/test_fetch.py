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
import requests
import yaml
from importing import PLAIN

from rodpo_lite.cli import main
from rodpo_lite.data import fetch as fetching

CONTENT = gzip.compress(random.Random(0).randbytes(400_000))
CHANGED = gzip.compress(random.Random(1).randbytes(400_000))
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
    monkeypatch.setattr(fetching, "PAUSE", 0.001)
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
    """`rodpo data fetch` of one file, with these answers, into `tmp_path / "out"`: it is there then, or refused."""

    def command(*answers: Answer, urls=(), refusal: str | None = None, original="tiny", file=None, **options) -> str:
        site.answers |= {"/a": list(answers)} if answers else {}
        path = listed(tmp_path, urls or [site.url()], **(file or {}))
        given = {"timeout": 5, "roles": "interactions", "out": tmp_path / "out", "originals": path} | options
        words = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]
        code, out, err = rodpo("data", "fetch", original, *words)
        if refusal is not None:
            assert_refused(code, err, refusal)
            return err
        assert code == 0, err
        assert left(tmp_path) - {"originals.lock", "originals.lock.json"} == {NAME}, "nothing lies beside the file"
        assert (tmp_path / "out" / NAME).read_bytes() in (CONTENT, CHANGED)
        return out

    return command


def listed(folder: Path, addresses, roles=("interactions",), **changes) -> Path:
    """A list of originals with one file."""
    file = {"name": NAME, "urls": list(addresses)} | changes
    entry = {"format": "amazon2014", "homepage": "https://here.example", "note": "For you."}
    path = folder / "originals.yml"
    path.write_text(yaml.safe_dump({"tiny": entry | {"files": dict.fromkeys(roles, file)}}))
    return path


def assert_refused(code: int, err: str, match: str) -> None:
    message = err.strip()
    assert code == 2 and message.startswith("rodpo: ") and message.endswith(".") and "\n" not in message, err
    assert re.search(match, message), message


def left(folder: Path) -> set[str]:
    """What a folder of downloads holds, but for the lock of a part."""
    return {path.name for path in (folder / "out").iterdir()} - {f"{NAME}.part.lock"}


def both(site) -> list[str]:
    return [site.url("/a"), site.url("/b")]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PARTIAL = {f"{NAME}.part", f"{NAME}.part.json"}


def test_a_file_is_fetched_pinned_and_from_then_on_verified(site, fetch, tmp_path):
    out, target = fetch(Answer()), tmp_path / "out" / NAME
    assert "unverified" in out and "For you. https://here.example" in out
    pins = json.loads((tmp_path / "originals.lock.json").read_text())
    assert pins == {f"tiny/{NAME}": {"sha256": digest(CONTENT), "size": len(CONTENT), "url": site.url()}}
    assert "there already, verified" in fetch() and len(site.asked) == 1
    target.unlink()
    assert "bytes, verified" in fetch() and len(site.asked) == 2
    target.write_bytes(b"mine")
    fetch(refusal=f"is there already with SHA-256 {digest(b'mine')}, .* expects {digest(CONTENT)}: remove the file")
    assert target.read_bytes() == b"mine"


def test_a_later_different_file_is_refused(site, fetch, tmp_path):
    fetch(Answer())
    (tmp_path / "out" / NAME).unlink()
    err = fetch(Answer(CHANGED, tag='"2"'), refusal=f"{digest(CHANGED)}, while {digest(CONTENT)} is expected .if the")
    assert f"remove the checksum of tiny/{NAME} from {tmp_path / 'originals.lock.json'}" in err
    assert left(tmp_path) == set() and digest(CONTENT) in (tmp_path / "originals.lock.json").read_text()


def test_the_command_that_is_printed_imports_the_file(site, rodpo, tmp_path):
    rows = [{"reviewerID": u, "asin": i, "unixReviewTime": 10**9 + t, "overall": 5.0} for u, i, t in PLAIN]
    site.answers["/a"] = [Answer(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))]
    path = listed(tmp_path, [site.url()])
    _, out, _ = rodpo("data", "fetch", "tiny", "--out", tmp_path, "--originals", path, "--roles", "interactions")
    code, out, err = rodpo(*shlex.split(out.splitlines()[-1].removeprefix("next: "))[1:])
    assert code == 0 and "2 users, 4 items, 6 interactions" in out, err


def test_a_cut_connection_is_resumed_where_it_ended(site, fetch):
    chunked = Answer(b"%x\r\n%s\r\n" % (HALF, CONTENT[:HALF]), announce=-1, headers={"Transfer-Encoding": "chunked"})
    fetch(chunked, Answer(stop=100_000), Answer())
    starts = [int(asked[6:-1]) for _, asked in site.asked[1:]]
    assert HALF - fetching.CHUNK <= starts[0] <= HALF < starts[1] <= HALF + 100_000


def test_attempts_end_and_the_next_call_goes_on(site, fetch, tmp_path):
    fetch(
        Answer(stop=HALF), Answer(status=503), refusal="answers 503: run it again later, and it goes on from the .* b"
    )
    assert len(site.asked) == fetching.ATTEMPTS and left(tmp_path) == PARTIAL
    fetch(Answer())
    assert site.asked[-1][1]


def test_attempts_that_bring_much_do_not_count(site, fetch, monkeypatch):
    monkeypatch.setattr(fetching, "PROGRESS", 10_000)
    fetch(*[Answer(stop=70_000)] * (fetching.ATTEMPTS + 1), Answer())
    assert len(site.asked) > fetching.ATTEMPTS


def test_a_server_that_stalls(site, fetch):
    fetch(Answer(stop=HALF, stall=True), Answer(stop=0, stall=True), Answer(), timeout=0.3)
    assert [asked is not None for _, asked in site.asked] == [False, True, True]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(announce=len(CONTENT) + 10, tag=None), "ends the connection too early|sends only"),
        (Answer(announce=1000), "does not send a whole gzip file"),
        (Answer(announce=-1, stop=HALF), "does not send a whole gzip file"),
        (Answer(b"not found, sorry"), "does not send a whole gzip file"),
        (Answer(b""), "sends an empty file"),
        (Answer(b"", 404), "answers 404"),
        (Answer(b"<html>log in", headers={"Content-Type": "text/html; charset=utf-8"}), "sends a web page"),
    ],
)
def test_what_cannot_be_the_file_is_not_kept(answer, says, site, fetch, tmp_path):
    fetch(answer, refusal=says)
    assert not (tmp_path / "out" / NAME).exists() and not (tmp_path / "originals.lock.json").exists()


def test_without_a_validator_nothing_is_put_together(site, fetch, tmp_path):
    fetch(Answer(stop=HALF, tag=None), Answer(tag=None))
    assert site.asked == [("/a", None)] * 2
    (tmp_path / "out" / NAME).unlink()
    fetch(Answer(stop=HALF, tag=None), Answer(tag=None))
    assert site.asked[-1][1], "its checksum is known now"


@pytest.mark.parametrize("server", ["knows If-Range", "knows only ranges", "knows no ranges"])
def test_a_file_that_changes_between_attempts(server, site, fetch, tmp_path):
    """By If-Range the server sends all of it; one that knows only ranges is seen through by its ETag."""
    answers = [Answer(stop=HALF), Answer(CHANGED, tag='"2"', ranges=server != "knows no ranges")]
    if server == "knows only ranges":
        span = {"Content-Range": f"bytes {HALF}-{len(CHANGED) - 1}/{len(CHANGED)}"}
        answers.insert(1, Answer(CHANGED[HALF:], 206, '"2"', ranges=False, headers=span))
    fetch(*answers)
    assert site.asked[1][1] and len(site.asked) == (3 if server == "knows only ranges" else 2)
    assert (tmp_path / "out" / NAME).read_bytes() == CHANGED


@pytest.mark.parametrize(("content", "asked"), [(CONTENT, 1), (CONTENT + b"x", 2)])
def test_a_part_that_is_complete_or_too_long(content, asked, site, fetch, tmp_path):
    """A kill may fall between the last byte and the renaming; the answer to what is complete is 416."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{NAME}.part").write_bytes(content)
    (tmp_path / "out" / f"{NAME}.part.json").write_text(json.dumps({"url": site.url(), "validator": '"1"'}))
    fetch(Answer())
    assert len(site.asked) == asked


@pytest.mark.parametrize("origin", ["", "[]", '{"url": 3}', '{"url":'])
def test_a_part_of_unknown_origin_starts_over(origin, site, fetch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{NAME}.part").write_bytes(b"x" * 1000)
    (tmp_path / "out" / f"{NAME}.part.json").write_text(origin)
    fetch(Answer())
    assert site.asked == [("/a", None)]


@pytest.mark.parametrize(
    ("first", "says"), [(Answer(b"", 404), "answers 404"), (Answer(CHANGED), "sends a file with SHA-256")]
)
def test_the_next_mirror_is_tried(first, says, site, fetch, tmp_path):
    site.answers |= {"/a": [first], "/b": [Answer()]}
    assert "bytes, verified" in fetch(urls=both(site), file={"sha256": digest(CONTENT)})
    assert not (tmp_path / "originals.lock.json").exists()
    (tmp_path / "out" / NAME).unlink()
    site.answers["/b"] = [Answer(b"", 410)]
    fetch(urls=both(site), file={"sha256": digest(CONTENT)}, refusal=f"{says}.*, and .*/b answers 410")


def test_what_came_from_one_mirror_goes_on_there(site, fetch):
    site.answers |= {"/a": [Answer(b"", 404)], "/b": [Answer(stop=HALF), Answer(status=500)]}
    fetch(urls=both(site), refusal="/a answers 404, and .*/b answers 500")
    site.answers["/b"], site.asked = [Answer()], []
    fetch(urls=both(site))
    assert [path for path, _ in site.asked] == ["/b"] and site.asked[0][1]


def test_redirects_stay_with_the_hosts_of_the_list(site, fetch, tmp_path, monkeypatch):
    site.answers |= {"/a": [Answer(b"", 302, headers={"Location": site.url("/b", "localhost")})], "/b": [Answer()]}
    fetch(refusal="redirects to the host 'localhost', which the list does not name")
    fetch(urls=[site.url("/a"), site.url("/none", "localhost")])
    get = requests.get  # that of a server which sends from https to http
    monkeypatch.setattr(requests, "get", lambda url, **options: get(url.replace("https:", "http:"), **options))
    fetch(
        urls=[site.url("/b").replace("http:", "https:")], out=tmp_path / "other", refusal="redirects from https to http"
    )


@pytest.mark.parametrize("location", ["/a", "file:///etc/passwd", "ftp://127.0.0.1/a", "http://["])
def test_redirects_that_lead_nowhere(location, site, fetch):
    fetch(Answer(b"", 301, headers={"Location": location}), refusal="cannot be asked for")


@pytest.mark.parametrize("announce", [None, -1])
def test_a_file_over_the_limit(announce, site, fetch, tmp_path):
    fetch(Answer(announce=announce), refusal="has at least .* --max-gib 0.0002 allows: raise it", max_gib=0.0002)
    held = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.part"))
    assert held <= 0.0002 * 2**30 and (held > 0) == (announce == -1)
    fetch()


def test_a_gz_that_is_sent_as_an_encoding_is_not_unpacked(site, fetch):
    fetch(Answer(headers={"Content-Encoding": "x-gzip"}))


def test_a_host_that_is_not_there(fetch):
    fetch(urls=["http://127.0.0.1:9/a"], refusal="http://127.0.0.1:9/a cannot be reached: run it again later.")


def test_folders_and_files_where_the_other_is_to_be(fetch, tmp_path):
    (tmp_path / "out" / NAME).mkdir(parents=True)
    fetch(refusal="is a folder, where a file is to be")
    (tmp_path / "file").touch()
    fetch(out=tmp_path / "file", refusal=f"{tmp_path / 'file'} cannot be read or written: File exists")


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
    assert site.asked[-1][1] == f"bytes={HALF}-"


def test_where_the_list_is_read_only_the_checksum_is_kept_beside_the_file(site, fetch, tmp_path, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    assert f"is now in {tmp_path / 'out' / 'originals.lock.json'}" in fetch(Answer())
    assert not (tmp_path / "originals.lock.json").exists() and "there already, verified" in fetch()


def test_a_record_that_is_damaged_is_not_taken_for_empty(site, fetch, tmp_path):
    (tmp_path / "originals.lock.json").write_text('{"tiny": 1}')
    fetch(refusal="originals.lock.json is damaged: restore it")
    assert site.asked == []


def started(site, tmp_path) -> subprocess.Popen:
    """A process that has fetched half of the file and waits for the rest."""
    site.answers["/a"] = [Answer(stop=HALF, stall=True), Answer()]
    command = ["data", "fetch", "tiny", "--out", tmp_path / "out", "--roles", "interactions"]
    command += ["--originals", listed(tmp_path, [site.url()])]
    process = subprocess.Popen(
        [sys.executable, "-c", "from rodpo_lite.cli import main; main()", *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell in the background ignores
    )  # fmt: skip
    part, end = tmp_path / "out" / f"{NAME}.part", time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > HALF - fetching.CHUNK):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    return process


def test_another_process_is_noticed_and_one_that_is_killed_is_gone_on_with(site, fetch, tmp_path):
    process = started(site, tmp_path)
    fetch(refusal=f"Another process is fetching {tmp_path / 'out' / NAME}: wait until it is done")
    process.kill()
    process.communicate()
    assert left(tmp_path) == PARTIAL
    fetch()
    assert site.asked[-1][1]


def test_ctrl_c_keeps_what_has_arrived(site, fetch, tmp_path):
    process = started(site, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err == "rodpo: Stopped; the same command goes on from what has arrived.\n"
    fetch()
    assert site.asked[-1][1]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "..", "", ".hidden", "a\\b", "a\nb", "a\0", "x" * 300])
def test_names_that_would_leave_the_folder(name, site, fetch, tmp_path):
    fetch(file={"name": name}, refusal="The list of originals .*, tiny.files.interactions.name: String should")
    assert [path.name for path in tmp_path.iterdir()] == ["originals.yml"] and site.asked == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"urls": ["file:///etc/passwd"]}, "tiny.files.interactions.urls.0: String should match"),
        ({"urls": []}, "tiny.files.interactions.urls: "),
        ({"sha256": "abc"}, "tiny.files.interactions.sha256: String should match"),
        ({"checksum": "abc"}, "tiny.files.interactions.checksum: Extra inputs are not permitted"),
        ({"roles": ["interactions", "items"]}, "tiny.files: Value error, two files have the same name"),
    ],
)
def test_a_list_that_is_wrong(change, says, fetch):
    fetch(file=change, refusal=says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"original": "tinny"}, "There is no original 'tinny': choose one of tiny"),
        ({"roles": "interactions,images"}, "The role 'images' is not valid: tiny has interactions"),
        ({"roles": ""}, "The role '' is not valid"),
        ({"max_gib": "nan"}, "--max-gib nan must be above 0 and below a million"),
        ({"max_gib": -1}, "--max-gib -1 must be"),
        ({"timeout": "inf"}, "--timeout inf above 0 and at most 3600"),
    ],
)
def test_what_cannot_be_asked_for(options, says, fetch, tmp_path):
    fetch(**options, refusal=says)
    assert not (tmp_path / "out").exists()


def test_without_requests_one_sentence_says_what_to_install(fetch, monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "rodpo_lite.data.fetch")
    fetch(refusal="Downloads need requests, which is not installed: `pip install requests`")


def test_downloads_do_without_torch():
    code = "import sys, rodpo_lite.cli.data, rodpo_lite.data.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
