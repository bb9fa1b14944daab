"""The book: notebooks are executed, staged outside the source tree, and built by Jupyter Book into a static site."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from companion.site import icons, staging
from companion.site.execution import execute
from companion.site.pages import BUILDS, BookError, find_pages, require_root
from rodpo_lite.errors import InputError
from rodpo_lite.files import exclusive, write_bytes

CHECKSUMS = "SHA256SUMS"  # of the site; `sha256sum --check SHA256SUMS` reads it
_TOOLS = ("jupyter_book", "jupytext", "papermill", "ipykernel", "plotly", "kaleido")
_WARNING = re.compile(r"^.*(?:WARNING|ERROR|CRITICAL): .*$", flags=re.MULTILINE)
_START = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"


def build(
    root: Path, profile: str = "smoke", out: Path | None = None, force: bool = False,
    progress: Callable[[str], Any] = print,
) -> Path:  # fmt: skip
    """Execute the notebooks below `root` that changed and build the site into `out` (by default `_build/html`).

    Everything else is kept in `root/_build`; the site is replaced as a whole and only by one without a warning.
    Returns `out`. Raises InputError for an unknown profile, a missing tool, or an `out` that holds something else;
    BookError if a notebook raises or Sphinx warns.
    """
    root = Path(root).resolve()
    work = root / "_build"
    out = Path(out).resolve() if out else work / "html"
    with exclusive(work, BUILDS):
        if _beside(out, "old").exists() and not out.exists():  # a build was killed as it replaced the site
            _beside(out, "old").rename(out)
        _check(root, out)
        pages = find_pages(root, profile, work)
        stale = [page for page in pages if force or not page.is_fresh()]
        progress(f"{len(stale)} of {len(pages)} notebooks to execute")
        if failures := execute(stale, work, progress):
            raise BookError("\n".join(failures.values()))
        progress("building the site …")
        staging.stage(root, pages, work / "stage")
        _publish(_render(work), out)
    return out


def _check(root: Path, out: Path) -> None:
    if missing := [tool for tool in _TOOLS if find_spec(tool) is None]:
        raise InputError(f"The book needs {', '.join(missing)}: install it with `pip install -e '.[book]'`.")
    require_root(root)
    staging.read_configuration(root / "_config.yml")
    staging.repository_name()  # refuses what is none
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / ".buildinfo").exists())):
        raise InputError(f"{out} exists and is not a built site: name another folder.")


def _render(work: Path) -> Path:
    """Run Jupyter Book strictly over the stage; returns the folder of the new site."""
    folder, unfinished = work / "sphinx", work / "sphinx.unfinished"
    if unfinished.exists():  # it was killed, and takes a page that is half-written for one that is up to date
        shutil.rmtree(folder, ignore_errors=True)
    existed = folder.exists()
    write_bytes(unfinished, b"")
    command = [sys.executable, "-c", _START, "build", str(work / "stage"), "--path-output", str(folder)]
    command += ["-n", "-W", "--keep-going", "-q"]
    run = _run(command)
    if run.returncode and not _WARNING.search(run.stdout + run.stderr) and existed:
        shutil.rmtree(folder, ignore_errors=True)  # Sphinx may stumble over what it kept of another edition
        run = _run(command)
    if run.returncode:
        # Sphinx keeps what it has read, so the next build would not repeat the warnings of unchanged pages.
        shutil.rmtree(folder, ignore_errors=True)
        raise BookError(_complaint(run.stdout + run.stderr, work))
    unfinished.unlink()
    return folder / "_build" / "html"


def _run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")


def _complaint(log: str, work: Path) -> str:
    """The warnings of a failed build, or the end of its log if there are none."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log).replace(f"{work / 'stage'}/", "")
    if warnings := _WARNING.findall(log):
        return f"Jupyter Book reports {len(warnings)} warning(s), and none is allowed:\n" + "\n".join(warnings)
    return "Jupyter Book failed:\n" + "\n".join(log.strip().splitlines()[-20:])


def _publish(site: Path, out: Path) -> None:
    """Replace the site as a whole: copy beside, then rename."""
    new, old = _beside(out, "new"), _beside(out, "old")
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(site, new, ignore=shutil.ignore_patterns("*.map"))
    icons.keep_shown(new)
    (new / CHECKSUMS).write_text(_checksums(new), encoding="utf-8")
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _checksums(site: Path) -> str:
    """A line for each file of the site, as sha256sum writes them."""
    files = sorted(path for path in site.rglob("*") if path.is_file())
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(site)}\n" for path in files)


def _beside(out: Path, name: str) -> Path:
    return out.with_name(f".{out.name}.{name}")
