"""An executed notebook in the two forms that leave the build: as Sphinx reads it, and as a reader downloads it."""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import Any

from companion.site import markup, still
from companion.site.pages import METRIC, Page
from rodpo_lite.errors import InputError

BRANCH = "notebooks"  # where the executed notebooks are published
COLAB = """# On Colab: the project beside the notebook, and its package.
import sys

if "google.colab" in sys.modules:
    !git clone --quiet --depth 1 https://github.com/{repository} /content/project
    %pip install --quiet --editable /content/project
    sys.path.insert(0, "/content/project")
    %cd /content/project/notebooks
"""


def repository_name() -> str | None:
    """Where the project lives on GitHub, owner/name, by RODPO_REPOSITORY or GITHUB_REPOSITORY; None if neither says.

    Raises InputError for what is no such name.
    """
    for variable in ("RODPO_REPOSITORY", "GITHUB_REPOSITORY"):
        if name := os.environ.get(variable):
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
                raise InputError(f"{variable} is {name!r}: it must be owner/name, as GitHub calls the repository.")
            return name
    return None


def for_the_site(page: Page, repository: str | None = None) -> str:
    """Recorded metrics are taken out, figures completed, and the end says how to run it and what it was made from."""
    import nbformat

    notebook, stamp = nbformat.read(page.executed, 4), json.loads(page.stamp.read_text())
    commit = stamp["made_by"]["commit"]
    of_commit = f" · commit {commit}" if commit else ""
    pictures = (f"../_static/figures/{page.name}-{number}.svg" for number in itertools.count(1))
    for number, cell in enumerate(_code(notebook), start=1):
        made = f"Code cell {number} of this page · profile {stamp['parameters']['profile']}{of_commit}"
        for output in cell.outputs:
            if "text/html" in output.get("data", ()):
                output.data["text/html"] = still.complete(output.data["text/html"], pictures, made)
            if "text/markdown" in output.get("data", ()):
                output.data["text/markdown"] = markup.typeset(output.data["text/markdown"])
        what = "answer" if "hide-cell" in cell.metadata.get("tags", ()) else "code"
        cell.metadata["mystnb"] = {"code_prompt_show": f"Show the {what}", "code_prompt_hide": f"Hide the {what}"}
    text = _how_to_run(page.name, stamp["parameters"], repository) + _stamp_text(page.name, stamp)
    notebook.cells.append(nbformat.v4.new_markdown_cell(text, id=f"{page.name}-stamp"))
    return nbformat.writes(notebook)


def for_readers(page: Page, repository: str | None = None) -> str:
    """Figures are plotly's own, with a still picture for where plotly is not shown; Colab finds what it needs."""
    import nbformat

    notebook = nbformat.read(page.executed, 4)
    pictures = iter(sorted(page.pictures.glob("*.svg"), key=lambda path: int(path.stem)))
    for cell in _code(notebook):
        cell.outputs = [part for output in cell.outputs for part in _native(output, pictures)]
    if repository:
        cell = nbformat.v4.new_code_cell(COLAB.format(repository=repository), id=f"{page.name}-colab")
        notebook.cells.insert(0, cell)
    return nbformat.writes(notebook)


def _code(notebook: Any) -> list[Any]:
    """Code cells, without what they recorded."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs = [output for output in cell.outputs if METRIC not in output.get("data", ())]
    return cells


def _native(output: Any, pictures: Any) -> list[Any]:
    """An output without the book's figure markup: plotly's form and its caption, or itself if it holds no figure."""
    import nbformat

    found = still.read(output.get("data", {}).get("text/html", ""))
    if found is None:
        return [output]
    data = {"application/vnd.plotly.v1+json": found.figure, "image/svg+xml": next(pictures).read_text(encoding="utf-8")}
    shown = nbformat.v4.new_output("display_data", data | {"text/plain": found.alt})
    return [shown, nbformat.v4.new_output("display_data", {"text/html": found.caption, "text/plain": ""})]


def _how_to_run(name: str, parameters: dict[str, Any], repository: str | None) -> str:
    tabs = {
        "On your machine": f"""In a clone of the project, with Python 3.11 to 3.13:

```bash
make setup
.venv/bin/jupytext --to ipynb notebooks/{name}.py
.venv/bin/pip install jupyterlab && .venv/bin/jupyter lab notebooks/{name}.ipynb
```

Or open `notebooks/{name}.ipynb` in VS Code, with the Python of `.venv` as its kernel.
""",
    }
    if example := _other(parameters):
        papermill = f".venv/bin/papermill notebooks/{name}.ipynb out.ipynb -p {example}"
        tabs["With other parameters"] = (
            "After `make setup` and jupytext as on the other tab; `-p` sets what the cell of parameters sets.\n\n"
            f"```bash\n{papermill}\n```\n"
        )
    if repository:
        place = f"{repository}/{BRANCH}?urlpath=lab/tree/notebooks/{name}.ipynb"
        tabs["In the browser"] = (
            f"[Open on Binder](https://mybinder.org/v2/gh/{place}) or [in Colab]"
            f"(https://colab.research.google.com/github/{repository}/blob/{BRANCH}/notebooks/{name}.ipynb): "
            "nothing is installed on your machine.\n"
        )
    items = "".join(f"::::{{tab-item}} {title}\n{text}::::\n" for title, text in tabs.items())
    return f"## Run this page\n\n:::::{{tab-set}}\n{items}:::::\n\n"


def _other(parameters: dict[str, Any]) -> str | None:
    """A parameter of a page with a value, to show how it is set; None if there is none worth changing."""
    number = next((name for name, value in parameters.items() if isinstance(value, int)), None)
    if number is not None:
        return f"{number} {parameters[number] + 1}"
    return "ledger_folder $PWD/data/results" if "ledger_folder" in parameters else None


def _stamp_text(name: str, stamp: dict[str, Any]) -> str:
    parameters, made_by = stamp["parameters"], dict(stamp["made_by"])
    commit = made_by.pop("commit")
    facts = [f"profile {parameters['profile']}"]
    facts += [f"seed {parameters['seed']}"] if "seed" in parameters else []
    facts += [f"inputs `{stamp['hash'][:12]}`"]
    facts += [f"commit `{commit}`"] if commit else []
    facts += [f"{name} {version}" for name, version in made_by.items()]
    return (
        ":::{div} rodpo-stamp\n"
        f"Download this page as {{download}}`notebook </downloads/{name}.ipynb>` or "
        f"{{download}}`script </downloads/{name}.py>`. Made with {' · '.join(facts)}.\n"
        ":::\n"
    )
