"""The bar of a training: in a notebook that somebody looks at, not in the book and not in a log."""

import nbformat
import pytest
from nbclient import NotebookClient

from rodpo_lite.training.progress import bars

CELL = """
from rodpo_lite.training.progress import bars
print(sum(bars()(range(3), total=3, desc="epoch 1 of 1")))
"""


def outputs(monkeypatch, **environment) -> list:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook.cells[0].outputs


def test_a_notebook_has_a_bar_and_the_book_has_none(monkeypatch):
    shown = outputs(monkeypatch)
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in shown)
    (only,) = outputs(monkeypatch, TQDM_DISABLE="1")
    assert only.text == "3\n"


@pytest.mark.parametrize("size", [0, 3])
def test_a_log_has_no_bar(size, capsys):
    assert list(bars()(range(size), total=size, desc="epoch 1 of 1")) == list(range(size))
    assert capsys.readouterr() == ("", "")
