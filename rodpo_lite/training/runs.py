"""Run folders: train a reference, align a policy from it, one seed or several together.

A run folder holds run.json (configuration, its hash, dataset checksums, versions, commit), history.jsonl (a line per
epoch) and model.safetensors, which appears last: a run without it has not finished. `evaluate` adds metrics.json and
ranks.parquet. Until a run has finished, checkpoint.safetensors holds everything needed to go on. In run.json a run that
was resumed has `stretches`: an entry for each time, with its first epoch and what computed it.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rodpo_lite import files
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.planted import Planted
from rodpo_lite.data.schema import Dataset, sha256
from rodpo_lite.engine import stream_seed
from rodpo_lite.errors import InputError, Notice
from rodpo_lite.model.capacity import parameter_counts
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.model.recommender import Recommender
from rodpo_lite.provenance import computation, computed_in
from rodpo_lite.sampling.candidates import OwnedItems
from rodpo_lite.sampling.selectors import SELECTORS
from rodpo_lite.settings import build, identity
from rodpo_lite.training import checkpoint
from rodpo_lite.training.alignment import AlignmentObjective
from rodpo_lite.training.distributed import joined, processes
from rodpo_lite.training.progress import bars
from rodpo_lite.training.reference import ReferenceObjective
from rodpo_lite.training.replicas import can_stack, fit_together
from rodpo_lite.training.trainer import Report, Trainer

if TYPE_CHECKING:
    import pandas as pd


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
    def history(self) -> "pd.DataFrame":
        """What training reported, a row per epoch, without validation metrics."""
        import pandas as pd

        lines = pd.DataFrame(checkpoint.read_history(self.folder))
        return lines.drop(columns=["valid", "valid_masked"]).set_index("epoch")


def train(
    dataset: Dataset, config: ReferenceConfig, out: Path, resume: bool = False, report: Report | None = None,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Stage 1: train a reference into the run folder `out`; return its record.

    The record of a finished run of the same configuration is returned as it is. A process that torchrun started trains
    together with the others. Raises InputError if `out` holds another run, or an unfinished one without `resume`.
    """
    return train_seeds(dataset, [config], [out], resume, report, progress)[0]


def train_seeds(
    dataset: Dataset, configs: Sequence[ReferenceConfig], outs: Sequence[Path], resume: bool = False,
    report: Report | None = None, progress: Callable[..., Any] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """`train` for configurations that differ in their seeds alone, side by side where that is possible.

    In fp32 they are those trained alone up to rounding, in bf16 they come out differently (see `fit_together`).
    """
    if processes() > 1 and len(configs) > 1:
        raise InputError("Several seeds run in one process; leave out --seeds or torchrun.")
    engine, records, jobs = configs[0].training.engine(), [], []
    with joined(engine.device) as group, ExitStack() as locks:
        hooks = {"report": report or Trainer.report, "progress": progress or bars()} if group.is_main else {}
        for config, out in zip(configs, outs, strict=True):
            _check_trainable(dataset, config)
            record = _new_record(dataset, config, config.encoder, {})
            finished = group.from_main(partial(_claim, locks, out, record, resume))
            records.append(finished or record)
            if finished is None:
                objective = ReferenceObjective(_initial(dataset, config).to(engine.device), dataset, config, engine)
                generator = torch.Generator(engine.device).manual_seed(stream_seed(config.seed, "selection"))
                jobs.append((record, Trainer(objective, dataset, config, Path(out), generator, **hooks, group=group)))
        _train(jobs, resume)
    return records


def _initial(dataset: Dataset, config: ReferenceConfig) -> Recommender:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.seed, "weights"))
        model = Recommender.for_dataset(config.encoder, dataset)
    if config.encoder.base == "towers" and dataset.first_time is None:
        warnings.warn(f"{dataset.name} has no timestamps, so the towers go without the temporal mixture.", Notice, 2)
    return model


def align(
    dataset: Dataset, reference: Path, config: AlignmentConfig, out: Path, resume: bool = False,
    report: Report | None = None, progress: Callable[..., Any] | None = None, planted: Planted | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Stage 2: align a policy, starting from the finished run `reference` and against its frozen copy.

    With `planted`, the history also says how much of the selection and suppression falls on what was hidden. Return
    the record; raise InputError as `train` does, and if reference or negatives do not fit the dataset.
    """
    return align_seeds(dataset, [reference], [config], [out], resume, report, progress, planted)[0]


def align_seeds(
    dataset: Dataset, references: Sequence[Path], configs: Sequence[AlignmentConfig], outs: Sequence[Path],
    resume: bool = False, report: Report | None = None, progress: Callable[..., Any] | None = None,
    planted: Planted | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """`align` for configurations that differ in their seeds alone, side by side as in `train_seeds`."""
    if processes() > 1:
        raise InputError("An alignment runs in one process; only `rodpo train` can be started by torchrun.")
    engine, records, jobs = configs[0].training.engine(), [], []
    hooks = {"report": report or Trainer.report, "progress": progress or bars()}
    planted = planted.to(engine.device) if planted else None
    with ExitStack() as locks:
        for folder, config, out in zip(references, configs, outs, strict=True):
            _check_negatives(dataset, config, planted)
            reference = load(folder, dataset, engine.device)
            inputs = {"reference": reference.id, "reference_weights": sha256(Path(folder) / checkpoint.MODEL)}
            record = _new_record(dataset, config, reference.encoder, inputs)
            finished = _claim(locks, out, record, resume)
            records.append(finished or record)
            if finished is None:
                policy = load(folder, dataset, engine.device).model
                if not config.training.dropout:
                    policy.disable_dropout()
                generator = torch.Generator(engine.device).manual_seed(stream_seed(config.seed, "selection"))
                objective = AlignmentObjective(policy, reference.model, dataset, config, generator, planted, engine)
                jobs.append((record, Trainer(objective, dataset, config, Path(out), generator, **hooks)))
        _train(jobs, resume)
    return records


def load(folder: Path, dataset: Dataset, device: torch.device | str = "cpu") -> Run:
    """Load a finished run for scoring; raises InputError if it is unfinished, damaged or of another dataset."""
    folder = Path(folder)
    record = files.read_json(folder / checkpoint.RUN)
    weights, state = checkpoint.read_tensors(folder / checkpoint.MODEL)
    try:
        config_hash, encoder = record["config_hash"], build(EncoderConfig, record["encoder"])
        name, checksums = record["dataset"]["name"], record["dataset"]["checksums"]
    except (KeyError, TypeError):
        raise InputError(f"{folder / checkpoint.RUN} is not the record of a run: it is damaged.") from None
    if state.get("config_hash") != config_hash:
        raise InputError(f"{folder / checkpoint.MODEL} belongs to another run than {checkpoint.RUN} beside it.")
    if checksums != dataset.description["checksums"]:
        raise InputError(
            f"The run {folder} belongs to the dataset {name}, whose files differ from those of {dataset.name}."
        )
    model = Recommender.for_dataset(encoder, dataset)
    checkpoint.load_weights(model, weights, folder / checkpoint.MODEL)
    return Run(folder, record, model.to(device).eval(), encoder)


def _check_trainable(dataset: Dataset, config: ReferenceConfig) -> None:
    if dataset.lengths.max() < 4:
        raise InputError(
            f"No user of {dataset.name} has two training items, so there is nothing to learn: "
            "at least one user needs four interactions."
        )
    if config.encoder.placeholder and (dataset.first_time is None or not dataset.features):
        missing = "no timestamps" if dataset.features else "no item features"
        raise InputError(f"encoder.placeholder = true, but {dataset.name} has {missing}; leave it out.")


def _check_negatives(dataset: Dataset, config: AlignmentConfig, planted: Planted | None) -> None:
    """Every position must have something that may be rejected, and what is counted must fit into the catalogue."""
    negatives = config.negatives
    if negatives.name == "none":
        return
    if dataset.n_items == 1:
        raise InputError(f"{dataset.name} has a single item, so nothing is left to reject.")
    for key in {"k", "skip", "candidates"}.intersection(SELECTORS[negatives.name].uses):
        if (value := getattr(negatives, key)) > dataset.n_items:
            catalogue = f"the catalogue of {dataset.name}, which has {dataset.n_items} items"
            raise InputError(f"negatives.{key} = {value} is larger than {catalogue}.")
    owned = OwnedItems.in_training(dataset)
    if negatives.exclude == "planted":
        if planted is None:
            raise InputError(
                f"negatives.exclude = planted, but nothing is planted in {dataset.name}; `rodpo data plant` does that."
            )
        owned = owned.with_planted(planted.keys.cpu())
    counts = owned.offsets.diff()
    if negatives.exclude != "none" and int(counts.max()) >= dataset.n_items:
        raise InputError(
            f"User {dataset.user_ids[int(counts.argmax())]} has the whole catalogue among the items that are spared, "
            "so nothing is left to reject; use negatives.exclude=none or drop that user."
        )


def _new_record(dataset: Dataset, config: Any, encoder: EncoderConfig, inputs: dict[str, str]) -> dict[str, Any]:
    """The part of a run's record that is known before it is trained."""
    return {
        "config_hash": identity(config, checksums=dataset.description["checksums"], **inputs),
        "stage": config.stage,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "encoder": encoder.model_dump(mode="json"),
        **inputs,
        "dataset": dataset.description,
    }


def _claim(locks: ExitStack, out: Path, record: dict[str, Any], resume: bool) -> dict[str, Any] | None:
    """Return the record in `out` if it is this run, finished; else nobody else gets `out` until `locks` closes."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder.")
    locks.enter_context(files.exclusive(out))
    checkpoint.remove_leftovers(out)
    if not (out / checkpoint.RUN).exists():
        if any(path.name != files.LOCK for path in out.iterdir()):
            raise InputError(f"--out {out} is not empty and not a run folder; choose another folder.")
        return None
    existing = files.read_json(out / checkpoint.RUN)
    if existing.get("config_hash") != record["config_hash"]:
        raise InputError(f"--out {out} holds another run ({existing.get('config_hash')}); choose another folder.")
    if (out / checkpoint.MODEL).exists():
        (out / checkpoint.CHECKPOINT).unlink(missing_ok=True)
        return existing
    if not resume:
        raise InputError(f"--out {out} holds this run, unfinished; continue it with --resume.")
    return None


def _train(jobs: list[tuple[dict[str, Any], Trainer]], resume: bool) -> None:
    """Train runs side by side where that is possible, else one after the other, and complete their records."""
    for record, trainer in jobs:
        engine, group = trainer.engine, trainer.group
        trainer.computation = computation(str(engine.device), engine.precision, group.size)
        record |= trainer.computation
        group.from_main(partial(files.write_json, trainer.folder / checkpoint.RUN, record))
    trainers = [trainer for _, trainer in jobs]
    together = len(jobs) > 1 and all(map(can_stack, trainers))
    lines = fit_together(trainers, resume) if together else (trainer.fit(resume) for trainer in trainers)
    for (record, trainer), best in zip(jobs, lines, strict=True):
        seconds, counts = sum(line["epoch_seconds"] for line in trainer.history), parameter_counts(trainer.model)
        record.update(
            computed_in(trainer.stretches),
            best_epoch=best["epoch"],
            epochs_run=len(trainer.history),
            seconds=round(seconds / (len(jobs) if together else 1), 3),
            parameters=counts.total,
            active_parameters=counts.active,
            valid=best["valid"],
            valid_masked=best["valid_masked"],
        )
        if trainer.group.is_main:
            files.write_json(trainer.folder / checkpoint.RUN, record)
            state = {"config_hash": record["config_hash"]}
            checkpoint.write_tensors(trainer.folder / checkpoint.MODEL, trainer.best, state)
            (trainer.folder / checkpoint.CHECKPOINT).unlink()
