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

import yaml

from companion.site import icons, sources
from companion.site.execution import execute
from companion.site.pages import BUILDS, BookError, Page, find_pages, require_root
from rodpo_lite.errors import InputError
from rodpo_lite.files import exclusive, read_yaml, write_bytes

CHECKSUMS = "SHA256SUMS"  # of the site; `sha256sum --check SHA256SUMS` reads it
_TOOLS = ("jupyter_book", "jupytext", "papermill", "ipykernel", "plotly", "kaleido")
_STATIC = "_site"  # Jupyter Book would load every script below a folder named _static on every page
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
        return _build(root, profile, work, out, force, progress)


def _build(root: Path, profile: str, work: Path, out: Path, force: bool, progress: Callable[[str], Any]) -> Path:
    """As `build`, in the folder `work` that this process holds."""
    pages = find_pages(root, profile, work)
    stale = [page for page in pages if force or not page.is_fresh()]
    progress(f"{len(stale)} of {len(pages)} notebooks to execute")
    if failures := execute(stale, work, progress):
        raise BookError("\n".join(failures.values()))
    progress("building the site …")
    stage(root, pages, work / "stage")
    _publish(_render(work), out)
    return out


def stage(root: Path, pages: list[Page], folder: Path) -> None:
    """Make `folder` the complete source of the site; only files whose content differs are touched, so Sphinx sees
    what changed. RODPO_REPOSITORY, owner/name on GitHub, makes pages offer Binder and Colab."""
    from companion.findings import front

    book, repository = root / "book", sources.repository_name()
    files: dict[Path, bytes] = {}
    for path in book.rglob("*"):
        if path.is_file():
            first, *rest = path.relative_to(book).parts
            files[Path(_STATIC if first == "_static" else first, *rest)] = path.read_bytes()
    files[Path("index.md")] = front.fill(files[Path("index.md")].decode(), root / "data" / "results").encode()
    for page in pages:
        files[Path("notebooks", f"{page.name}.ipynb")] = sources.for_the_site(page, repository).encode()
        files[Path("downloads", f"{page.name}.ipynb")] = sources.for_readers(page, repository).encode()
        files[Path("downloads", f"{page.name}.py")] = page.source.read_bytes()
        for picture in page.pictures.glob("*.svg"):
            files[Path(_STATIC, "figures", f"{page.name}-{picture.name}")] = picture.read_bytes()
    files[Path("extra", "llms.txt")] = _contents(root, pages).encode()
    files[Path("_config.yml")] = _configuration(root / "_config.yml", files)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder) not in files:
            path.unlink()
    for name, content in files.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            write_bytes(path, content)


def _check(root: Path, out: Path) -> None:
    if missing := [tool for tool in _TOOLS if find_spec(tool) is None]:
        raise InputError(f"The book needs {', '.join(missing)}: install it with `pip install -e '.[book]'`.")
    require_root(root)
    _read_configuration(root / "_config.yml")
    sources.repository_name()  # refuses what is none
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / ".buildinfo").exists())):
        raise InputError(f"{out} exists and is not a built site: name another folder.")


def _configuration(path: Path, files: dict[Path, bytes]) -> bytes:
    """The configuration, which changes with every script, style and picture: for a page alone Sphinx copies none."""
    config, digest = _read_configuration(path), hashlib.sha256()
    for name in sorted(name for name in files if name.parts[0] in (_STATIC, "extra")):
        digest.update(str(name).encode() + files[name])
    config["sphinx"]["config"].setdefault("html_context", {})["site_files"] = digest.hexdigest()
    return yaml.safe_dump(config, allow_unicode=True, sort_keys=False).encode()


def _read_configuration(path: Path) -> dict[str, Any]:
    """The book's configuration; raises InputError where it lacks what is added to."""
    found = read_yaml(path, "The book's configuration")
    sphinx = found.get("sphinx")
    if not isinstance(sphinx, dict) or not isinstance(sphinx.get("config"), dict):
        raise InputError(f"The book's configuration {path} needs a group sphinx with a group config.")
    return found


def _contents(root: Path, pages: list[Page]) -> str:
    """llms.txt: what the book is and what each of its chapters is about, as plain text for machines that read."""
    lines = [
        "# RoDPO, put to the test",
        "",
        "> The runnable companion of arXiv 2603.29259: each claim tested on real data.",
        "",
    ]
    lines += ["## Chapters", ""]
    order = (root / "book" / "_toc.yml").read_text(encoding="utf-8")
    for page in sorted(pages, key=lambda page: order.find(f"notebooks/{page.name}\n")):
        text = page.source.read_text(encoding="utf-8")
        title = re.search(r"^# # (.+)$", text, re.MULTILINE)[1]
        about = re.search(r"\*\*You will learn\*\* (.+?)\n#\n", text, re.DOTALL)
        about = re.sub(r"[*$`]", "", " ".join(about[1].replace("\n# ", " ").split())) if about else ""
        lines.append(f"- [{title}](notebooks/{page.name}.html): {about}".removesuffix(": "))
    return "\n".join(lines) + "\n"


def _render(work: Path) -> Path:
    """Run Jupyter Book strictly over the stage; returns the folder of the new site."""
    folder, unfinished = work / "sphinx", work / "sphinx.unfinished"
    if unfinished.exists():  # it was killed, and takes a page that is half-written for one that is up to date
        shutil.rmtree(folder, ignore_errors=True)
    stood = folder.exists()
    write_bytes(unfinished, b"")
    command = [sys.executable, "-c", _START, "build", str(work / "stage"), "--path-output", str(folder)]
    command += ["-n", "-W", "--keep-going", "-q"]
    run = _run(command)
    if run.returncode and not _WARNING.search(run.stdout + run.stderr) and stood:
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


_WARNING = re.compile(r"^.*(?:WARNING|ERROR|CRITICAL): .*$", flags=re.MULTILINE)


def _complaint(log: str, work: Path) -> str:
    """The warnings of a failed build, or the end of its log if there are none."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log).replace(f"{work / 'stage'}/", "")
    warnings = _WARNING.findall(log)
    if warnings:
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
