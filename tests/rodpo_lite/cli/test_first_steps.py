"""What any command line has: a version, first steps, short help, completion, and silence on demand."""

import os
import re
import subprocess
import sys

import pytest
from command_line import SMALL, rodpo
from import_cases import log, store


def test_the_version_says_what_computes():
    answer = rodpo("--version")
    assert answer.returncode == 0 and answer.stderr == ""
    assert re.fullmatch(r"rodpo-lite \d+\.\d+\.\d+, torch \d\S+, device (cpu|cuda) \(.+\)\n", answer.stdout)


def test_without_a_command_the_first_steps_are_shown_and_they_work(tmp_path):
    answer = rodpo()
    steps = re.findall(r"^  rodpo (.*?)(?:  .*)?$", answer.stdout, re.M)
    assert answer.returncode == 0 and len(steps) == 3
    store(tmp_path / "YOUR_LOG.csv", log())
    for step in steps:
        done = rodpo(*step.split(), *(SMALL if step.startswith("train") else []), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "recommendations.parquet").is_file()


@pytest.mark.parametrize("command", [[], ["train"], ["data"], ["data", "import"], ["grid"]])
def test_short_and_long_help_are_the_same(command):
    short, long = rodpo(*command, "-h"), rodpo(*command, "--help")
    assert short.returncode == 0 and short.stdout == long.stdout and "Usage: " in short.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell):
    """As a shell asks: through the environment."""

    def completed(words: str) -> str:
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_TYPER_COMPLETE_ARGS": words}
        answer = rodpo(_RODPO_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **asked)
        return answer.stdout

    assert "recommend" in completed("rodpo rec") and "train" not in completed("rodpo rec")
    assert "--time-format" in completed("rodpo data import --time-f")


@pytest.mark.parametrize("front", [True, False])
def test_quiet_leaves_out_progress_and_notices_but_no_result_and_no_error(front, tmp_path):
    def quiet(*arguments):
        return rodpo(*(["--quiet", *arguments] if front else [*arguments, "--quiet"]))

    untimed = store(tmp_path / "log.csv", [row[:2] for row in log()], ("user", "item"))
    loud = rodpo("data", "import", "csv", untimed, "--out", tmp_path / "loud")
    assert "has no time column" in loud.stderr
    answer = quiet("data", "import", "csv", untimed, "--out", tmp_path / "data")
    assert answer.stderr == "" and answer.stdout.splitlines()[1:] == loud.stdout.splitlines()[1:]
    answer = quiet("train", "--data", tmp_path / "data", "--out", tmp_path / "run", *SMALL)
    assert answer.returncode == 0 and answer.stderr == "" and answer.stdout.count("\n") == 1
    answer = quiet("evaluate", "--data", tmp_path / "data", "--run", tmp_path / "no")
    assert answer.returncode == 2 and answer.stderr.startswith("rodpo: ")


def test_an_epoch_says_how_long_the_rest_takes_at_most(world_folder, tmp_path):
    options = ["-o", "encoder.width=8", "-o", "training.epochs=2", "-o", "training.batches_per_epoch=4"]
    answer = rodpo("train", "--data", world_folder, "--out", tmp_path / "run", *options)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("epoch")]
    assert [re.search(r"at most (\S+) left$", line)[1][-5:-2] for line in lines] == ["00:", "00:"]
    assert lines[-1].endswith("at most 00:00 left")


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_letters_that_a_terminal_has_not(locale, tmp_path):
    """In a process of its own, as the locale counts when Python starts."""
    folder = tmp_path / "né ☃"
    folder.mkdir()
    source = store(folder / "log.csv", [(f"用户{row.user}", *row[1:]) for row in log()])
    command = [sys.executable, "-m", "rodpo_lite", "data", "import", "csv", source, "--out", folder / "data"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    answer = subprocess.run(command, env=environment | locale, capture_output=True)
    assert answer.returncode == 0, answer.stderr
    assert b"longest history: 8 of user" in answer.stdout and (folder / "data" / "dataset.json").is_file()
