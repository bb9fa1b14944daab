"""`rodpo report`: from a log to a decision, in one HTML file."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rodpo_lite.errors import InputError, printable

if TYPE_CHECKING:  # what a command imports when it runs
    from rodpo_lite.data.importers.request import Request


def report(
    log: Annotated[Path, typer.Argument(help="table of who took what and when, or a dataset folder")],
    out: Annotated[Path, typer.Option("--out", help="HTML file to write")] = Path("report.html"),
    quick: Annotated[bool, typer.Option("--quick", help="a first look: one seed, a few epochs, no decision")] = False,
    worth: Annotated[float, typer.Option(min=0, help="the smallest gain that is worth it, in percent")] = 2.0,
    format: Annotated[str, typer.Option(help="of LOG, as for `rodpo data import`")] = "csv",
    items: Annotated[Path | None, typer.Option(help="file with the items' texts")] = None,
    user: Annotated[str | None, typer.Option(help="column of users [default: found]")] = None,
    item: Annotated[str | None, typer.Option(help="column of items [default: found]")] = None,
    time_column: Annotated[str | None, typer.Option("--time", help="column of times [default: found]")] = None,
    ties: Annotated[str, typer.Option(help="what is tied in time: hash, or file for the order of the file")] = "hash",
    work: Annotated[Path | None, typer.Option(help="folder of what is trained [default: beside --out]")] = None,
) -> None:
    """Train with and without preferences on a log, and say in one HTML file whether to keep, discard, or get more data.

    The rule is written down: it decides on validation, and test confirms it once, with the history dropped. What was
    stopped goes on with the same command. A log that needs other options is imported with `rodpo data import` first.

    Example: `rodpo report clicks.csv --out report.html`, and for a first look `rodpo report clicks.csv --quick`
    """
    from companion.own_log.decision import decide
    from companion.own_log.report import answer, write
    from companion.own_log.tables import models
    from companion.own_log.trial import Trial
    from rodpo_lite.data.importers.request import Request
    from rodpo_lite.data.schema import read_dataset

    if out.suffix != ".html":
        raise InputError(f"--out {out} is not valid: the report is an HTML file, so its name ends in .html.")
    work = work or out.with_suffix(".quick" if quick else ".trial")
    data = _import(log, work, format, Request(log, items, user=user, item=item, time=time_column, ties=ties))
    trial = Trial.plan(read_dataset(data), data, work, quick)
    try:
        epoch = trial.epoch_seconds() if trial.left() else 0
        seeds = f"{len(trial.seeds)} seed{'s' * (len(trial.seeds) > 1)}"
        print(f"{seeds}, about {_clock(epoch * trial.left())}; what is done is kept in {work}", flush=True)
        for stage in trial.run():
            print(f"{stage:12} done, about {_clock(epoch * trial.left())} left", flush=True)
        valid = {name: trial.ndcg(name, "valid") for name in models(trial)}
        decision = decide(valid, None if quick else lambda name: trial.ndcg(name, "test"), worth)
        write(trial, decision, out, quick, worth)
    except KeyboardInterrupt:
        print(f"rodpo: Stopped; the same command goes on from what is in {work}.", file=sys.stderr)
        sys.exit(130)
    print(f"{out}: {printable('. '.join(answer(trial, decision, quick, worth)))}")


def _import(log: Path, work: Path, format: str, request: "Request") -> Path:
    """The dataset folder: LOG itself, or in `work`, imported if it is not yet; InputError if that is of another log."""
    from rodpo_lite.cli.data import describe
    from rodpo_lite.data.importers.dataset import import_dataset
    from rodpo_lite.files import read_json, write_json

    if (log / "dataset.json").is_file():
        source, folder = {"dataset": read_json(log / "dataset.json").get("files")}, log
    else:
        if not log.exists():
            raise InputError(f"There is no file or folder {log}, which LOG names.")
        about, folder = log.stat(), work / "data"
        options = {"format": format} | {name: str(value) for name, value in vars(request).items()}
        source = {"bytes": about.st_size, "modified": about.st_mtime, "options": options}
    known = work / "log.json"
    if known.exists() and read_json(known) != source:
        raise InputError(
            f"{work} holds a trial of {_other(read_json(known), source)}: remove it, or name another --work."
        )
    name = re.sub(r"[^\w-]+", "-", log.name.split(".")[0]) or "log"
    lines = [] if folder == log or folder.exists() else import_dataset(format, request, folder, name)
    write_json(known, source)
    describe(folder)
    print("\n".join(lines), end="\n" * bool(lines))
    return folder


def _other(known: dict[str, Any], source: dict[str, Any]) -> str:
    """What a folder holds a trial of, in words, where that is not what was asked for."""
    if not known.get("options") or {**known, "options": 0} != {**source, "options": 0}:
        return "another log, or of this one before it changed"
    before, now = known["options"], source["options"]
    changed = [name for name in now if before.get(name) != now[name]]
    of = [f"--{name} {before[name]}" if before.get(name, "None") != "None" else f"no --{name}" for name in changed]
    return "another log" if "source" in changed else f"this log with {' and '.join(of)}"


def _clock(seconds: float) -> str:
    """Such as `40 s`, `12 min`, `5 h` or `11 days`."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
