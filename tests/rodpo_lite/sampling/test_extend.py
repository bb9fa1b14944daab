"""The page on adding a strategy: its own code is run as printed, and does what the page says."""

import re
from pathlib import Path

import pytest
import test_selectors
from typer.testing import CliRunner

from rodpo_lite.cli import app
from rodpo_lite.config import AlignmentConfig
from rodpo_lite.sampling import selectors
from rodpo_lite.sampling.selectors import SELECTORS
from rodpo_lite.settings import build

PAGE = Path(__file__).parents[3] / "book" / "extend.md"


@pytest.fixture
def printed_test(monkeypatch):
    """Adds the page's selector to the registry for one test; returns the test that the page prints."""
    *code, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.setitem(SELECTORS, "median", None)
    exec("\n".join(code), dict(vars(selectors)))
    names = dict(vars(test_selectors))
    exec(test, names)
    return next(value for name, value in names.items() if name.startswith("test_median"))


def test_the_printed_test_passes(printed_test):
    printed_test()


def test_the_new_selector_follows_its_probabilities(printed_test):
    test_selectors.test_drawn_frequencies_follow_the_stated_probabilities("median", {})


def test_the_new_selector_is_known_to_the_command_line(printed_test):
    assert build(AlignmentConfig, {"negatives": {"name": "median"}}).negatives.name == "median"
    shown = CliRunner().invoke(app, ["align", "--help"]).output
    assert "negatives.name=median" in shown and "The middle one of the K best" in shown
