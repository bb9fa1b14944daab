"""The command line. Every command: `--help` with an example; bad input exits 2 with one clear sentence."""

import os
import sys
import warnings
from importlib.metadata import distribution
from typing import Annotated, Any

import typer

from rodpo_lite.cli import data, evaluate, train
from rodpo_lite.errors import InputError, Notice, printable

FIRST_STEPS = """\
From a log to recommendations:

  rodpo data import csv YOUR_LOG.csv --out data/mine        (without a log: rodpo data synth --out data/mine)
  rodpo train --data data/mine --out runs/reference
  rodpo recommend --data data/mine --run runs/reference --all --out recommendations.parquet

`rodpo -h` lists every command, and `rodpo COMMAND -h` explains one, with an example."""

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command()(train.train)
app.command(cls=train.WithRegistries)(train.align)
for command in (evaluate.evaluate, evaluate.baseline, evaluate.drift, evaluate.recommend):
    app.command()(command)
# Those of the companion: grid, book, check, report. `entry_points` would look through every package that is installed.
for entry in distribution("rodpo-lite").entry_points.select(group="rodpo.commands"):
    command = entry.load()
    app.add_typer(command, name=entry.name) if isinstance(command, typer.Typer) else app.command(entry.name)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        import torch

        from rodpo_lite import __version__
        from rodpo_lite.engine import best_device
        from rodpo_lite.provenance import machine

        about, device = machine(), best_device()
        name = about.get("accelerator", f"{about['model']}, {about['threads']} threads")
        print(f"rodpo-lite {__version__}, torch {torch.__version__}, device {device} ({name})")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def rodpo(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="versions and device, and end")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress and no notices; may stand anywhere")] = False,
) -> None:
    """The runnable companion of RoDPO (arXiv 2603.29259)."""
    if quiet:
        os.environ |= {"TQDM_DISABLE": "1", "RODPO_QUIET": "1"}
        warnings.simplefilter("ignore", Notice)
    if context.invoked_subcommand is None:
        print(FIRST_STEPS)


def main() -> None:
    """Run a command; turn InputError into one sentence and exit code 2, and Ctrl-C into exit code 130."""
    _print_notices()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a title may have letters that a terminal has not
    arguments = sorted(sys.argv[1:], key=lambda argument: argument != "--quiet")  # it may stand anywhere
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # of several processes the first one speaks
    try:
        if (code := app(arguments, standalone_mode=False)) == 130:  # typer has caught a Ctrl-C
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
