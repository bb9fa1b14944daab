"""`rodpo grid`: the recorded experiments, as a Snakemake workflow."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from rodpo_lite.errors import InputError

app = typer.Typer(help="Run the grid of experiments, or say what is left of it.", no_args_is_help=False)

GridFile = Annotated[
    Path | None, typer.Option("--grid", help="declaration [default: the project's workflow/grid.yaml]")
]
Data = Annotated[
    Path, typer.Option(envvar="RODPO_DATA", help="folder of the datasets [default: RODPO_DATA, or data/amazon]")
]
Runs = Annotated[Path, typer.Option("--runs", help="folder of the runs")]
LedgerFolder = Annotated[
    Path | None, typer.Option("--ledger", help="ledger folder [default: the project's data/results]")
]


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
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(help="of products, to match what is on record [default: what the processor multiplies fastest]"),
    ] = None,
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
    from companion.evidence.ledger import Ledger
    from companion.evidence.plan import collect as write_index
    from companion.evidence.plan import empty_ledger, repeated

    recorded = target = Ledger(ledger)
    if again:
        runs = runs / "again"
        spare = tempfile.TemporaryDirectory()
        unborn = plan and not (runs / "ledger").exists()  # a plan leaves nothing behind
        target = empty_ledger(recorded, Path(spare.name) if unborn else runs / "ledger")
    made = _plan(grid_file, runs, target, _names(datasets), tier, _names(rows), _names(seeds))
    if plan:
        _print(made.summary(recorded))
        return
    if not made.todo():
        write_index(made.grid, made.ledger)  # a grid that was killed after its last run has not come to it
        print("The ledger holds every run that was asked for" + ("." if again else "; --again repeats them beside it."))
    else:
        _do(made, data, profile, replicas, precision, cores)
    if again:
        target.forget()
        _print_repeated(repeated(made.experiments, recorded, target))


def _do(made, data: Path, profile: str, replicas: int, precision: str | None, cores: int | None) -> None:
    """Run a plan; exit code 1 if it stops on the way."""
    from companion.evidence.plan import run

    for name in sorted({made.grid.source(experiment.dataset) for experiment in made.experiments}):
        _check_there(data, name)
    code = run(made, data, profile, replicas, precision, ["--cores", str(cores)] if cores else [])
    if code:
        print(
            f"rodpo: the grid stopped; logs lie beside the runs in {made.runs}, and it goes on where it is.",
            file=sys.stderr,
        )
        raise typer.Exit(1)


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
    from companion.evidence.grid import FINAL, Experiment, Grid
    from companion.evidence.ledger import Ledger
    from companion.evidence.plan import GRID

    grid, recorded = Grid.read(grid_file or GRID), Ledger(ledger)
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
    from companion.evidence.grid import Grid
    from companion.evidence.ledger import Ledger
    from companion.evidence.plan import GRID, collect

    recorded = Ledger.open(ledger)
    index = collect(Grid.read(grid_file or GRID), recorded)
    runs = sum(len(files) for rows in index.values() for files in rows.values())
    print(f"{recorded.folder} holds {runs} runs of the grid")


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
    from companion.evidence.grid import Grid
    from companion.evidence.ledger import Ledger
    from companion.evidence.plan import GRID
    from companion.findings.examples import write
    from rodpo_lite.data.schema import read_dataset

    _check_there(data, dataset)
    print(f"wrote {write(read_dataset(data / dataset), Grid.read(grid_file or GRID), runs, Ledger(ledger))}")


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


def _plan(
    grid_file: Path | None, runs: Path, ledger, datasets: tuple, tier: str, rows: tuple, seeds: tuple
):  # fmt: skip
    from companion.evidence.grid import Grid
    from companion.evidence.plan import GRID, Plan

    if not tier or set(tier) - set("ABC"):
        raise InputError(f"--tier {tier!r} is not valid: it names tiers out of A, B and C, as in AB.")
    grid = Grid.read(grid_file or GRID)
    if unknown := [seed for seed in seeds if seed not in map(str, grid.seeds)]:
        known = ", ".join(map(str, grid.seeds))
        raise InputError(f"--seeds {unknown[0]} is not valid: the reported seeds of the grid are {known}.")
    experiments = grid.experiments(datasets, tier, rows)
    asked = [one for one in experiments if (one.name in rows if rows else grid.tier(one.name, one.dataset) in tier)]
    if not any(not seeds or set(map(int, seeds)) & set(experiment.seeds) for experiment in asked):
        raise InputError(
            "The grid declares no run of these rows on these datasets, in these tiers and with these seeds."
        )
    return Plan(grid_file or GRID, grid, experiments, runs, ledger, tuple(map(int, seeds)))


def _check_there(data: Path, name: str) -> None:
    """The ledger and the grid call a dataset by one name: that of its folder and of its own manifest."""
    from rodpo_lite.files import read_json

    if not (data / name / "dataset.json").is_file():
        raise InputError(f"{data / name} is not a dataset: name the folder of the datasets with --data.")
    if (own := read_json(data / name / "dataset.json").get("name")) != name:
        raise InputError(f"The dataset in {data / name} calls itself {own!r}; give the folder that name.")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _print_repeated(runs) -> None:
    """Runs beside those on record, as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "row", "seed", "recorded", "again", "difference, %", title="test NDCG@5")
    for dataset, row, seed, before, now, difference in runs.itertuples(index=False):
        numbers = (_shown(before, ".5f"), _shown(now, ".5f"), _shown(difference, "+.2f"))
        table.add_row(dataset, row, str(seed), *numbers)
    Console().print(table)


def _print(summary) -> None:
    """The plan as a table, and its sum."""
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "row", "tier", "trials", "runs", "minutes")
    for dataset, row, tier, trials, runs, minutes in summary.itertuples(index=False):
        table.add_row(dataset, row, tier, str(trials), str(runs), _shown(minutes, ".1f"))
    Console().print(table)
    unknown, hours = int(summary["minutes"].isna().sum()), summary["minutes"].sum() / 60
    print(f"{summary['trials'].sum()} trials and {summary['runs'].sum()} runs to report, {hours:.1f} hours one by one")
    if unknown:
        print(f"not in these hours: {unknown} rows of which nothing like them was measured on their dataset")


def _shown(value: float, how: str) -> str:
    return "unknown" if value != value else format(value, how)
