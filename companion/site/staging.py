"""What Jupyter Book reads: pages with their figures as HTML, what a reader downloads, and the configuration."""

import hashlib
import json
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import yaml

from companion.findings import sentences
from companion.site.execution import HEIGHT, WIDTH
from companion.site.markup import prose, typeset
from companion.site.pages import CAPTION, METADATA, METRIC, PLOTLY, Page
from companion.site.scripts import FOLDER as LAB
from companion.site.scripts import classic
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, read_yaml, write_bytes

STATIC = "_site"  # Jupyter Book would load every script below a folder named _static on every page
BRANCH = "notebooks"  # where the executed notebooks are published


def stage(root: Path, pages: list[Page], folder: Path) -> None:
    """Make `folder` the complete source of the site; only files whose content differs are touched, so Sphinx sees
    what changed. RODPO_REPOSITORY, owner/name on GitHub, makes pages offer Binder and Colab, and a card when shared."""
    from companion.site.parts import front

    book, repository = root / "book", repository_name()
    files: dict[Path, bytes] = {}
    for path in book.rglob("*"):
        if path.is_file() and path.suffix != ".j2":
            first, *rest = path.relative_to(book).parts
            files[Path(STATIC if first == "_static" else first, *rest)] = path.read_bytes()
    files = classic(files, Path(STATIC, LAB))
    files[Path("index.md")] = front.fill(files[Path("index.md")].decode(), root / "data" / "results").encode()
    for page in pages:
        files[Path("notebooks", f"{page.name}.ipynb")] = for_the_site(page, repository).encode()
        files[Path("downloads", f"{page.name}.ipynb")] = for_readers(page, repository).encode()
        files[Path("downloads", f"{page.name}.py")] = page.source.read_bytes()
        for picture in page.pictures.glob("*.svg"):
            files[Path(STATIC, "figures", f"{page.name}-{picture.name}")] = picture.read_bytes()
    files[Path("extra", "llms.txt")] = _contents(book, pages).encode()
    files[Path("_config.yml")] = _configuration(root / "_config.yml", files, repository)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder) not in files:
            path.unlink()
    for name, content in files.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            write_bytes(path, content)


def for_the_site(page: Page, repository: str | None = None) -> str:
    """A page as Sphinx reads it: figures are HTML, recorded metrics are gone, and the end says how to run it."""
    import nbformat

    notebook, stamp, pictures = nbformat.read(page.executed, 4), read_json(page.stamp), 0
    commit = f" · commit {stamp['made_by']['commit']}" if stamp["made_by"]["commit"] else ""
    for number, cell in enumerate(_code_cells(notebook), start=1):
        cell.outputs = [output for output in cell.outputs if output.get("metadata", {}).get(METADATA) != CAPTION]
        for output in cell.outputs:
            data = output.get("data", {})
            if words := output.get("metadata", {}).get(METADATA):
                pictures += 1
                picture = f"../_static/figures/{page.name}-{pictures}.svg"
                made = f"Code cell {number} of this page · profile {stamp['parameters']['profile']}{commit}"
                live = live_html(page.source.parents[1] / "book", words) if "live" in words else None
                output.data = {"text/html": figure_html(data[PLOTLY], words, picture, made, live)}
                output.metadata = {}
            elif "text/markdown" in data:
                data["text/markdown"] = typeset(data["text/markdown"])
        content = "answer" if "hide-cell" in cell.metadata.get("tags", ()) else "code"
        cell.metadata["mystnb"] = {"code_prompt_show": f"Show the {content}", "code_prompt_hide": f"Hide the {content}"}
    facts = {"chapter": page.name, "repository": repository, "branch": BRANCH, "example": _example(stamp["parameters"])}
    end = _fill(page.source.parents[1] / "book", "page_end.md.j2", **facts, **stamp)
    notebook.cells.append(nbformat.v4.new_markdown_cell(end, id=f"{page.name}-end"))
    return nbformat.writes(notebook)


def figure_html(
    figure: dict[str, Any], words: dict[str, Any], picture: str, made: str, live: str | None = None
) -> str:  # fmt: skip
    """A figure as HTML that a script draws: placeholder, JSON, caption and data table; `figures.js` draws plotly's.

    figure: plotly's JSON. words: `caption`, `alt` and `data`, as `figures.show` left them. picture: the address of a
    still picture, for readers without JavaScript. made: how the figure was made, in a line. live: the HTML of a figure
    that computes as it is moved, by the script of the same name, and stands in the place of plotly's.
    """
    alt = escape(words["alt"])
    if live is None:
        height = int(figure["layout"].get("height") or HEIGHT)
        begin = (
            '<figure class="rodpo-figure">'
            f'<div class="rodpo-plot" role="img" aria-label="{alt}" style="min-height:{height}px"></div>{_json(figure)}'
        )
        end, still = "", ""
    else:
        begin = f'<figure class="rodpo-figure" data-live="{words["live"]}">{live}{_json(words["inputs"])}'
        end = f'<script defer src="../_static/{LAB}/{words["live"]}.js"></script>'
        still = f"<p>{prose(words['still'])}</p>"
    title = "Data of this figure" if words["data"] else "How this figure was made"
    data = f'<details><summary>{title}</summary>{words["data"] or ""}<p class="rodpo-made">{escape(made)}</p></details>'
    return (
        f'{begin}<noscript><img src="{picture}" alt="{alt}" width="{WIDTH}" loading="lazy">{still}</noscript>'
        f"<figcaption>{prose(words['caption'])}</figcaption>{data}{end}</figure>"
    )


def _json(content: Any) -> str:
    """JSON for a script of the page; nothing in it can close its element."""
    payload = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json">{payload}</script>'


def live_html(book: Path, words: dict[str, Any]) -> str:
    """The controls and texts of a live figure, hidden until its script runs; a line, for a blank one ends raw HTML."""
    text = " ".join(_fill(book, f"live/{words['live']}.html.j2").split())
    return f'<div class="rodpo-lab" role="group" aria-label="{escape(words["alt"])}" hidden>{text}</div>'


def for_readers(page: Page, repository: str | None = None) -> str:
    """A page as a reader downloads it: with still pictures for where plotly is not shown, and what Colab needs."""
    import nbformat

    notebook, pictures = nbformat.read(page.executed, 4), 0
    for cell in _code_cells(notebook):
        for output in cell.outputs:
            if output.get("metadata", {}).pop(METADATA, CAPTION) != CAPTION:
                pictures += 1
                output.data["image/svg+xml"] = (page.pictures / f"{pictures}.svg").read_text(encoding="utf-8")
    if repository:
        code = _fill(page.source.parents[1] / "book", "colab.py.j2", repository=repository)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(code, id=f"{page.name}-colab"))
    return nbformat.writes(notebook)


def repository_name() -> str | None:
    """Owner/name on GitHub, by RODPO_REPOSITORY or GITHUB_REPOSITORY, if set. Raises InputError for what is none."""
    for variable in ("RODPO_REPOSITORY", "GITHUB_REPOSITORY"):
        if name := os.environ.get(variable):
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
                raise InputError(f"{variable} is {name!r}: it must be owner/name, as GitHub calls the repository.")
            return name
    return None


def site_address(repository: str) -> str:
    """Where GitHub serves the pages of a repository, owner/name."""
    owner, name = repository.split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def read_configuration(path: Path) -> dict[str, Any]:
    """The book's configuration; raises InputError where it lacks what is added to."""
    config = read_yaml(path, "The book's configuration")
    sphinx = config.get("sphinx")
    if not isinstance(sphinx, dict) or not isinstance(sphinx.get("config"), dict):
        raise InputError(f"The book's configuration {path} needs a group sphinx with a group config.")
    return config


def _configuration(path: Path, files: dict[Path, bytes], repository: str | None) -> bytes:
    """The configuration, which changes with every script, style and picture: for a page alone Sphinx copies none."""
    config = read_configuration(path)
    copied = sorted(name for name in files if name.parts[0] in (STATIC, "extra"))
    digest = hashlib.sha256(b"".join(str(name).encode() + files[name] for name in copied)).hexdigest()
    settings = config["sphinx"]["config"]
    settings.setdefault("html_context", {})["site_files"] = digest
    if repository:  # a card needs the whole address of its picture
        settings |= {"ogp_site_url": site_address(repository), "ogp_image": "_static/card.png"}
    return yaml.safe_dump(config, allow_unicode=True, sort_keys=False).encode()


def _contents(book: Path, pages: list[Page]) -> str:
    """llms.txt: what the book is and what each of its chapters is about, as plain text for machines that read."""
    order, chapters = (book / "_toc.yml").read_text(encoding="utf-8"), []
    for page in sorted(pages, key=lambda page: order.find(f"notebooks/{page.name}\n")):
        text = page.source.read_text(encoding="utf-8")
        title = re.search(r"^# # (.+)$", text, re.MULTILINE)[1]
        about = re.search(r"\*\*You will learn\*\* (.+?)\n#\n", text, re.DOTALL)
        about = re.sub(r"[*$`]", "", " ".join(about[1].replace("\n# ", " ").split())) if about else ""
        chapters.append({"name": page.name, "title": title, "about": about})
    return _fill(book, "llms.txt.j2", chapters=chapters)


def _fill(book: Path, name: str, **facts: Any) -> str:
    """Fill in a template of the book."""
    return sentences.fill((book / name).read_text(encoding="utf-8").removesuffix("\n"), **facts)


def _example(parameters: dict[str, Any]) -> str | None:
    """A parameter of a page with a value, to show how it is set; None if there is none worth changing."""
    for name, value in parameters.items():
        if isinstance(value, int):
            return f"{name} {value + 1}"
    return "ledger_folder $PWD/data/results" if "ledger_folder" in parameters else None


def _code_cells(notebook: Any) -> list[Any]:
    """Code cells, without what they recorded."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs = [output for output in cell.outputs if METRIC not in output.get("data", ())]
    return cells
