"""The run ledger: one JSON and one compact table of ranks for each finished and evaluated run, never changed.

A record is named by dataset, stage and run id, the hash of configuration and inputs. A key that joins the configuration
later changes that hash, so an experiment is also recognised by what it does: it cannot enter twice under two ids.
"""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from companion.evidence.record import SELECTION, experiment_of, of_run, read
from rodpo_lite.config import KINDS, AlignmentConfig, ReferenceConfig, experiment
from rodpo_lite.data.checks import read_parquet
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.baselines import BaselineConfig
from rodpo_lite.evaluation.statistics import user_bootstrap
from rodpo_lite.files import write_bytes, write_json
from rodpo_lite.model.config import EncoderConfig
from rodpo_lite.settings import build

PROTOCOLS = {"all items": "rank", "history dropped": "rank_masked"}
DEEPEST = 255  # no metric looks that far down
FOLDER = Path(__file__).resolve().parents[2] / "data" / "results"
_RECORDS = "*-*-*.json"


def record(run: Path, ledger: Path = FOLDER) -> Path:
    """Enter a finished run with its test evaluation; returns the record's path.

    Raises InputError if the run has not finished or was not evaluated on test, or if the ledger holds a different
    result for the same experiment.
    """
    run = Path(run)
    return enter(of_run(run), read_parquet(run, "ranks.parquet"), Path(ledger))


def enter(entry: dict[str, Any], ranks: pd.DataFrame, ledger: Path = FOLDER) -> Path:
    """Write a record and its ranks (user, rank, rank_masked); returns the record's path.

    Raises InputError if the ledger holds a different result for the same experiment.
    """
    name = f"{entry['dataset']['name']}-{entry['stage']}-{entry['config_hash']}"
    path = ledger / f"{name}.json"
    same = experiment_of(entry)
    for known_path in sorted(ledger.glob(f"{entry['dataset']['name']}-{entry['stage']}-*.json")):
        known = read(known_path)
        if experiment_of(known) == same:
            if known["test"] != entry["test"] or known["test_masked"] != entry["test_masked"]:
                raise InputError(f"{known_path} holds other test metrics for the same run; the ledger is append-only.")
            if entry.get("drift", {}) not in ({}, known.get("drift")):
                raise InputError(
                    f"{known_path} holds another drift for the same run, or none: measure before recording."
                )
            return known_path
    write_bytes(ledger / "ranks" / f"{name}.parquet", _compact(ranks))
    write_json(path, entry)
    return path


def locate(folder: str | Path | None) -> Path:
    """A ledger by its folder, the project's own for None. Raises InputError where it holds no record."""
    found = Path(folder or FOLDER)
    if not any(found.glob(_RECORDS)):
        raise InputError(
            f"There is no run ledger in {found}: it needs a record, as `rodpo evaluate --record` writes it."
        )
    return found


def records(ledger: Path = FOLDER) -> pd.DataFrame:
    """Every record as a row: id, dataset, modalities, stage, strategy, seed, metrics, device, seconds, commit.

    Metric columns are `<part>.<metric>`, part one of valid, valid_masked, test, test_masked; what selection did, such
    as `planted_rate`, is the mean over the epochs.
    """
    rows = []
    for path in sorted(Path(ledger).glob(_RECORDS)):
        entry = read(path)  # its configuration, too, can be built
        negatives = entry["config"].get("negatives", {})
        row = {
            "id": entry["config_hash"],
            "dataset": entry["dataset"]["name"],
            "n_users": entry["dataset"]["n_users"],
            "n_items": entry["dataset"]["n_items"],
            "n_interactions": entry["dataset"]["n_interactions"],
            "modalities": _modalities(entry["dataset"].get("checksums") or {}),
            "checksums": json.dumps(entry["dataset"].get("checksums"), sort_keys=True),
            "stage": entry["stage"],
            "base": entry.get("encoder", {}).get("base"),
            "encoder": build(EncoderConfig, entry.get("encoder", {})).model_dump(mode="json"),
            "strategy": negatives.get("name", entry["config"].get("name", "reference")),
            "exclude": negatives.get("exclude"),
            "k": negatives.get("k"),
            "beta": entry["config"].get("loss", {}).get("beta"),
            "lambda_ce": entry["config"].get("training", {}).get("lambda_ce"),
            "seed": entry["seed"],
            "reference": entry.get("reference"),
            "reference_weights": entry.get("reference_weights"),
            "weights": entry.get("weights"),
            "precision": entry.get("precision"),
            "device": entry.get("device"),
            "accelerator": entry.get("machine", {}).get("accelerator"),
            "seconds": entry["seconds"],
            "parameters": entry.get("parameters"),
            "best_epoch": entry.get("best_epoch"),
            "commit": entry.get("commit"),
            "config": build(KINDS[entry["stage"]], entry["config"]).model_dump(mode="json"),
            "file": path.name,
            "does": _does(entry["config"], entry["stage"], entry.get("encoder", {})),
            "curve": entry.get("curve", []),
            "drift": entry.get("drift", {}),
        }
        curve = pd.DataFrame(row["curve"])
        row |= {name: curve[name].mean() for name in SELECTION if name in curve}
        for part in ("valid", "valid_masked", "test", "test_masked"):
            row |= {f"{part}.{metric}": value for metric, value in entry[part].items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _modalities(checksums: dict[str, str]) -> tuple[str, ...]:
    """What the items of a dataset have beside their ids, from the names of its files."""
    return tuple(path.stem for path in map(Path, sorted(checksums, reverse=True)) if path.parent.name == "features")


def _does(config: dict[str, Any], stage: str, encoder: dict[str, Any]) -> str:
    """What a run asks of the method, as text to compare; keys that it does not know stand at their defaults."""
    full = build(EncoderConfig, encoder).model_dump(mode="json")
    return json.dumps([stage, experiment(config, stage), full], sort_keys=True)


def of(
    table: pd.DataFrame,
    config: ReferenceConfig | AlignmentConfig | BaselineConfig,
    encoder: EncoderConfig | None = None,
) -> pd.DataFrame:
    """Rows of `records` that ran this configuration, whatever the seed.

    An alignment has the encoder of its reference, so it is asked for as well: by default the default one.
    """
    if isinstance(config, ReferenceConfig):
        encoder = config.encoder
    wanted = _does(config.model_dump(mode="json"), config.stage, encoder.model_dump() if encoder else {})
    return table[table["does"] == wanted]


def check_one_edition(files: Iterable[str], table: pd.DataFrame) -> None:
    """Raise InputError unless these records were computed on one edition of their dataset; table is `records`."""
    editions = table[table["file"].isin(list(files))].drop_duplicates("checksums")["file"]
    if len(editions) > 1:
        first, second, *_ = editions
        raise InputError(
            f"{first} and {second} in the ledger were computed on different editions of one dataset, so they cannot be "
            "compared: give one of the two datasets another name, and record its runs again."
        )


def ranks(file: str, ledger: Path = FOLDER) -> pd.DataFrame:
    """Ranks of one record, by its file name: columns user, rank, rank_masked; 255 is 255 or lower down."""
    folder, name = Path(ledger) / "ranks", Path(file).with_suffix(".parquet").name
    stored = _whole_numbers(read_parquet(folder, name), folder / name, ("rank", "own_above"))
    if (stored["own_above"] > stored["rank"]).any():
        raise InputError(f"{folder / name} is damaged: more of the user's own items stand above the target than items.")
    columns = {"rank": stored["rank"], "rank_masked": stored["rank"] - stored["own_above"]}
    return pd.DataFrame(columns).rename_axis("user").reset_index()


def _whole_numbers(table: pd.DataFrame, path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Counts: these columns of a table; raises InputError where one is missing, empty or holds anything else."""
    for column in columns:
        numbers = table.get(column)
        if numbers is None or numbers.dtype.kind not in "iu" or numbers.empty or numbers.min() < 0:
            raise InputError(f"{path} is damaged: the column {column!r} must count from 0, with a row for each user.")
    return table[list(columns)].astype(int)


def changes(before: str | list[str], after: str, ledger: Path = FOLDER) -> pd.DataFrame:
    """Change of test NDCG@5 from one record to another of the same users, by their file names.

    Several records before are averaged user by user. A row for each protocol (all items, history dropped): NDCG@5
    after, the change in percent of before, and its 95 % bootstrap interval over users, `low` and `high`.
    """
    rows, all_before = [], [before] if isinstance(before, str) else before
    for protocol, column in PROTOCOLS.items():
        first = np.mean([metrics.ndcg(ranks(file, ledger)[column].to_numpy()) for file in all_before], 0)
        second = metrics.ndcg(ranks(after, ledger)[column].to_numpy())
        found = user_bootstrap(first, second)
        rows.append((protocol, second.mean(), found.estimate, found.low, found.high))
    return pd.DataFrame(rows, columns=["protocol", "NDCG@5", "change %", "low", "high"])


def differences(config: dict[str, Any], stage: str) -> dict[str, Any]:
    """The keys, dotted, in which what a configuration asks of the method differs from the defaults of its stage."""
    return _differences(experiment(config, stage), experiment(build(KINDS[stage], {}).model_dump(mode="json"), stage))


def _differences(config: dict[str, Any], default: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _differences(value, default[key], f"{prefix}{key}.")
        elif value != default[key]:
            found[prefix + key] = value
    return found


def entry(file: str, ledger: Path = FOLDER) -> dict[str, Any]:
    """One record, whole, by its file name; raises InputError if it is none."""
    return read(Path(ledger) / file)


def record_users(dataset: Dataset, ledger: Path = FOLDER) -> Path:
    """Write, once for a dataset, what effects are broken down by: users/<dataset>.parquet.

    Columns, a row for each user: history (items before the test item) and popularity (training interactions of the test
    item).
    """
    path = Path(ledger) / "users" / f"{dataset.name}.parquet"
    if not path.exists():
        start, end = leave_one_out(dataset).history("test")
        popularity = training_counts(dataset)[dataset.items[end]]
        write_bytes(path, _parquet(pd.DataFrame({"history": end - start, "popularity": popularity})))
    return path


def users(dataset: str, ledger: Path = FOLDER) -> pd.DataFrame:
    """Of each user of a dataset: history and popularity, as `record_users` describes them."""
    folder, name = Path(ledger) / "users", f"{dataset}.parquet"
    return _whole_numbers(read_parquet(folder, name), folder / name, ("history", "popularity"))


def differing(ledger: Path = FOLDER) -> list[str]:
    """Records whose test metrics do not follow, to the last digit, from the ranks beside them: file and metric."""
    found = []
    for path in sorted(locate(ledger).glob(_RECORDS)):
        kept, stored = entry(path.name, ledger), ranks(path.name, ledger)
        for part, column in (("test", "rank"), ("test_masked", "rank_masked")):
            again = metrics.from_ranks(stored[column].to_numpy())
            found += [f"{path.name}: {part} {name}" for name, value in again.items() if kept[part].get(name) != value]
    return found


def _compact(ranks: pd.DataFrame) -> bytes:
    """Ranks in user order, without the user column, one byte each: what ranks lower than 255 stands as 255.

    own_above, what dropping the history takes off the rank, is nearly always small, and compresses better than the rank
    that is left.
    """
    columns = ranks.sort_values("user")[["rank", "rank_masked"]].reset_index(drop=True).clip(upper=DEEPEST)
    return _parquet(pd.DataFrame({"rank": columns["rank"], "own_above": columns["rank"] - columns["rank_masked"]}))


def _parquet(columns: pd.DataFrame) -> bytes:
    small = columns.apply(pd.to_numeric, downcast="unsigned")
    table, stream = pa.Table.from_pandas(small, preserve_index=False), io.BytesIO()
    table = table.replace_schema_metadata(None)  # a twentieth of such a small file
    pq.write_table(table, stream, compression="zstd", compression_level=19, store_schema=False)
    return stream.getvalue()
