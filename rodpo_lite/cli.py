"""The command line. Every command: `--help` with an example; bad input exits 2 with one clear sentence."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rodpo_lite import cli_book, cli_data, cli_grid
from rodpo_lite.errors import InputError, Notice, printable

app = typer.Typer(
    help="The runnable companion of RoDPO (arXiv 2603.29259).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_grid.app, name="grid")

Data = Annotated[Path, typer.Option("--data", help="dataset folder in the canonical format")]
Out = Annotated[Path, typer.Option("--out", help="run folder to write")]
RunFolder = Annotated[Path, typer.Option("--run", help="finished run folder")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with configuration keys")]
Override = Annotated[list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="set one configuration key")]
Seeds = Annotated[
    str | None, typer.Option("--seeds", help="train these seeds, as in 1,2,3, side by side; folders then name {seed}")
]
Resume = Annotated[bool, typer.Option("--resume", help="continue an unfinished run in --out")]


@app.command()
def train(
    data: Data, out: Out, config: ConfigFile = None, override: Override = None, seeds: Seeds = None,
    resume: Resume = False,
) -> None:  # fmt: skip
    """Stage 1: train a reference by next-item cross-entropy over the whole catalogue.

    Example: `rodpo train --data data/amazon/toys --out runs/toys -o seed=1`
    """
    from rodpo_lite import runs
    from rodpo_lite.config import ReferenceConfig
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.settings import resolve

    configs = [resolve(ReferenceConfig, config, own) for own in _for_seeds(override, seeds)]
    outs = [_of_seed("--out", out, config.seed, seeds) for config in configs]
    _finished(runs.train_seeds(read_dataset(data), configs, outs, resume, _report, _progress), outs)


class _WithRegistries(TyperCommand):
    """A command whose help ends with every selector and loss, read from the registries when help is asked for."""

    @property
    def epilog(self) -> str:
        from rodpo_lite.losses import LOSSES
        from rodpo_lite.negatives import SELECTORS

        return "\n\n".join(_list_of(key, entries) for key, entries in (("negatives", SELECTORS), ("loss", LOSSES)))

    @epilog.setter
    def epilog(self, text: str | None) -> None:
        """The text is made when it is read."""


def _list_of(key: str, entries: dict[str, Any]) -> str:
    lines = [f"- `{key}.name={name}`: {entry.summary}{_uses(key, entry)}" for name, entry in entries.items()]
    return f"**{key}.name** is one of\n\n" + "\n".join(lines)


def _uses(key: str, entry: Any) -> str:
    return f" Uses {', '.join(f'`{key}.{name}`' for name in entry.uses)}." if entry.uses else ""


@app.command(cls=_WithRegistries)
def align(
    data: Data, reference: Annotated[Path, typer.Option("--reference", help="finished run to start from")], out: Out,
    config: ConfigFile = None, override: Override = None, seeds: Seeds = None, resume: Resume = False,
) -> None:  # fmt: skip
    """Stage 2: align a policy with a preference loss, from a frozen reference.

    Example: `rodpo align --data data/amazon/toys --reference runs/toys --out runs/toys-topk -o negatives.name=topk`
    """
    from rodpo_lite import runs
    from rodpo_lite.config import AlignmentConfig
    from rodpo_lite.data.planted import Planted
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.settings import resolve

    configs = [resolve(AlignmentConfig, config, own) for own in _for_seeds(override, seeds)]
    outs = [_of_seed("--out", out, config.seed, seeds) for config in configs]
    references = [_of_seed("--reference", reference, config.seed, seeds) for config in configs]
    dataset = read_dataset(data)
    planted = Planted.of(dataset, data)
    found = runs.align_seeds(dataset, references, configs, outs, resume, _report, _progress, planted)
    _finished(found, outs)


def _for_seeds(override: list[str] | None, seeds: str | None) -> list[list[str] | None]:
    """The overrides of each seed that --seeds names; without it, the overrides."""
    if seeds is None:
        return [override]
    if any(key.startswith("seed=") for key in override or []):
        raise InputError("--seeds and -o seed=… both name the seed; leave one out.")
    named = seeds.split(",")
    if not all(name.isdecimal() for name in named) or len(set(map(int, named))) < len(named):
        raise InputError(f"--seeds {seeds!r} is not a list of different whole numbers, as in 1,2,3.")
    return [[*(override or []), f"seed={name}"] for name in named]


def _of_seed(option: str, folder: Path, seed: int, seeds: str | None) -> Path:
    """The folder of a seed: {seed} in its name stands for it when --seeds is given."""
    if seeds is None:
        return folder
    if "{seed}" not in str(folder):
        raise InputError(f"With --seeds, {option} names a folder for each: put {{seed}} into {folder}.")
    return Path(str(folder).replace("{seed}", str(seed)))


@app.command()
def evaluate(
    data: Data,
    run: Annotated[list[Path], typer.Option("--run", help="finished run folder; may be given several times")],
    split: Annotated[str, typer.Option(help="test or valid")] = "test",
    record: Annotated[bool, typer.Option("--record", help="enter the run into the ledger")] = False,
    ledger: Annotated[Path | None, typer.Option(help="ledger folder [default: the project's data/results]")] = None,
) -> None:
    """Rank every user's held-out item over the full catalogue, with and without the history masked.

    Example: `rodpo evaluate --data data/amazon/toys --run runs/toys --record`
    """
    from rodpo_lite import evaluation
    from rodpo_lite import ledger as book_keeping
    from rodpo_lite.data.schema import read_dataset

    if split not in ("test", "valid"):
        raise InputError(f"--split {split!r} is not valid: allowed are test, valid.")
    if record and split != "test":
        raise InputError("--record needs the test split: the ledger holds finished runs with their test metrics.")
    dataset, folder = read_dataset(data), ledger or book_keeping.FOLDER
    for one in run:
        found = evaluation.evaluate(dataset, one, split)
        _print_metrics(split, found["unmasked"], found["masked"])
        if record:
            print(f"recorded in {book_keeping.record(one, folder)}")
    if record:
        book_keeping.record_users(dataset, folder)


@app.command()
def baseline(
    data: Data,
    name: Annotated[str, typer.Option("--name", help="popularity, item_knn or content_knn")],
    record: Annotated[bool, typer.Option("--record", help="enter the result into the ledger")] = False,
    ledger: Annotated[Path | None, typer.Option(help="ledger folder [default: the project's data/results]")] = None,
) -> None:
    """Rank every user's test item by a baseline that trains nothing; how far it looks back is chosen on validation.

    Example: `rodpo baseline --data data/amazon/toys --name item_knn`
    """
    from rodpo_lite import baselines
    from rodpo_lite import ledger as book_keeping
    from rodpo_lite.data.schema import read_dataset

    dataset, folder = read_dataset(data), ledger or book_keeping.FOLDER
    entry, ranks = baselines.evaluate(dataset, name)
    _print_metrics("test", entry["test"], entry["test_masked"])
    if record:
        print(f"recorded in {book_keeping.enter(entry, ranks, folder)}")
        book_keeping.record_users(dataset, folder)


def _print_metrics(split: str, unmasked: dict[str, float], masked: dict[str, float]) -> None:
    for name, found in (("unmasked", unmasked), ("masked", masked)):
        print(f"{split:5} {name:8} " + "  ".join(f"{metric} {value:.5f}" for metric, value in found.items()))


@app.command()
def drift(
    data: Data,
    run: RunFolder,
    against: Annotated[Path, typer.Option("--against", help="finished run to compare with")],
) -> None:
    """Say how far false negatives moved from one run to an aligned one, against what stood beside them.

    Example: `rodpo drift --data data/toys-planted --run runs/hard --against runs/none`
    """
    from rodpo_lite import evaluation
    from rodpo_lite.data.planted import Planted
    from rodpo_lite.data.schema import read_dataset

    dataset = read_dataset(data)
    for notion, found in evaluation.drift(dataset, run, against, Planted.of(dataset, data)).items():
        if isinstance(found, dict):
            error, counts = 1.96 * found["standard_error"], f"{found['pairs']} pairs of {found['users']} users"
            print(f"{notion:8} {found['difference']:+.4f} ± {error:.4f}  ({counts})")


@app.command()
def recommend(
    data: Data, run: RunFolder,
    user: Annotated[str, typer.Option(help="user id, as in what was imported; a number where no ids are known")],
    top: Annotated[int, typer.Option(help="how many items")] = 10,
) -> None:  # fmt: skip
    """Print the best items for a user after their whole history: rank, score, id and title.

    Example: `rodpo recommend --data data/amazon/toys --run runs/toys --user 7`
    """
    from rodpo_lite import evaluation
    from rodpo_lite.data.schema import read_dataset

    dataset = read_dataset(data)
    found = evaluation.recommend(dataset, run, dataset.user_called(user), top)
    width = found["item"].str.len().max()
    for rank, row in enumerate(found.itertuples(), start=1):
        title = "" if row.title == row.item else row.title
        print(f"{rank:3}  {row.score:8.4f}  {row.item:{width}}  {title}".rstrip())


app.command()(cli_book.book)
app.command()(cli_book.check)


def main() -> None:
    """Entry point: turns InputError into one sentence and exit code 2, and Ctrl-C into exit code 130."""
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
    usual = warnings.formatwarning

    def sentence(message: Any, category: type[Warning], *where: Any) -> str:
        return f"rodpo: {message}\n" if category is Notice else usual(message, category, *where)

    warnings.formatwarning = sentence


def _fail_if_expected(error: Exception) -> None:
    """Errors without a traceback: of the command line parser, the file system, a diverged loss, a failed page."""
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


def _report(epoch: dict[str, Any]) -> None:
    losses = "  ".join(f"{name} {value:.4f}" for name, value in epoch.items() if name.startswith(("loss", "margin")))
    valid = f"validation NDCG@5 {epoch['valid']['ndcg@5']:.5f} (history masked {epoch['valid_masked']['ndcg@5']:.5f})"
    print(
        f"epoch {epoch['epoch']:3} of {epoch['epochs']}  {epoch['epoch_seconds']:6.1f} s  {losses}  {valid}", flush=True
    )


def _progress(batches: Any, **options: Any) -> Any:
    from tqdm import tqdm

    return tqdm(batches, leave=False, disable=None, unit="step", **options)


def _finished(records: list[dict[str, Any]], outs: list[Path]) -> None:
    for record, out in zip(records, outs, strict=True):
        valid = record["valid"]["ndcg@5"]
        print(f"{out}: run {record['config_hash']}, best epoch {record['best_epoch']}, validation NDCG@5 {valid:.5f}")
