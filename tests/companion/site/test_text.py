"""What a reader reads is spelt right."""

import subprocess
import sys

import pytest
from tiny_book import PROJECT

READ = (
    "notebooks", "book/*.md", "book/*.yml", "book/*.j2", "book/live", "book/sentences", "README.md", "rodpo_lite",
    "companion", "workflow", "benchmarks", "tests",
)  # fmt: skip
NOT_WORDS = "trainig,cliente,produkt"  # a mistake that is made on purpose, and words of other languages


@pytest.mark.parametrize("place", READ)
def test_spelling(place):
    paths = [str(path) for path in sorted(PROJECT.glob(place))]
    assert paths
    command = [sys.executable, "-m", "codespell_lib", "--skip=*.json,*.js,vendor", f"--ignore-words-list={NOT_WORDS}"]
    run = subprocess.run([*command, *paths], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
