"""The record of one run as the ledger keeps it: what it holds, and how it is made of a finished run."""

import json
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from rodpo_lite.config import KINDS, experiment
from rodpo_lite.data.schema import sha256
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.files import read_json
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.settings import build, identity
from rodpo_lite.training import checkpoint

_KINDS_OF_NEGATIVES = [f"{kind}_{what}" for kind in ("past", "future", "planted") for what in ("rate", "share")]
SELECTION = ("margin", "suppression", "effective_negatives", "repeat_rate", "right_share", *_KINDS_OF_NEGATIVES)
PARTS = ("valid", "valid_masked", "test", "test_masked")
COLUMNS = ("stage", "seed", "reference", "reference_weights", "weights", "precision", "device", "seconds")


def _complete(values: dict[str, float]) -> dict[str, float]:
    if values.keys() != metrics.NAMES:
        raise ValueError("a metric is missing, or unknown")
    return values


_Metrics = Annotated[dict[str, FiniteFloat], AfterValidator(_complete)]


class _Kept(BaseModel):
    """A part of a record; there may be more in it, which is kept."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class DatasetSummary(_Kept):
    name: str
    n_users: int
    n_items: int
    n_interactions: int
    checksums: dict[str, str] | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """What items have beside their ids, from the names of the files."""
        paths = map(Path, sorted(self.checksums or {}, reverse=True))
        return tuple(path.stem for path in paths if path.parent.name == "features")


class Record(_Kept):
    """A finished run with its metrics on validation and test."""

    config_hash: str
    stage: Literal["reference", "align", "baseline"]
    seed: int
    seconds: float
    config: dict[str, Any]
    encoder: dict[str, Any] = {}
    dataset: DatasetSummary
    valid: _Metrics
    valid_masked: _Metrics
    test: _Metrics
    test_masked: _Metrics
    curve: list[dict[str, float]] = []
    drift: dict[str, Any] = {}
    reference: str | None = None
    reference_weights: str | None = None
    weights: str | None = None
    precision: str | None = None
    device: str | None = None
    machine: dict[str, Any] = {}
    parameters: int | None = None
    best_epoch: int | None = None
    commit: str | None = None

    @classmethod
    def of(cls, values: dict[str, Any], path: Path) -> Self:
        """Check what a file holds; raises InputError if what belongs into a record is missing or of another kind."""
        wrong = f"{path} is not the record of a run: "
        try:
            record = cls.model_validate(values)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"][:2])
            raise InputError(f"{wrong}{where} is missing or damaged.") from None
        build(KINDS[record.stage], record.config, wrong)
        build(EncoderConfig, record.encoder, wrong)
        return record

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record of the ledger; raises InputError if it is none."""
        return cls.of(read_json(path), path)

    @classmethod
    def of_run(cls, run: Path) -> Self:
        """Make the record of a finished run; raises InputError if it has no results, or those of other weights."""
        values = read_json(run / checkpoint.RUN)
        if not (run / checkpoint.MODEL).is_file():
            raise InputError(f"The run {run} has not finished, so it cannot enter the ledger.")
        if not (run / "metrics.json").is_file() or not (run / "ranks.parquet").is_file():
            raise InputError(f"The run {run} was not evaluated on test; run `rodpo evaluate` first.")
        test, weights = read_json(run / "metrics.json"), sha256(run / checkpoint.MODEL)
        if test.get("config_hash") != values.get("config_hash") or test.get("weights", weights) != weights:
            raise InputError(f"{run}/metrics.json is of another run or of other weights; run `rodpo evaluate` again.")
        values |= {"test": test.get("unmasked"), "test_masked": test.get("masked"), "curve": _curve(run)}
        if (run / "drift.json").is_file():
            values["drift"] = read_json(run / "drift.json")
            if values["drift"].pop("weights", weights) != weights:
                raise InputError(f"{run / 'drift.json'} was measured on other weights; run `rodpo drift` again.")
        if values.get("stage") == "reference":  # alignments name the weights that they start from
            values["weights"] = weights
        return cls.of(values, run / checkpoint.RUN)

    @property
    def name(self) -> str:
        """Of its files in the ledger."""
        return f"{self.dataset.name}-{self.stage}-{self.config_hash}"

    @cached_property
    def full_config(self) -> dict[str, Any]:
        """The configuration; keys that were unknown when it ran are at their defaults."""
        return build(KINDS[self.stage], self.config).model_dump(mode="json")

    @cached_property
    def full_encoder(self) -> dict[str, Any]:
        return build(EncoderConfig, self.encoder).model_dump(mode="json")

    @property
    def renamed(self) -> bool:
        """Whether this reference, trained again by the code of today, would have another id: it has more keys now."""
        config = build(KINDS[self.stage], self.config)
        return identity(config, checksums=self.dataset.checksums) != self.config_hash

    def repeats(self, other: Self) -> bool:
        """Whether two records are of one experiment, whatever their ids."""
        asked = attrgetter("full_config", "full_encoder", "dataset.checksums", "reference_weights")
        return asked(self) == asked(other)

    def row(self) -> dict[str, Any]:
        """The record as a row of `Ledger.records`."""
        negatives = self.config.get("negatives", {})
        row = {
            "id": self.config_hash,
            "dataset": self.dataset.name,
            **{f"n_{what}": getattr(self.dataset, f"n_{what}") for what in ("users", "items", "interactions")},
            "modalities": self.dataset.modalities,
            "checksums": json.dumps(self.dataset.checksums, sort_keys=True),
            "base": self.encoder.get("base"),
            "strategy": negatives.get("name", self.config.get("name", "reference")),
            "exclude": negatives.get("exclude"),
            "accelerator": self.machine.get("accelerator"),
            "config": self.full_config,
            "method": method_of(self.full_config, self.stage, self.full_encoder),
        }
        row |= {name: getattr(self, name) for name in COLUMNS}
        row |= {f"{kind}_drift": self.drift.get(kind, {}).get("difference", np.nan) for kind in ("planted", "future")}
        for name in SELECTION:
            if values := [line[name] for line in self.curve if name in line]:
                row[name] = float(np.mean(values))
        return row | {f"{part}.{name}": value for part in PARTS for name, value in getattr(self, part).items()}


def method_of(config: dict[str, Any], stage: str, encoder: dict[str, Any]) -> str:
    """What a run asks of the method, as text to compare: seed and machine left out; config and encoder are full."""
    return json.dumps([stage, experiment(config, stage), encoder], sort_keys=True)


def _curve(run: Path) -> list[dict[str, float]]:
    curve = []
    for line in checkpoint.read_history(run):
        kept = {"epoch": line["epoch"], "loss": round(line["loss"], 5)}
        kept |= {name: round(line[name], 6) for name in ("loss_ce", "valid_loss", *SELECTION) if name in line}
        curve.append(kept | {f"{part}.ndcg@5": round(line[part]["ndcg@5"], 6) for part in ("valid", "valid_masked")})
    return curve
