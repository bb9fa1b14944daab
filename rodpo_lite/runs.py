"""Run folders: train a reference, align a policy from it, evaluate, recommend.

A run folder holds run.json (configuration, its hash, dataset checksums, versions, commit), history.jsonl (a line per
epoch) and model.safetensors, which appears last: a run without it has not finished. `evaluate` adds metrics.json and
ranks.parquet. Until a run has finished, checkpoint.safetensors holds everything needed to go on.
"""

import io
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rodpo_lite import __version__, checkpoint, metrics
from rodpo_lite.alignment import AlignmentObjective
from rodpo_lite.capacity import parameter_counts
from rodpo_lite.config import AlignmentConfig, EncoderConfig, ReferenceConfig, build, identity
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset, sha256
from rodpo_lite.data.split import Part, leave_one_out
from rodpo_lite.distributed import ALONE, joined, processes
from rodpo_lite.drift import drift_report
from rodpo_lite.eligibility import OwnedItems
from rodpo_lite.engine import Engine, best_device
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.model.scoring import Recommender
from rodpo_lite.negatives import SELECTORS
from rodpo_lite.ranking import encode_histories, rank_dataset
from rodpo_lite.reference import ReferenceObjective
from rodpo_lite.training import Report, Trainer

LIBRARIES = ("torch", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A finished run, ready to score: its record (run.json), model in eval mode, and encoder settings."""

    folder: Path
    record: dict[str, Any]
    model: Recommender
    encoder: EncoderConfig

    @property
    def id(self) -> str:
        return self.record["config_hash"]

    @property
    def history(self) -> pd.DataFrame:
        """What training reported, a row per epoch; validation metrics are left out."""
        lines = pd.read_json(self.folder / checkpoint.HISTORY, lines=True)
        return lines.drop(columns=["valid", "valid_masked"]).set_index("epoch")


def train(
    dataset: Dataset, config: ReferenceConfig, out: Path, resume: bool = False, report: Report | None = None,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Stage 1: train a reference into the run folder `out`; returns its record.

    A finished run of the same configuration is returned as it is. In a process that torchrun started it trains together
    with the others. Raises InputError if `out` holds another run, or an unfinished one without `resume`.
    """
    _check_trainable(dataset, config)
    record, engine = _record(dataset, config, config.encoder, {}), Engine.of(config.training)
    with joined(engine.device) as group:
        if (done := group.from_main(lambda: _claim(out, record, resume))) is not None:
            return done
        model = _initial(dataset, config).to(engine.device)
        objective = ReferenceObjective(model, dataset, config, engine)
        generator = _generator(engine, config)
        return _fit(model, objective, dataset, config, record, out, generator, resume, report, progress, group)


def _initial(dataset: Dataset, config: ReferenceConfig) -> Recommender:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Recommender.for_dataset(config.encoder, dataset)
    if config.encoder.base == "towers" and dataset.first_time is None:
        warnings.warn(f"{dataset.name} has no timestamps, so the towers go without the temporal mixture.", Notice, 2)
    return model


def align(
    dataset: Dataset, reference: Path, config: AlignmentConfig, out: Path, resume: bool = False,
    report: Report | None = None, progress: Callable[..., Any] | None = None, planted: Planted | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Stage 2: align a policy, starting from the finished run `reference` and against its frozen copy.

    With `planted`, the history also says how much of the selection and suppression falls on what was hidden. Returns
    the record; raises InputError as `train` does, and if the reference does not fit the dataset or `negatives.k` is
    larger than the catalogue.
    """
    if processes() > 1:
        raise InputError("An alignment runs in one process; only `rodpo train` can be started by torchrun.")
    _check_negatives(dataset, config)
    engine = Engine.of(config.training)
    frozen = load(reference, dataset, engine.device)
    weights = sha256(Path(reference) / checkpoint.MODEL)
    record = _record(dataset, config, frozen.encoder, {"reference": frozen.id, "reference_weights": weights})
    if (done := _claim(out, record, resume)) is not None:
        return done
    policy = load(reference, dataset, engine.device).model
    if not config.training.dropout:
        policy.disable_dropout()
    hidden, generator = planted.to(engine.device) if planted else None, _generator(engine, config)
    objective = AlignmentObjective(policy, frozen.model, dataset, config, generator, hidden, engine)
    return _fit(policy, objective, dataset, config, record, out, generator, resume, report, progress)


def load(folder: Path, dataset: Dataset, device: torch.device | str = "cpu") -> Run:
    """Load a finished run for scoring; raises InputError if it is unfinished, damaged or of another dataset."""
    folder = Path(folder)
    record = checkpoint.read_json(folder / checkpoint.RUN)
    weights, state = checkpoint.read_tensors(folder / checkpoint.MODEL)
    try:
        own_hash, encoder = record["config_hash"], build(EncoderConfig, record["encoder"])
        name, checksums = record["dataset"]["name"], record["dataset"]["checksums"]
    except (KeyError, TypeError):
        raise InputError(f"{folder / checkpoint.RUN} is not the record of a run: it is damaged.") from None
    if state.get("config_hash") != own_hash:
        raise InputError(f"{folder / checkpoint.MODEL} belongs to another run than {checkpoint.RUN} beside it.")
    if checksums != _checksums(dataset):
        raise InputError(
            f"The run {folder} belongs to the dataset {name}, whose files differ from those of {dataset.name}."
        )
    model = Recommender.for_dataset(encoder, dataset)
    checkpoint.load_weights(model, weights, folder / checkpoint.MODEL)
    return Run(folder, record, model.to(device).eval(), encoder)


def evaluate(dataset: Dataset, folder: Path, part: Part = "test") -> dict[str, Any]:
    """Rank every user's `part` target and write metrics.json and ranks.parquet (`_valid` for validation).

    Returns {"unmasked": metrics, "masked": metrics, ...}; ranks.parquet has columns user, rank, rank_masked (from 0).
    """
    run = load(folder, dataset, best_device())
    started = time.perf_counter()
    try:
        ranks = rank_dataset(run.model, dataset, part, run.encoder.max_length)
    except ValueError as error:
        raise InputError(f"The run {folder} cannot be evaluated: {error}.") from None
    found = {
        "split": part,
        "config_hash": run.id,
        "dataset": dataset.name,
        "n_users": dataset.n_users,
        "unmasked": metrics.from_ranks(ranks.unmasked),
        "masked": metrics.from_ranks(ranks.masked),
        "seconds": round(time.perf_counter() - started, 3),
    }
    suffix = "" if part == "test" else "_valid"
    frame = pd.DataFrame({"user": np.arange(dataset.n_users), "rank": ranks.unmasked, "rank_masked": ranks.masked})
    stream = io.BytesIO()
    frame.astype(np.int32).to_parquet(stream, index=False, compression="zstd")
    checkpoint.write_bytes(run.folder / f"ranks{suffix}.parquet", stream.getvalue())
    checkpoint.write_json(run.folder / f"metrics{suffix}.json", found)
    return found


def drift(dataset: Dataset, folder: Path, against: Path, planted: Planted | None = None) -> dict[str, Any]:
    """Write drift.json: how far false negatives moved from the run `against` to the alignment `folder`.

    Raises InputError if `folder` is a reference: nothing was rejected there.
    """
    device = best_device()
    run, before = load(folder, dataset, device), load(against, dataset, device)
    if run.record["stage"] != "align":
        raise InputError(f"The run {folder} is a reference; drift is asked of an alignment.")
    exclude = run.record["config"]["negatives"]["exclude"]
    hidden = planted.to(device) if planted else None
    found = {"against": before.id, "exclude": exclude, "commit": commit()}
    found |= drift_report(run.model, before.model, dataset, run.encoder.max_length, exclude, hidden)
    checkpoint.write_json(run.folder / "drift.json", found)
    return found


@torch.no_grad()
def recommend(dataset: Dataset, folder: Path, user: int, top: int = 10) -> pd.DataFrame:
    """The `top` items for a user after their whole history, which is left out; columns item, title, score."""
    if not 0 <= user < dataset.n_users:
        raise InputError(f"There is no user {user}: {dataset.name} has users 0 to {dataset.n_users - 1}.")
    if not 1 <= top <= dataset.n_items:
        raise InputError(f"--top {top} is out of range: {dataset.name} has {dataset.n_items} items.")
    run = load(folder, dataset)
    start, end = dataset.offsets[:-1].copy(), dataset.offsets[1:].copy()
    end[np.arange(dataset.n_users) != user] = start[np.arange(dataset.n_users) != user]
    (_, hidden, vectors), *_ = encode_histories(run.model, dataset, start, end, run.encoder.max_length)
    scores = (hidden @ vectors.T).squeeze(0)
    scores[torch.as_tensor(dataset.items[start[user] : end[user]])] = -torch.inf
    best = scores.topk(min(top, int(torch.isfinite(scores).sum())))
    titles = [" ".join(dataset.titles[item].split())[:80] for item in best.indices.tolist()]
    return pd.DataFrame({"item": best.indices.numpy(), "title": titles, "score": best.values.numpy()})


def _check_trainable(dataset: Dataset, config: ReferenceConfig) -> None:
    if dataset.lengths.max() < 4:
        raise InputError(
            f"No user of {dataset.name} has two training items, so there is nothing to learn: "
            "at least one user needs four interactions."
        )
    if config.encoder.placeholder and (dataset.first_time is None or not dataset.features):
        missing = "no timestamps" if dataset.features else "no item features"
        raise InputError(f"encoder.placeholder = true, but {dataset.name} has {missing}; leave it out.")


def _check_negatives(dataset: Dataset, config: AlignmentConfig) -> None:
    """Every position must have something that may be rejected, and what is counted must fit into the catalogue."""
    used = SELECTORS[config.negatives.name].uses if config.negatives.name != "none" else ()
    for key in {"k", "skip", "candidates"} & set(used):
        if (value := getattr(config.negatives, key)) > dataset.n_items:
            raise InputError(
                f"negatives.{key} = {value} is larger than the catalogue of {dataset.name}, "
                f"which has {dataset.n_items} items."
            )
    if config.negatives.name == "none" or config.negatives.exclude == "none":
        return
    split = leave_one_out(dataset)
    owned = OwnedItems.within(dataset.items, split.start, split.train_end, dataset.n_items).offsets.diff()
    if int(owned.max()) >= dataset.n_items:
        raise InputError(
            f"User {int(owned.argmax())} has the whole catalogue among the training items, "
            "so nothing is left to reject; use negatives.exclude=none or drop that user."
        )


def _generator(engine: Engine, config: ReferenceConfig | AlignmentConfig) -> torch.Generator:
    return torch.Generator(engine.device).manual_seed(config.seed)


def _checksums(dataset: Dataset) -> dict[str, str]:
    """Checksums of what a model sees: the interactions, the items, the features."""
    used = {"interactions.parquet", "items.parquet", *(m["file"] for m in dataset.manifest["modalities"].values())}
    return {file: checksum for file, checksum in dataset.checksums.items() if file in used}


def _record(dataset: Dataset, config: Any, encoder: EncoderConfig, inputs: dict[str, str]) -> dict[str, Any]:
    checksums = _checksums(dataset)
    return {
        "config_hash": identity(config, checksums=checksums, **inputs),
        "stage": config.stage,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "encoder": encoder.model_dump(mode="json"),
        **inputs,
        "dataset": {
            "name": dataset.name,
            "n_users": dataset.n_users,
            "n_items": dataset.n_items,
            "n_interactions": len(dataset.items),
            "checksums": checksums,
        },
    }


def _claim(out: Path, record: dict[str, Any], resume: bool) -> dict[str, Any] | None:
    """The record of `out` if it is this very run and finished; otherwise make sure that `out` may be written."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder.")
    checkpoint.sweep(out)
    if not (out / checkpoint.RUN).exists():
        if out.exists() and any(out.iterdir()):
            raise InputError(f"--out {out} is not empty and not a run folder; choose another folder.")
        return None
    found = checkpoint.read_json(out / checkpoint.RUN)
    if found.get("config_hash") != record["config_hash"]:
        raise InputError(f"--out {out} holds another run ({found.get('config_hash')}); choose another folder.")
    if (out / checkpoint.MODEL).exists():
        (out / checkpoint.CHECKPOINT).unlink(missing_ok=True)
        return found
    if not resume:
        raise InputError(f"--out {out} holds this run, unfinished; continue it with --resume.")
    return None


def _fit(
    model, objective, dataset, config, record, out, generator, resume, report, progress, group=ALONE
) -> dict[str, Any]:
    engine = {"device": str(objective.engine.device), "precision": objective.engine.precision}
    record |= {"versions": versions(), "commit": commit(), **engine, "machine": machine()}
    if group.size > 1:
        record["processes"] = group.size
    group.from_main(lambda: checkpoint.write_json(out / checkpoint.RUN, record))
    optional = {"report": report, "progress": progress} if group.is_main else {}
    trainer = Trainer(
        model, objective, dataset, config, EncoderConfig.model_validate(record["encoder"]).max_length, Path(out),
        generator, group=group, **{name: hook for name, hook in optional.items() if hook is not None},
    )  # fmt: skip
    best, counts = trainer.fit(resume), parameter_counts(model)
    record |= {
        "best_epoch": best["epoch"],
        "epochs_run": len(trainer.history),
        "seconds": round(sum(line["epoch_seconds"] for line in trainer.history), 1),
        "parameters": counts.total,
        "active_parameters": counts.active,
        "valid": best["valid"],
        "valid_masked": best["valid_masked"],
    }
    if group.is_main:
        checkpoint.write_json(out / checkpoint.RUN, record)
        checkpoint.write_tensors(out / checkpoint.MODEL, trainer.best, {"config_hash": record["config_hash"]})
        (out / checkpoint.CHECKPOINT).unlink()
    return record


def versions() -> dict[str, str]:
    """Python and the libraries that decide the numbers."""
    own = {"python": platform.python_version(), "rodpo_lite": __version__}
    return own | {name: version(name) for name in LIBRARIES}


def machine() -> dict[str, Any]:
    """What computed the run: processor architecture, threads, accelerator."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    found["cpu"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def commit() -> str | None:
    """The commit of the source that runs, `+` for uncommitted changes; None outside a checkout."""
    root = Path(__file__).resolve().parent
    git = ["git", "-C", str(root)]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, env=environment, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()[:12] + ("+" if dirty.stdout.strip() else "")
