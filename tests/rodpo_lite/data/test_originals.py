"""The list of public originals, the record of what they were, and the command that imports them."""

import json
import shlex
import subprocess
import sys

from rodpo_lite.data.importers import FORMATS
from rodpo_lite.data.originals import ORIGINALS, Checksums, File, Pin, read_originals


def test_the_list_of_the_project():
    entries = read_originals(ORIGINALS)
    assert set(entries) == {"beauty", "toys", "sports", "games2018", "beauty2023"}
    pins = json.loads(ORIGINALS.with_suffix(".lock.json").read_text())
    assert set(pins) <= {f"{name}/{file.name}" for name, entry in entries.items() for file in entry.files.values()}
    for entry in entries.values():
        assert entry.format in FORMATS and {"interactions", "items"} <= set(entry.files)
        assert ("images" in entry.files) == ("images" in FORMATS[entry.format].uses)
        for file in entry.files.values():
            assert all(url.startswith("https://") and url.endswith(f"/{file.name}") for url in file.urls)


def test_the_command_to_run_next(tmp_path):
    entries = read_originals(ORIGINALS)
    folder = tmp_path / "my files"
    folder.mkdir()
    assert entries["beauty2023"].import_command("beauty2023", folder) is None
    for entry in (entries["beauty2023"], entries["beauty"]):
        for file in entry.files.values():
            (folder / file.name).touch()
    words = shlex.split(entries["beauty2023"].import_command("beauty2023", folder))
    assert words == ["rodpo", "data", "import", "amazon2023", f"{folder}/All_Beauty.jsonl.gz", "--items",
                     f"{folder}/meta_All_Beauty.jsonl.gz", "--core", "5", "--out", f"{folder}/beauty2023"]  # fmt: skip
    assert "--images" in shlex.split(entries["beauty"].import_command("beauty", folder))


def test_checksums_that_are_kept_at_the_same_time_are_all_kept(tmp_path):
    code = """if True:
    import sys
    from pathlib import Path
    from rodpo_lite.data.originals import Checksums, Pin
    folder = Path(sys.argv[1])
    for n in range(30):
        Checksums(folder / "originals.yml", folder).keep(sys.argv[2] + str(n), Pin(sha256="0" * 64, size=n, url=""))
    """
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    kept = json.loads((tmp_path / "originals.lock.json").read_text())
    assert set(kept) == {f"{name}{n}" for name in "ab" for n in range(30)}


def test_a_checksum_that_is_on_record_stays(tmp_path):
    checksums, file = Checksums(tmp_path / "originals.yml", tmp_path), File(name="a", urls=["https://here.example/a"])
    for digit in "01":
        checksums.keep("tiny/a", Pin(sha256=64 * digit, size=1, url=file.urls[0]))
    assert checksums.known("tiny/a", file) == (64 * "0", tmp_path / "originals.lock.json")
