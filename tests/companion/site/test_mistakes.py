"""Three mistakes that a maintainer may make: the check catches each, and its table points at the right chapter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_book import PROJECT

NEEDED = (
    "rodpo_lite", "companion", "workflow", "notebooks", "data", "tests/baselines", "_config.yml", "book/_toc.yml",
    "book/sentences",
)  # fmt: skip
MISTAKES = {
    "a wrong sign in a loss": (
        "rodpo_lite/losses/preference.py",
        "return F.softplus(-config.beta * pairs.margin)",
        "return F.softplus(config.beta * pairs.margin)",
        "suppression_error_below_1e-12",
    ),
    "a changed default": (
        "rodpo_lite/losses/preference.py", "beta: float = Field(0.5,", "beta: float = Field(0.7,",
        "default_LossConfig.beta",
    ),
}  # fmt: skip


@pytest.fixture
def copy(tmp_path):
    for name in NEEDED:
        source, to = PROJECT / name, tmp_path / name
        to.parent.mkdir(parents=True, exist_ok=True)
        copied = shutil.copytree(source, to) if source.is_dir() else shutil.copy(source, to)
        assert Path(copied).exists()
    return tmp_path


def checked(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`rodpo check` with the package that lies in `root`."""
    command = [sys.executable, "-m", "rodpo_lite", "check", *arguments]
    around = os.environ | {"PYTHONPATH": str(root)} | environment
    return subprocess.run(command, cwd=root, env=around, capture_output=True, text=True)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_package_is_caught(mistake, copy):
    name, right, wrong, metric = MISTAKES[mistake]
    text = (copy / name).read_text()
    assert text.count(right) == 1
    (copy / name).write_text(text.replace(right, wrong))
    run = checked(copy, "--only", "objective")
    assert run.returncode == 1, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if metric in line]
    assert "objective" in line and "moved further than allowed" in line and "wrong (in objective)" in run.stdout


@pytest.mark.real_data
def test_a_swapped_dataset_is_caught(copy, real_data, tmp_path_factory):
    swapped = tmp_path_factory.mktemp("swapped") / "toys"
    shutil.copytree(real_data / "beauty", swapped)
    run = checked(copy, "--profile", "paper", "--only", "data", RODPO_DATA=str(swapped.parent))
    assert run.returncode == 1, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if "n_interactions" in line]
    assert "data" in line and "+18.4 %" in line
