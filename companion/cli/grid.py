"""`rodpo grid`: the recorded experiments, as a Snakemake workflow."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rodpo_lite.errors import InputError

app = typer.Typer(help="Run the grid of experiments, or say what is left of it.", no_args_is_help=False)

GridFile = Annotated[Path | None, typer.Option("--grid", help="declaration [default: workflow/grid.yaml]")]
Data = Annotated[Path, typer.Option(envvar="RODPO_DATA", help="folder of the datasets")]
Precision = Literal["fp32", "bf16"]
Runs = Annotated[Path, typer.Option("--runs", help="folder of the runs")]
LedgerFolder = Annotated[Path | None, typer.Option("--ledger", help="ledger folder [default: data/results]")]


@app.callback(invoke_without_command=True)
def grid(
    context: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="only say what would run and how long it takes")] = False,
    profile: Annotated[str, typer.Option(help="local or slurm")] = "local",
    datasets: Annotated[str, typer.Option(help="only these, as in toys,beauty")] = "",
    tier: Annotated[str, typer.Option(help="only these tiers, as in AB")] = "ABC",
    rows: Annotated[str, typer.Option(help="only these rows, whatever their tier, as in none,topk")] = "",
    seeds: Annotated[str, typer.Option(help="of the reported seeds only these, as in 1,2")] = "",
    again: Annotated[bool, typer.Option("--again", help="repeat what is on record, beside it, and compare")] = False,
    replicas: Annotated[int, typer.Option(min=1, help="seeds that share a process; more than 1 is for a GPU")] = 1,
    precision: Annotated[Precision | None, typer.Option(help="of products [default: the processor's fastest]")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="cores to use [default: the profile's]")] = None,
    data: Data = Path("data/amazon"),
    grid_file: GridFile = None,
    runs: Runs = Path("runs/grid"),
    ledger: LedgerFolder = None,
) -> None:
    """Do what the ledger does not hold yet: tune, train, align, evaluate. What is finished is never repeated.

    With --again it repeats rows that are on record, with the settings that were chosen, in the folder `again` of the
    runs, and prints their test NDCG@5 beside that on record.

    Example: `rodpo grid --plan`, then `rodpo grid --profile local --datasets toys --tier A`
    """
    if context.invoked_subcommand:
        return
    from companion.evidence import plan as plans

    declared, recorded = _read(grid_file, ledger)
    experiments, some = _experiments(declared, _names(datasets), tier, _names(rows), _names(seeds))
    target, spare = recorded, tempfile.TemporaryDirectory()
    if again:
        runs = runs / "again"
        unborn = plan and not (runs / "ledger").exists()  # a plan leaves nothing behind
        target = plans.empty_ledger(recorded, Path(spare.name) if unborn else runs / "ledger")
    made = plans.Plan(grid_file or plans.GRID, declared, experiments, runs, target, some)
    if plan:
        _print_plan(made.summary(recorded))
        return
    if not made.left():
        plans.collect(declared, target)  # a grid that was killed after its last run has not come to it
        print("The ledger holds every run that was asked for" + ("." if again else "; --again repeats them beside it."))
    else:
        for name in sorted({declared.source(experiment.dataset) for experiment in experiments}):
            _check_there(data, name)
        if plans.run(made, data, profile, replicas, precision, ["--cores", str(cores)] if cores else []):
            stopped = f"rodpo: the grid stopped; logs are beside the runs in {runs}; it goes on where it is."
            print(stopped, file=sys.stderr)
            raise typer.Exit(1)
    if again:
        target.forget()
        formats = {"recorded": ".5f", "again": ".5f", "difference %": "+.2f"}
        _print(plans.repeated(experiments, recorded, target), formats, "test NDCG@5")


@app.command()
def tune(
    dataset: Annotated[str, typer.Option(help="dataset")],
    row: Annotated[str, typer.Option(help="row of the grid, one with a study")],
    data: Annotated[Path, typer.Option(help="folder of the dataset")],
    grid_file: GridFile = None,
    runs: Runs = Path("runs/grid"),
) -> None:
    """Run a row's study to its end, trial by trial; one that was killed goes on where it was.

    Example: `rodpo grid tune --dataset toys-timed --row hm4sr --data data/amazon/toys-timed`
    """
    from companion.evidence.grid import Experiment
    from companion.evidence.plan import declared
    from companion.evidence.study import tune
    from rodpo_lite.cli.train import report
    from rodpo_lite.data.schema import read_dataset

    grid = declared(grid_file)
    grid.experiments((dataset,), rows=(row,))  # says which names there are
    if not grid.rows[row].study:
        raise InputError(f"The row {row} has no study; `rodpo grid` runs the trials that are declared of it.")
    tried = tune(Experiment(grid, dataset, row), read_dataset(data), runs, report)
    print(f"{dataset}, {row}: {len(tried)} trials, {sum('ended' in trial for trial in tried)} of them cut short")


@app.command()
def choose(
    dataset: Annotated[str, typer.Option(help="dataset")],
    row: Annotated[str, typer.Option(help="row of the grid")],
    grid_file: GridFile = None,
    runs: Runs = Path("runs/grid"),
    ledger: LedgerFolder = None,
) -> None:
    """Choose a row's settings by its trials on validation, if the ledger does not hold them, and write them down.

    They go to <runs>/<dataset>/<row>/final/config.yaml, which `rodpo train` and `rodpo align` take with --config.

    Example: `rodpo grid choose --dataset toys --row topk`
    """
    from companion.evidence import tuning
    from companion.evidence.grid import FINAL, Experiment

    grid, recorded = _read(grid_file, ledger)
    grid.experiments((dataset,), rows=(row,))  # says which names there are
    if not any(grid.runs_on(row, name) for name in grid.datasets if dataset in (name, grid.source(name))):
        raise InputError(f"The grid does not run {row} on {dataset}.")
    experiment = Experiment(grid, dataset, row)
    if experiment.tuned == experiment and experiment.chosen(recorded) is None:
        tuning.choose(experiment, runs, recorded)
    if (settings := experiment.chosen(recorded)) is None:
        tuned = experiment.tuned
        raise InputError(
            f"The trials that decide on {row} are not in {recorded.folder}: "
            f"`rodpo grid --datasets {tuned.dataset} --rows {tuned.name}` runs them."
        )
    tuning.write_settings(experiment.folder(runs) / FINAL / "config.yaml", settings)
    print(f"{dataset}, {row}: " + (", ".join(f"{key}={value}" for key, value in settings.items()) or "defaults"))


@app.command()
def collect(grid_file: GridFile = None, ledger: LedgerFolder = None) -> None:
    """Say which records of the ledger belong to which row of the grid, in its grid.json.

    Example: `rodpo grid collect`
    """
    from companion.evidence.ledger import Ledger
    from companion.evidence.plan import collect, declared

    recorded = Ledger.open(ledger)
    print(f"{recorded.folder} holds {collect(declared(grid_file), recorded)} runs of the grid")


@app.command()
def examples(
    dataset: Annotated[str, typer.Option(help="dataset")],
    data: Data = Path("data/amazon"),
    grid_file: GridFile = None,
    runs: Runs = Path("runs/grid"),
    ledger: LedgerFolder = None,
) -> None:
    """Keep the top ten of a few users before and after alignment in the ledger, from finished runs.

    Example: `rodpo grid examples --dataset toys`
    """
    from companion.findings.examples import write
    from rodpo_lite.data.schema import read_dataset

    _check_there(data, dataset)
    grid, recorded = _read(grid_file, ledger)
    print(f"wrote {write(read_dataset(data / dataset), grid, runs, recorded)}")


@app.command()
def verify(ledger: LedgerFolder = None) -> None:
    """Compute every test metric in the ledger again from the stored ranks, and say what differs.

    Example: `rodpo grid verify`
    """
    from companion.evidence.ledger import Ledger

    recorded = Ledger.open(ledger)
    if differing := recorded.differing():
        print("\n".join(differing), file=sys.stderr)
        raise typer.Exit(1)
    print(f"{len(recorded.paths())} records in {recorded.folder}: all metrics follow from the ranks")


def _read(grid_file: Path | None, ledger: Path | None) -> tuple[Any, Any]:
    """The grid and the ledger, by default those of the project; what they need is imported by a command that runs."""
    from companion.evidence.ledger import Ledger
    from companion.evidence.plan import declared

    return declared(grid_file), Ledger(ledger)


def _experiments(grid, datasets: tuple, tier: str, rows: tuple, seeds: tuple) -> tuple[list, tuple[int, ...]]:
    """The experiments and the seeds that are asked for; raises InputError if there are none."""
    if not tier or set(tier) - set("ABC"):
        raise InputError(f"--tier {tier!r} is not valid: it names tiers out of A, B and C, as in AB.")
    if unknown := [seed for seed in seeds if seed not in map(str, grid.seeds)]:
        known = ", ".join(map(str, grid.seeds))
        raise InputError(f"--seeds {unknown[0]} is not valid: the reported seeds of the grid are {known}.")
    experiments, some = grid.experiments(datasets, tier, rows), tuple(map(int, seeds))
    asked = [one for one in experiments if (one.name in rows if rows else grid.tier(one.name, one.dataset) in tier)]
    if not any(set(some or one.seeds) & set(one.seeds) for one in asked):
        raise InputError("The grid declares no run of these rows on these datasets, in these tiers, with these seeds.")
    return experiments, some


def _check_there(data: Path, name: str) -> None:
    """The ledger and the grid call a dataset by one name: that of its folder and of its own manifest."""
    from rodpo_lite.files import read_json

    if not (file := data / name / "dataset.json").is_file():
        raise InputError(f"{data / name} is not a dataset: name the folder of the datasets with --data.")
    if (own := read_json(file).get("name")) != name:
        raise InputError(f"The dataset in {data / name} calls itself {own!r}; give the folder that name.")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _print_plan(summary) -> None:
    _print(summary, {"minutes": ".1f"})
    unknown, hours = int(summary["minutes"].isna().sum()), summary["minutes"].sum() / 60
    print(f"{summary['trials'].sum()} trials and {summary['runs'].sum()} runs to report, {hours:.1f} hours one by one")
    if unknown:
        print(f"not in these hours: {unknown} rows of which nothing like them was measured on their dataset")


def _print(table, formats: dict[str, str], title: str | None = None) -> None:
    """A table, with the formats of its columns; NaN is unknown."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(*table.columns, title=title)
    for row in table.to_dict("records"):
        cells = (format(value, formats.get(column, "")) for column, value in row.items())
        shown.add_row(*(cell if cell not in ("nan", "+nan") else "unknown" for cell in cells))
    Console().print(shown)
