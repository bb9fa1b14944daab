"""`rodpo data`: make, fetch, import and check datasets."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rodpo_lite.errors import printable

app = typer.Typer(help="Make, fetch, import and check datasets in the canonical format.", no_args_is_help=True)


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
    from rodpo_lite.data.synthetic import WorldSizes, synthesise

    describe(synthesise(out, seed, WorldSizes(users=users, items=items)))


@app.command("check")
def data_check(folder: Annotated[Path, typer.Argument(help="dataset folder")]) -> None:
    """Read a dataset folder, verify every checksum and rule of the format, and say what is in it.

    Example: `rodpo data check data/amazon/toys`
    """
    describe(folder)


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

    describe(plant(folder, out, share, seed, name))


@app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="which original; an unknown one is answered with the list")],
    out: Annotated[Path, typer.Option("--out", help="folder for the files")],
    roles: Annotated[str, typer.Option(help="which files; images are large")] = "interactions,items",
    max_gib: Annotated[float, typer.Option(help="GiB that a file may have")] = 20,
    timeout: Annotated[float, typer.Option(help="seconds without a byte before another attempt")] = 30,
    originals: Annotated[
        Path | None, typer.Option(help="list of originals [default: the project's data/originals.yml]")
    ] = None,
) -> None:
    """Download the public originals of a dataset, verify them, and say how they are imported.

    What was interrupted goes on with the same command. A file that is fetched for the first time is unverified; its
    checksum is kept, and every later fetch must match it.

    Example: `rodpo data fetch beauty --out data/amazon/originals`
    """
    from rodpo_lite.data.fetch import fetch

    try:
        for line in fetch(name, out, [role.strip() for role in roles.split(",")], max_gib, timeout, originals):
            print(line, flush=True)
    except KeyboardInterrupt:
        print("rodpo: Stopped; the same command goes on from what has arrived.", file=sys.stderr)
        sys.exit(130)


class _WithFormats(TyperCommand):
    """A command whose help ends with every format and name of a column, read when help is asked for, and examples."""

    def format_help(self, context: Any, formatter: Any) -> None:
        from rodpo_lite.data.importers import FORMATS
        from rodpo_lite.data.importers.tables import NAMES

        formats = "\n".join(f"- `{name}`: {entry.summary}" for name, entry in FORMATS.items())
        names = "\n".join(f"- {kind}: {', '.join(names)}" for kind, names in NAMES.items())
        self.epilog = (
            f"**FORMAT** is one of\n\n{formats}\n\n"
            "**Columns that are found** in a table, the likeliest first, whatever their case and punctuation; `id` "
            f"is that of an item in --items\n\n{names}\n\n**Examples**\n\n"
            "- `rodpo data import csv clicks.csv --out data/mine`\n"
            "- `rodpo data import csv clicks.csv --items items.csv --image-folder images --out data/mine`\n"
            "- `rodpo data import recbole ml-100k --min-rating 4 --out data/ml-100k`\n"
            "- `rodpo data import amazon2014 reviews_Beauty_5.json.gz --items meta_Beauty.json.gz --out data/beauty`\n"
            "- `rodpo data import amazon2018 Video_Games_5.json.gz --items meta_Video_Games.json.gz --out data/games`\n"
            "- `rodpo data import amazon2023 All_Beauty.jsonl.gz --items meta_All_Beauty.jsonl.gz --core 5 "
            "--out data/beauty`"
        )
        super().format_help(context, formatter)


@app.command("import", cls=_WithFormats)
def data_import(
    format: Annotated[str, typer.Argument(help="what SOURCE is; see below")],
    source: Annotated[Path, typer.Argument(help="file of interactions, as it is or packed; RecBole: or a folder")],
    out: Annotated[Path, typer.Option("--out", help="folder to write")],
    name: Annotated[str | None, typer.Option(help="name of the dataset [default: that of the folder]")] = None,
    items: Annotated[Path | None, typer.Option(help="file with the items' texts")] = None,
    images: Annotated[Path | None, typer.Option(help="image features of 2014, a .b file")] = None,
    image_folder: Annotated[Path | None, typer.Option(help="folder of images called ID.jpg, .png or .webp")] = None,
    user: Annotated[str | None, typer.Option(help="column of users [default: found]")] = None,
    item: Annotated[str | None, typer.Option(help="column of items [default: found]")] = None,
    time: Annotated[str | None, typer.Option(help="column of times [default: found]")] = None,
    rating: Annotated[str | None, typer.Option(help="column of ratings [default: found]")] = None,
    min_rating: Annotated[float | None, typer.Option(help="drop what is rated lower")] = None,
    time_format: Annotated[
        str | None, typer.Option(help="unit or form of times, or a pattern as '%d.%m.%Y %H:%M' [default: found]")
    ] = None,
    ties: Annotated[str, typer.Option(help="what is tied in time: hash, or file for the order of the file")] = "hash",
    no_header: Annotated[
        bool, typer.Option("--no-header", help="the first line is a row; columns are numbers, as in --user 1")
    ] = False,
    encoding: Annotated[str | None, typer.Option(help="encoding of text [default: found]")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="characters between columns, or tab, or space [default: found]")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="text columns of --items, as in title,brand [default: those with words]")
    ] = None,
    text_model: Annotated[str | None, typer.Option(help="sentence-transformers model instead of TF-IDF")] = None,
    image_model: Annotated[str | None, typer.Option(help="its CLIP model instead of thumbnails")] = None,
    repeats: Annotated[str, typer.Option(help="keep, or first: no item twice for a user")] = "keep",
    core: Annotated[int, typer.Option(min=0, help="least interactions of every user and item")] = 0,
) -> None:
    """Turn a table, RecBole files or Amazon reviews into a dataset folder, and say what was taken and left out.

    Times are Unix seconds, milli-, micro- or nanoseconds, ISO 8601, or in another usual form, which the whole column
    decides; `--time-format` takes a unit, year-first, month-first, day-first, or a pattern. What is tied in time is put
    in an order that says nothing, by a hash of user and item; without times the order of the file counts.

    Files may be packed (gzip, bzip2, xz, Zstandard, LZ4, zip with one file).
    """
    from rodpo_lite.data.importers.dataset import import_dataset
    from rodpo_lite.data.importers.request import Request

    columns = None if text is None else tuple(column.strip() for column in text.split(","))
    request = Request(
        source, items, images, image_folder, user, item, time, rating, min_rating, delimiter, columns, text_model,
        image_model, repeats, core, ties, time_format, no_header or None, encoding,
    )  # fmt: skip
    lines = import_dataset(format, request, out, name)
    describe(out)
    for line in lines:
        print(line)


def describe(folder: Path) -> None:
    """Print what is in a dataset folder, and the account of its import."""
    from rodpo_lite.data.schema import read_dataset

    dataset = read_dataset(folder)
    parts = [f"{modality} ({rows.shape[1]} numbers)" for modality, rows in dataset.features.items()]
    counts = f"{dataset.n_users:,} users, {dataset.n_items:,} items, {len(dataset.items):,} interactions"
    print(f"{folder}: {dataset.name}, {counts}, {', '.join(parts) or 'no item features'}")
    account = dataset.manifest.get("account")
    for line in account if isinstance(account, list) else ():
        print(printable(str(line)))
