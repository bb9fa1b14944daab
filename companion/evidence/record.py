"""The record of one run as the ledger keeps it: what it holds, and how it is made of a finished run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from rodpo_lite.config import KINDS
from rodpo_lite.data.schema import sha256
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.files import read_json
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.settings import build
from rodpo_lite.training import checkpoint

_KINDS_OF_NEGATIVES = [f"{kind}_{what}" for kind in ("past", "future", "planted") for what in ("rate", "share")]
SELECTION = ("margin", "suppression", "effective_negatives", "repeat_rate", *_KINDS_OF_NEGATIVES)


def _complete(found: dict[str, float]) -> dict[str, float]:
    if found.keys() != metrics.NAMES:
        raise ValueError("a metric is missing, or unknown")
    return found


_Metrics = Annotated[dict[str, FiniteFloat], AfterValidator(_complete)]


class _Data(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    n_users: int
    n_items: int
    n_interactions: int


class _Record(BaseModel):
    """What is read of a record; there may be more in it."""

    model_config = ConfigDict(strict=True)
    config_hash: str
    stage: Literal["reference", "align", "baseline"]
    seed: int
    seconds: float
    config: dict[str, Any]
    encoder: dict[str, Any] = {}
    dataset: _Data
    valid: _Metrics
    valid_masked: _Metrics
    test: _Metrics
    test_masked: _Metrics
    curve: list[dict[str, float]] = []
    drift: dict[str, Any] = {}


def of_run(run: Path) -> dict[str, Any]:
    """The record of a finished run with its test evaluation.

    Raises InputError if the run has not finished or was not evaluated on test, or if its results are of other weights.
    """
    entry = read_json(run / checkpoint.RUN)
    if not (run / checkpoint.MODEL).is_file():
        raise InputError(f"The run {run} has not finished, so it cannot enter the ledger.")
    if not (run / "metrics.json").is_file() or not (run / "ranks.parquet").is_file():
        raise InputError(f"The run {run} was not evaluated on test; run `rodpo evaluate` first.")
    test, weights = read_json(run / "metrics.json"), sha256(run / checkpoint.MODEL)
    if test.get("config_hash") != entry.get("config_hash") or test.get("weights", weights) != weights:
        raise InputError(f"{run / 'metrics.json'} is of another run or of other weights; run `rodpo evaluate` again.")
    entry |= {"test": test.get("unmasked"), "test_masked": test.get("masked"), "curve": _curve(run)}
    _check(entry, run / checkpoint.RUN)
    if entry["stage"] == "reference":  # alignments name the weights that they start from
        entry["weights"] = weights
    if (run / "drift.json").is_file():
        entry["drift"] = read_json(run / "drift.json")
        if entry["drift"].pop("weights", weights) != weights:
            raise InputError(f"{run / 'drift.json'} was measured on other weights; run `rodpo drift` again.")
    return entry


def read(path: Path) -> dict[str, Any]:
    """A record, whole; raises InputError if it is none."""
    return _check(read_json(path), path)


def experiment_of(entry: dict[str, Any]) -> dict[str, Any]:
    """What an experiment does, whatever its id: keys that were unknown when it ran stand at their defaults."""
    return {
        "config": build(KINDS[entry["stage"]], entry["config"]).model_dump(mode="json"),
        "encoder": build(EncoderConfig, entry.get("encoder", {})).model_dump(mode="json"),
        "checksums": entry["dataset"].get("checksums"),
        "reference_weights": entry.get("reference_weights"),
    }


def _check(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """The record itself; raises InputError if what belongs into it is not there, or is of another kind."""
    try:
        _Record.model_validate(entry)
        build(KINDS[entry["stage"]], entry["config"])
        build(EncoderConfig, entry.get("encoder", {}))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"][:2])
        raise InputError(f"{path} is not the record of a run: {where} is missing or damaged.") from None
    except InputError as error:
        raise InputError(f"{path} is not the record of a run: {error}") from None
    return entry


def _curve(run: Path) -> list[dict[str, float]]:
    lines = checkpoint.read_history(run)
    return [
        {
            "epoch": line["epoch"],
            "loss": round(line["loss"], 5),
            **{name: round(line[name], 6) for name in SELECTION if name in line},
            "valid.ndcg@5": round(line["valid"]["ndcg@5"], 6),
            "valid_masked.ndcg@5": round(line["valid_masked"]["ndcg@5"], 6),
        }
        for line in lines
    ]
