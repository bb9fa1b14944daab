"""An import from end to end: what people have becomes a dataset folder, or nothing is written."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from rodpo_lite.data import features
from rodpo_lite.data.importers import FORMATS
from rodpo_lite.data.importers.cleaning import REPEATS, clean
from rodpo_lite.data.importers.files import existing_file, storable
from rodpo_lite.data.importers.request import Format, Request
from rodpo_lite.data.schema import write_dataset
from rodpo_lite.errors import InputError, Notice

NOT_ALL = ("user", "item", "time", "rating", "delimiter", "text", "images")  # options that not every format takes
NEEDS = {"rating": "min_rating", "text": "items", "text_model": "items", "image_model": "image_folder"}


def import_dataset(format: str, request: Request, out: Path, name: str | None = None) -> list[str]:
    """Read what the request names and write it to the folder `out`; returns what was left out, a line each.

    name: that of the dataset [default: the folder's]. Raises InputError for what makes no dataset; nothing is written.
    """
    if format not in FORMATS:
        raise InputError(f"FORMAT {format!r} is not valid: allowed are {', '.join(FORMATS)}.")
    if out.exists():
        raise InputError(f"{out} exists already; choose another folder or remove it first.")
    name = name or re.sub(r"[^\w-]+", "-", out.resolve().name).strip("-") or "imported"
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"--name {name!r} is not valid: it must be made of letters, digits, - and _ only.")
    entry = FORMATS[format]
    _check_options(format, request)
    request = _locate_files(entry, request)
    log = entry.read(request)
    interactions, users, ids = clean(log, request.repeats, request.core)
    lines = [f"dropped: {log.losses}"] if log.losses else []
    del log  # its ids take more memory than the interactions
    items = pd.DataFrame({"item": np.arange(len(ids)), entry.id_column: list(map(storable, ids))})
    modalities, origin = {}, {}
    for modality, source, make in (
        ("text", request.items, _text_features),
        ("image", request.images or request.image_folder, _image_features),
    ):
        if source is None:
            continue
        rows, present, made_by = make(entry, request, ids, items)
        if not present.any():
            message = f"No item has a usable {modality} in {source}; are the ids written as in the interactions?"
            warnings.warn(message, Notice, stacklevel=2)
            continue
        modalities[modality], items[f"has_{modality}"], origin[modality] = rows, present, made_by
        if not present.all():
            lines.append(f"without {modality}: {(~present).sum():,} of {len(ids):,} items")
    write_dataset(
        out,
        name,
        interactions,
        items,
        modalities,
        {"users.parquet": pd.DataFrame({"user": np.arange(len(users)), "id": list(map(storable, users))})},
        has_timestamps="timestamp" in interactions,
        source=f"rodpo data import {format} {request.source.name}",
        licence="that of the source",
        notes="; ".join(lines) or "Nothing was left out.",
        origin=origin,
    )
    return lines


def _check_options(format: str, request: Request) -> None:
    """Raise InputError unless the options belong together, and to the format."""
    given = {option for option, value in vars(request).items() if value is not None}
    for option in NOT_ALL:
        if option in given and option not in FORMATS[format].uses:
            takers = ", ".join(other for other, entry in FORMATS.items() if option in entry.uses)
            raise InputError(f"--{option} does not belong to the format {format}; it belongs to {takers}.")
    if request.repeats not in REPEATS:
        raise InputError(f"--repeats {request.repeats!r} is not valid: allowed are {', '.join(REPEATS)}.")
    if request.core < 0:
        raise InputError(f"--core {request.core} is not valid: it must be at least 0.")
    if {"images", "image_folder"} <= given:
        raise InputError("--images and --image-folder both name images of the items; leave one out.")


def _locate_files(entry: Format, request: Request) -> Request:
    """The request with every file that the format finds by itself, if all are there and so is what reads them."""
    if not request.source.exists():
        raise InputError(f"There is no file or folder {request.source}, which SOURCE names.")
    request = entry.locate(request)
    existing_file(request.source, "SOURCE")
    for option in ("items", "images"):
        if getattr(request, option) is not None:
            existing_file(getattr(request, option), f"--{option}")
    if request.image_folder is not None and not request.image_folder.is_dir():
        raise InputError(f"There is no folder {request.image_folder}, which --image-folder names.")
    for option, needed in NEEDS.items():
        if getattr(request, option) is not None and getattr(request, needed) is None:
            raise InputError(f"--{option.replace('_', '-')} is of no use without --{needed.replace('_', '-')}.")
    features.require_for(request.items, request.text_model, request.image_folder, request.image_model)
    return request


Modality = tuple[np.ndarray, np.ndarray, str]  # rows [N, d], which items have one [N], how they were made


def _text_features(entry: Format, request: Request, ids: list[str], items: pd.DataFrame) -> Modality:
    """Features of the items' texts, which it puts into the column text."""
    texts = entry.texts(request, ids)
    items["text"] = pd.Series(texts, dtype=object)
    if request.text_model is not None:
        return *features.encode_texts(texts, request.text_model), f"{request.text_model} on the item's text, unit rows"
    return *features.text_features(texts), "truncated SVD of TF-IDF of the item's text, unit rows"


def _image_features(entry: Format, request: Request, ids: list[str], items: pd.DataFrame) -> Modality:
    if request.images is not None:
        return *entry.images(request, ids), "features published with the reviews, unit rows"
    folder, model = request.image_folder, request.image_model
    if model is not None:
        return *features.encode_images(folder, ids, model), f"{model} on the item's image, unit rows"
    return *features.thumbnail_features(folder, ids), "8 by 8 RGB thumbnails, standardised, unit rows"
