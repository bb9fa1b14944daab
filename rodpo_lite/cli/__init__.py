"""The command line. Every command: `--help` with an example; bad input exits 2 with one clear sentence."""

import os
import sys
import warnings
from importlib.metadata import entry_points
from typing import Any

import typer

from rodpo_lite.cli import data, evaluate, train
from rodpo_lite.errors import InputError, Notice, printable

app = typer.Typer(
    help="The runnable companion of RoDPO (arXiv 2603.29259).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(data.app, name="data")
app.command()(train.train)
app.command(cls=train.WithRegistries)(train.align)
for command in (evaluate.evaluate, evaluate.baseline, evaluate.drift, evaluate.recommend):
    app.command()(command)
for entry in entry_points(group="rodpo.commands"):  # those of the companion: grid, book, check
    command = entry.load()
    app.add_typer(command, name=entry.name) if isinstance(command, typer.Typer) else app.command(entry.name)(command)


def main() -> None:
    """Run a command; turn InputError into one sentence and exit code 2, and Ctrl-C into exit code 130."""
    _print_notices()
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # of several processes the first one speaks
    try:
        if (code := app(standalone_mode=False)) == 130:  # typer has caught a Ctrl-C
            raise KeyboardInterrupt
        if code:  # that of a command that ended with typer.Exit
            sys.exit(code)
    except InputError as error:
        _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("Stopped; nothing half-written is left, and training that was stopped continues with --resume.", 130)
    except Exception as error:
        _fail_if_expected(error)
        raise


def _print_notices() -> None:
    """Show a Notice as one sentence, without the place in the source that other warnings name."""
    default = warnings.formatwarning

    def sentence(message: Any, category: type[Warning], *where: Any) -> str:
        return f"rodpo: {message}\n" if category is Notice else default(message, category, *where)

    warnings.formatwarning = sentence


def _fail_if_expected(error: Exception) -> None:
    """End without a traceback at an error of the command line, the file system, a diverged loss or a failed page."""
    if hasattr(error, "format_message"):  # the parser's own error types are private to typer
        if message := error.format_message():
            context = getattr(error, "ctx", None)
            _fail(f"{message.rstrip('.')}; see `{context.command_path} --help`." if context else message, 2)
        sys.exit(2)  # no command: its help has been printed
    if isinstance(error, OSError):
        _fail(f"{error.strerror or error}: {error.filename or 'no file named'}.", 2)
    if type(error).__name__ in ("TrainingDiverged", "BookError"):  # by name: importing them here would cost seconds
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    print(f"rodpo: {printable(message)}", file=sys.stderr)
    sys.exit(code)
