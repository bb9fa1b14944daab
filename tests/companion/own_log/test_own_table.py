"""The page on own data, made by papermill of a table that is too small for most of what it says."""

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import numpy as np
import pandas as pd

from rodpo_lite.data.schema import locate

PROJECT = Path(__file__).parents[3]


def test_a_table_of_twelve_users_shows_no_number_that_is_none(tmp_path):
    rng = np.random.default_rng(0)
    takes = [(f"u{user}", item, day) for user in range(12) for day, item in enumerate(rng.permutation(30)[:6])]
    clicks = pd.DataFrame(takes, columns=["user", "item", "time"])
    clicks["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(clicks["time"], unit="D")
    clicks.to_csv(tmp_path / "clicks.csv", index=False)
    tool, notebook = [sys.executable, "-m"], PROJECT / "notebooks" / "yourdata.py"
    subprocess.run([*tool, "jupytext", "--to", "ipynb", notebook, "-o", tmp_path / "in.ipynb"], check=True)
    values = {"interactions": tmp_path / "clicks.csv", "quick": True}
    parameters = [part for name, value in values.items() for part in ("-p", name, str(value))]
    command = [*tool, "papermill", "--kernel", "python3", tmp_path / "in.ipynb", tmp_path / "out.ipynb", *parameters]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    page = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert "A first look, which decides nothing" in page and re.search(r"\bnan\b", page) is None


def test_a_parameter_that_papermill_takes_for_a_number_is_a_name_all_the_same(tmp_path, monkeypatch):
    """`-p user_column 1` arrives as 1, `-p interactions 2024` as 2024, and `-p data 2014` as 2014."""
    rows = [(f"u{user}", f"i{place}", place) for user in range(3) for place in range(4)]
    pd.DataFrame(rows, columns=[1, 2, 3]).to_csv(tmp_path / "2024", index=False)
    monkeypatch.chdir(tmp_path)
    notebook = jupytext.read(PROJECT / "notebooks" / "yourdata.py")
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    names = {}
    while "interactions" not in names:
        exec(cells.pop(0), names)
    names |= {"interactions": 2024, "user_column": 1, "item_column": 2, "time_column": 3}
    while "dataset" not in names:
        exec(cells.pop(0), names)
    assert (names["dataset"].n_users, names["dataset"].n_items) == (3, 4)
    assert locate(2014).name == "2014"
