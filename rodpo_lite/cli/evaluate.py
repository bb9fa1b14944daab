"""`rodpo evaluate`, `baseline`, `drift` and `recommend`."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from rodpo_lite.errors import InputError

Data = Annotated[Path, typer.Option("--data", help="dataset folder in the canonical format")]
Ledger = Annotated[Path | None, typer.Option(help="ledger folder [default: the project's data/results]")]
RunFolder = Annotated[Path, typer.Option("--run", help="finished run folder")]


def evaluate(
    data: Data,
    run: Annotated[list[Path], typer.Option("--run", help="finished run folder; may be given several times")],
    split: Annotated[str, typer.Option(help="test or valid")] = "test",
    record: Annotated[bool, typer.Option("--record", help="enter the run into the ledger")] = False,
    ledger: Ledger = None,
) -> None:
    """Rank every user's held-out item over the full catalogue, with and without the history masked.

    Example: `rodpo evaluate --data data/amazon/toys --run runs/toys --record`
    """
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.training import results

    if split not in ("test", "valid"):
        raise InputError(f"--split {split!r} is not valid: allowed are test, valid.")
    if record and split != "test":
        raise InputError("--record needs the test split: the ledger holds finished runs with their test metrics.")
    keeper, dataset = _ledger(ledger) if record else None, read_dataset(data)
    for folder in run:
        result = results.evaluate(dataset, folder, split)
        _print_metrics(split, result["unmasked"], result["masked"])
        if keeper:
            print(f"recorded in {keeper.enter_run(folder)}")
    if keeper:
        keeper.enter_users(dataset)


def baseline(
    data: Data,
    name: Annotated[str, typer.Option("--name", help="popularity, item_knn or content_knn")],
    record: Annotated[bool, typer.Option("--record", help="enter the result into the ledger")] = False,
    ledger: Ledger = None,
) -> None:
    """Rank every user's test item by a baseline that trains nothing; how far it looks back is chosen on validation.

    Example: `rodpo baseline --data data/amazon/toys --name item_knn`
    """
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.training import results

    keeper, dataset = _ledger(ledger) if record else None, read_dataset(data)
    entry, ranks = results.evaluate_baseline(dataset, name)
    _print_metrics("test", entry["test"], entry["test_masked"])
    if keeper:
        print(f"recorded in {keeper.enter_baseline(entry, ranks)}")
        keeper.enter_users(dataset)


def _ledger(folder: Path | None) -> Any:
    """The ledger in a folder: a part of the companion, which is known by its entry point alone."""
    entries = entry_points(group="rodpo.ledger")
    if not entries:
        raise InputError("--record needs the companion, which keeps the ledger: pip install 'rodpo-lite[book]'.")
    return next(iter(entries)).load()(folder)


def _print_metrics(split: str, unmasked: dict[str, float], masked: dict[str, float]) -> None:
    for name, metrics in (("unmasked", unmasked), ("masked", masked)):
        print(f"{split:5} {name:8} " + "  ".join(f"{metric} {value:.5f}" for metric, value in metrics.items()))


def drift(
    data: Data, run: RunFolder, against: Annotated[Path, typer.Option(help="finished run to compare with")]
) -> None:
    """Say how far false negatives moved from one run to an aligned one, compared with the items ranked next to them.

    Example: `rodpo drift --data data/toys-planted --run runs/hard --against runs/none`
    """
    from rodpo_lite.data.planted import Planted
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.training import results

    dataset = read_dataset(data)
    for notion, moved in results.drift(dataset, run, against, Planted.of(dataset, data)).items():
        if isinstance(moved, dict):
            error, counts = 1.96 * moved["standard_error"], f"{moved['pairs']} pairs of {moved['users']} users"
            print(f"{notion:8} {moved['difference']:+.4f} ± {error:.4f}  ({counts})")


def recommend(
    data: Data,
    run: Annotated[Path | None, typer.Option(help="finished run folder")] = None,
    baseline: Annotated[str | None, typer.Option(help="instead of a run: popularity, item_knn or content_knn")] = None,
    user: Annotated[
        str | None, typer.Option(help="user id, as in what was imported; a number where no ids are known")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="for every user, into the Parquet file --out")] = False,
    out: Annotated[Path | None, typer.Option(help="Parquet file with user, rank, item and score")] = None,
    top: Annotated[int, typer.Option(help="how many items")] = 10,
) -> None:
    """Print the best items for a user after their whole history: rank, score, id and title; or write them for all.

    What a baseline counts, as what users have in common, it counts in training, without each user's last two items.

    Example: `rodpo recommend --data data/amazon/toys --run runs/toys --user 7`, and for every user
    `rodpo recommend --data data/amazon/toys --run runs/toys --all --out recommendations.parquet`
    """
    if everyone == (user is not None) or everyone != (out is not None):
        raise InputError("Give either --user for one user, or --all and --out for every user.")
    if (run is None) == (baseline is None):
        raise InputError("Give either --run, a finished run folder, or --baseline, the name of a baseline.")
    if out and out.suffix != ".parquet":
        raise InputError(f"--out {out} is not valid: recommendations are a Parquet file, so its name ends in .parquet.")
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.evaluation.recommend import best_items, write_recommendations

    dataset = read_dataset(data)
    model = _model(dataset, run, baseline)
    if out:
        users = write_recommendations(model, dataset, out, top)
        print(f"{out}: {users:,} users" + (f"; {left:,} have every item" if (left := dataset.n_users - users) else ""))
        return
    best = best_items(model, dataset, dataset.user_called(user), top)
    width = max(len(item) for item, _, _ in best)
    for rank, (item, title, score) in enumerate(best, start=1):
        print(f"{rank:3}  {score:8.4f}  {item:{width}}  {title if title != item else ''}".rstrip())


def _model(dataset: Any, run: Path | None, baseline: str | None) -> Any:
    """That of a run, or a baseline; how far this looks back is chosen on validation, with the history dropped."""
    if run:
        from rodpo_lite.training.runs import load

        return load(run, dataset).model
    from rodpo_lite.evaluation.baselines import choose

    return choose(dataset, baseline, history=False)[0]
