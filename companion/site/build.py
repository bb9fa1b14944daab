"""The book: notebooks are executed, staged outside the source tree, and built by Jupyter Book into a static site."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from companion.site import staging
from companion.site.execution import execute
from companion.site.pages import BUILDS, BookError, find_pages, require_root
from rodpo_lite.data.schema import sha256
from rodpo_lite.errors import InputError
from rodpo_lite.files import exclusive, write_bytes

CHECKSUMS = "SHA256SUMS"  # of the site; `sha256sum --check SHA256SUMS` reads it
OLD = ".html.old"  # the site while it is replaced
_TOOLS = ("jupyter_book", "jupytext", "papermill", "ipykernel", "plotly", "kaleido")
_WARNING = re.compile(r"^.*(?:WARNING|ERROR|CRITICAL): .*$", flags=re.MULTILINE)
# An icon in the theme's script, with its aliases, and what shows one.
_ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')
_SHOWN = re.compile(r"\bfa-([a-z0-9-]+)")
_START = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"


def build(root: Path, profile: str = "smoke", force: bool = False, progress: Callable[[str], Any] = print) -> Path:
    """Execute the notebooks below `root` that changed and build the site into `root/_build/html`.

    It is replaced as a whole, and its folder returned. Raises BookError if a notebook raises or Sphinx warns.
    """
    root = Path(root).resolve()
    work = root / "_build"
    site, old = work / "html", work / OLD
    with exclusive(work, BUILDS):
        if old.exists() and not site.exists():  # a build was killed as it replaced the site
            old.rename(site)
        if missing := [tool for tool in _TOOLS if find_spec(tool) is None]:
            raise InputError(f"The book needs {', '.join(missing)}: install it with `pip install -e '.[book]'`.")
        require_root(root)
        staging.read_configuration(root / "_config.yml")
        staging.repository_name()  # refuses what is none
        pages = find_pages(root, profile, work)
        stale = [page for page in pages if force or not page.is_fresh()]
        progress(f"{len(stale)} of {len(pages)} notebooks to execute")
        if failures := execute(stale, work, progress):
            raise BookError("\n".join(failures.values()))
        progress("building the site …")
        staging.stage(root, pages, work / "stage")
        _publish(_render(work), site, old)
    return site


def _render(work: Path) -> Path:
    """Run Jupyter Book strictly over the stage; returns the folder of the new site. Raises BookError with warnings."""
    folder, unfinished = work / "sphinx", work / "sphinx.unfinished"
    if unfinished.exists():  # it was killed, and takes a page that is half-written for one that is up to date
        shutil.rmtree(folder, ignore_errors=True)
    write_bytes(unfinished, b"")
    command = [sys.executable, "-c", _START, "build", str(work / "stage"), "--path-output", str(folder)]
    command += ["-n", "-W", "--keep-going", "-q"]
    for _ in range(2 if folder.exists() else 1):  # Sphinx may stumble over what it kept of another edition
        run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
        if not run.returncode:
            unfinished.unlink()
            return folder / "_build" / "html"
        # Sphinx keeps what it has read, so the next build would not repeat the warnings of unchanged pages.
        shutil.rmtree(folder, ignore_errors=True)
        log = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr).replace(f"{work / 'stage'}/", "")
        if warnings := _WARNING.findall(log):
            counted = f"Jupyter Book reports {len(warnings)} warning(s), and none is allowed:"
            raise BookError("\n".join([counted, *warnings]))
    raise BookError("Jupyter Book failed:\n" + "\n".join(log.strip().splitlines()[-20:]))


def _publish(built: Path, site: Path, old: Path) -> None:
    """Replace the site as a whole: copy beside, then rename."""
    new = site.with_name(".html.new")
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(built, new, ignore=shutil.ignore_patterns("*.map"))
    _keep_shown_icons(new)
    files = sorted(path for path in new.rglob("*") if path.is_file())
    sums = [f"{sha256(path)}  {path.relative_to(new)}\n" for path in files]
    (new / CHECKSUMS).write_text("".join(sums), encoding="utf-8")
    if site.exists():
        site.rename(old)
    new.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def _keep_shown_icons(site: Path) -> None:
    """Take from the theme's two thousand icons what nothing names: they weigh more than a chapter."""
    script = site / "_static" / "scripts" / "fontawesome.js"
    if not script.is_file():
        return
    others = [path for path in (site / "_static").rglob("*.js") if path != script and "vendor" not in path.parts]
    texts = (path.read_text(encoding="utf-8") for path in (*site.rglob("*.html"), *others))
    named = set(_SHOWN.findall("\n".join(texts)))

    def kept(icon: re.Match) -> str:
        aliases = re.findall(r'"([^"]+)"', icon[2])
        return icon[0] if named & {icon[1], *aliases} else ""

    script.write_text(_ICON.sub(kept, script.read_text(encoding="utf-8")), encoding="utf-8")
