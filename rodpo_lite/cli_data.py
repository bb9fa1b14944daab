"""`rodpo data`: make and check datasets."""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Make and check datasets in the canonical format.", no_args_is_help=True)


@app.command("synth")
def data_synth(
    out: Annotated[Path, typer.Option("--out", help="folder to write")],
    users: Annotated[int, typer.Option(min=1, help="number of users")] = 2000,
    items: Annotated[int, typer.Option(min=100, help="number of items")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="seed of the world")] = 0,
) -> None:
    """Make the synthetic world, whose true relevance is known.

    Example: `rodpo data synth --out data/synthetic`
    """
    from rodpo_lite.data.schema import read_dataset
    from rodpo_lite.data.synthetic import WorldSizes, synthesise

    _describe(read_dataset(synthesise(out, seed, WorldSizes(users=users, items=items))), out)


@app.command("check")
def data_check(folder: Annotated[Path, typer.Argument(help="dataset folder")]) -> None:
    """Read a dataset folder, verify every checksum and rule of the format, and say what is in it.

    Example: `rodpo data check data/amazon/toys`
    """
    from rodpo_lite.data.schema import read_dataset

    _describe(read_dataset(folder), folder)


@app.command("plant")
def data_plant(
    folder: Annotated[Path, typer.Argument(help="dataset folder")],
    out: Annotated[Path, typer.Option("--out", help="folder to write")],
    share: Annotated[float, typer.Option(help="share of the training interactions to hide")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="seed of the choice")] = 0,
    name: Annotated[str | None, typer.Option(help="name of the result [default: the dataset's, -planted]")] = None,
) -> None:
    """Hide known positives before training, as false negatives whose place is known, and write what is left.

    Example: `rodpo data plant data/amazon/toys --out data/toys-planted`
    """
    from rodpo_lite.data.planted import plant
    from rodpo_lite.data.schema import read_dataset

    _describe(read_dataset(plant(folder, out, share, seed, name)), out)


def _describe(dataset: Any, folder: Path) -> None:
    parts = ", ".join(f"{m} ({x.shape[1]} numbers)" for m, x in dataset.features.items()) or "no item features"
    counts = f"{dataset.n_users:,} users, {dataset.n_items:,} items, {len(dataset.items):,} interactions"
    print(f"{folder}: {dataset.name}, {counts}, {parts}")
