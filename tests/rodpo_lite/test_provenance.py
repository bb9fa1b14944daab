"""The commit of a run is that of this project, or none: never that of a repository in which a copy of it lies."""

import subprocess
from pathlib import Path

import pytest

from rodpo_lite import provenance


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@localhost", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir()
    (folder / "other.txt").write_text("other")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "other")
    return folder


def copied(folder: Path, monkeypatch) -> Path:
    """A copy of the package's file in a folder, which from now on is the one that runs."""
    path = folder / "rodpo_lite" / "provenance.py"
    path.parent.mkdir(parents=True)
    path.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(path))
    return path


@pytest.mark.parametrize("place", [".", "unpacked", "vendor/rodpo companion", ".venv/lib/site-packages"])
@pytest.mark.parametrize("tracked", [False, True])
def test_a_copy_in_another_repository_has_no_commit(place, tracked, tmp_path, monkeypatch):
    other = repository(tmp_path / "other")
    copied(other / place, monkeypatch)
    if tracked:
        git(other, "add", "-f", ".")
        git(other, "commit", "-qm", "copy")
    if tracked and place == ".":  # then it is the project
        assert provenance.commit() == git(other, "rev-parse", "HEAD")[:12]
    else:
        assert provenance.commit() is None


def test_a_checkout_says_its_commit_and_whether_it_is_clean(tmp_path, monkeypatch):
    place = repository(tmp_path / "own")
    path = copied(place, monkeypatch)
    git(place, "add", ".")
    git(place, "commit", "-qm", "project")
    head = git(place, "rev-parse", "HEAD")[:12]
    assert provenance.commit() == head
    path.write_text("changed")
    assert provenance.commit() == head + "+"


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_what_git_is_told_of_another_repository_changes_nothing(variable, tmp_path, monkeypatch):
    before = provenance.commit()
    other = repository(tmp_path / "other")
    place = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / ".git" / "index"}[variable]
    monkeypatch.setenv(variable, str(place))
    assert provenance.commit() == before
    copied(tmp_path / "unpacked", monkeypatch)
    assert provenance.commit() is None
