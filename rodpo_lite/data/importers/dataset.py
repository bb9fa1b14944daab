"""An import from end to end: what people have becomes a dataset folder, or nothing is written."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rodpo_lite.data.features import image_features, require, text_features
from rodpo_lite.data.importers import FORMATS
from rodpo_lite.data.importers.cleaning import REPEATS, TIES, clean
from rodpo_lite.data.importers.files import existing_file, storable
from rodpo_lite.data.importers.request import Request
from rodpo_lite.data.importers.times import check_form
from rodpo_lite.data.schema import write_dataset
from rodpo_lite.errors import InputError, Notice

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
    entry, request = FORMATS[format], _checked(format, request)
    log = entry.read(request)
    interactions, users, ids, account = clean(log, request.repeats, request.core, request.ties)
    lines = [f"dropped: {log.losses}"] if log.losses else []
    del log  # its ids take more memory than the interactions
    items = pd.DataFrame({"item": np.arange(len(ids)), entry.id_column: list(map(storable, ids))})
    made, modalities, origin = {}, {}, {}
    if request.items is not None:
        items["text"] = pd.Series(entry.texts(request, ids), dtype=object)
        made["text"] = text_features(items["text"], request.text_model)
    if request.images is not None:
        made["image"] = entry.images(request, ids)
    elif request.image_folder is not None:
        made["image"] = image_features(request.image_folder, ids, request.image_model)
    for modality, (rows, present, how) in made.items():
        if not present.any():
            source = request.items if modality == "text" else request.images or request.image_folder
            message = f"No item has a usable {modality} in {source}; are the ids written as in the interactions?"
            warnings.warn(message, Notice, stacklevel=2)
            continue
        modalities[modality], items[f"has_{modality}"], origin[modality] = rows, present, how
        if not present.all():
            lines.append(f"without {modality}: {(~present).sum():,} of {len(ids):,} items")
    extra = {"users.parquet": pd.DataFrame({"user": np.arange(len(users)), "id": list(map(storable, users))})}
    notes = {
        "has_timestamps": "timestamp" in interactions,
        "source": f"rodpo data import {format} {request.source.name}",
        "licence": "that of the source",
        "notes": "; ".join(lines) or "Nothing was left out.",
        "account": account,
    }
    write_dataset(out, name, interactions, items, modalities, extra, origin=origin, **notes)
    return lines


def _checked(format: str, request: Request) -> Request:
    """The request with every file that the format finds; options must belong together and files must be there."""
    for option in dict.fromkeys(option for entry in FORMATS.values() for option in entry.uses):
        if getattr(request, option) is not None and option not in FORMATS[format].uses:
            takers = ", ".join(other for other, entry in FORMATS.items() if option in entry.uses)
            named = option.replace("_", "-")
            raise InputError(f"--{named} does not belong to the format {format}; it belongs to {takers}.")
    for option, allowed in (("repeats", REPEATS), ("ties", TIES)):
        if (value := getattr(request, option)) not in allowed:
            raise InputError(f"--{option} {value!r} is not valid: allowed are {', '.join(allowed)}.")
    check_form(request.time_format)
    if request.core < 0:
        raise InputError(f"--core {request.core} is not valid: it must be at least 0.")
    if request.images is not None and request.image_folder is not None:
        raise InputError("--images and --image-folder both name images of the items; leave one out.")
    if not request.source.exists():
        raise InputError(f"There is no file or folder {request.source}, which SOURCE names.")
    request = FORMATS[format].locate(request)
    for option in ("source", "items", "images"):
        if (path := getattr(request, option)) is not None:
            path = existing_file(path, "SOURCE" if option == "source" else f"--{option}")
            request = replace(request, **{option: path})
    if request.image_folder is not None and not request.image_folder.is_dir():
        raise InputError(f"There is no folder {request.image_folder}, which --image-folder names.")
    for option, needed in NEEDS.items():
        if getattr(request, option) is not None and getattr(request, needed) is None:
            raise InputError(f"--{option.replace('_', '-')} is of no use without --{needed.replace('_', '-')}.")
    for model in (request.text_model, request.image_model):
        if model is not None:
            require("sentence_transformers", "sentence-transformers", f"Features by the model {model}")
    if request.items is not None and request.text_model is None:
        require("sklearn", "scikit-learn", "Text features")
    if request.image_folder is not None:
        require("PIL", "pillow", "Image features")
    return request
