"""The run ledger: one JSON and one compact table of ranks for each finished and evaluated run, never changed.

A record is named by dataset, stage and run id, the hash of configuration and inputs. A key that joins the configuration
later changes that hash, so an experiment is also recognised by what it does: it cannot enter twice under two ids.
"""

import io
from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from companion.evidence.record import Record, method_of
from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.data.checks import read_parquet
from rodpo_lite.data.schema import Dataset
from rodpo_lite.data.split import leave_one_out, training_counts
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation import metrics
from rodpo_lite.evaluation.baselines import BaselineConfig
from rodpo_lite.files import write_bytes, write_json
from rodpo_lite.model.config import EncoderConfig

PROTOCOLS = {"all items": "rank", "history dropped": "rank_masked"}
DEEPEST = 255  # no metric looks that far down
FOLDER = Path(__file__).resolve().parents[2] / "data" / "results"
_Config = ReferenceConfig | AlignmentConfig | BaselineConfig


class Ledger:
    """The records in a folder, by default the project's own. What is read once is kept until something is entered."""

    def __init__(self, folder: str | Path | None = None):
        if folder is None and not FOLDER.is_dir():
            raise InputError("The project's run ledger is in its checkout, not here: name a folder with --ledger.")
        self.folder = Path(str(folder or FOLDER))
        self.forget()

    def forget(self) -> None:
        """Read everything anew."""
        vars(self).pop("records", None)
        vars(self).pop("by_file", None)
        self._kept: dict[Any, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, which depends on the key and this ledger; made once, until something is entered."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @classmethod
    def open(cls, folder: str | Path | None = None) -> Self:
        """A ledger that holds something; raises InputError where there is no record."""
        ledger = cls(folder)
        if not ledger.paths():
            raise InputError(f"There is no run ledger in {ledger.folder}: `rodpo evaluate --record` begins one.")
        return ledger

    def paths(self) -> list[Path]:
        """Files of the records."""
        return sorted(self.folder.glob("[!.]*-*-*.json"))

    @cached_property
    def records(self) -> pd.DataFrame:
        """Every record as a row: id, dataset, modalities, stage, strategy, seed, metrics, device, seconds and others.

        Metric columns are `<part>.<metric>`, part one of valid, valid_masked, test, test_masked; what selection did,
        such as `planted_rate`, is the mean over the epochs. A row's `file` names the record.
        """
        return pd.DataFrame([Record.read(path).row() | {"file": path.name} for path in self.paths()])

    @cached_property
    def by_file(self) -> pd.DataFrame:
        """`records` by the name of the file."""
        return self.records.set_index("file")

    def ranks(self, file: str) -> pd.DataFrame:
        """Ranks of one record, by its file name: a row for each user, rank and rank_masked; 255 is 255 or more."""
        return self.once(file, lambda: self._ranks(Path(file).with_suffix(".parquet").name))

    def _ranks(self, name: str) -> pd.DataFrame:
        stored = _counts(self.folder / "ranks", name, "rank", "own_above")
        if (stored["own_above"] > stored["rank"]).any():
            raise InputError(f"{self.folder / 'ranks' / name} is damaged: more own items than items are above.")
        return stored.assign(rank_masked=stored["rank"] - stored["own_above"])

    def users(self, dataset: str) -> pd.DataFrame:
        """History and popularity of each user of a dataset, as `enter_users` describes them."""
        return _counts(self.folder / "users", f"{dataset}.parquet", "history", "popularity")

    def of(self, config: _Config, encoder: EncoderConfig | None = None) -> pd.DataFrame:
        """Rows of `records` with this configuration and encoder, an alignment's being its reference's; of any seed."""
        if isinstance(config, ReferenceConfig):
            encoder = config.encoder
        full = (encoder or EncoderConfig()).model_dump(mode="json")
        method = method_of(config.model_dump(mode="json"), config.stage, full)
        return self.records[self.records["method"] == method]

    def check_one_edition(self, files: Iterable[str]) -> None:
        """Raise InputError unless these records were computed on one edition of their dataset."""
        editions = self.records[self.records["file"].isin(list(files))].drop_duplicates("checksums")["file"]
        if len(editions) > 1:
            first, second, *_ = editions
            raise InputError(
                f"{first} and {second} in the ledger were computed on different editions of one dataset, so they "
                "cannot be compared: give one of the two datasets another name, and record its runs again."
            )

    def enter_run(self, run: Path) -> Path:
        """Enter a finished run; raises InputError if it was not evaluated on test, and as `enter` does."""
        return self.enter(Record.of_run(Path(run)), read_parquet(Path(run), "ranks.parquet"))

    def enter_baseline(self, values: dict[str, Any], ranks: pd.DataFrame) -> Path:
        """Enter what `baselines.evaluate` returns; raises InputError as `enter` does."""
        return self.enter(Record.of(values, self.folder), ranks)

    def enter(self, record: Record, ranks: pd.DataFrame) -> Path:
        """Write a record and its ranks, return its path; InputError if the same experiment has another result."""
        anyone = {"commit": None}  # whoever measured the drift
        for path in sorted(self.folder.glob(f"{record.dataset.name}-{record.stage}-*.json")):
            known = Record.read(path)
            if known.repeats(record):
                if (known.test, known.test_masked) != (record.test, record.test_masked):
                    raise InputError(f"{path} holds other test metrics for the same run; the ledger is append-only.")
                if record.drift and known.drift | anyone != record.drift | anyone:
                    raise InputError(f"{path} holds another drift for the same run, or none: measure before recording.")
                return path
        path = self.folder / f"{record.name}.json"
        write_bytes(self.folder / "ranks" / f"{record.name}.parquet", _compact(ranks))
        write_json(path, record.model_dump(mode="json", exclude_unset=True))
        self.forget()
        return path

    def enter_users(self, dataset: Dataset) -> Path:
        """Write users/<dataset>.parquet: history (items before the test item), popularity (its uses in training)."""
        path = self.folder / "users" / f"{dataset.name}.parquet"
        if not path.exists():
            start, end = leave_one_out(dataset).history("test")
            popularity = training_counts(dataset)[dataset.items[end]]
            write_bytes(path, _parquet(pd.DataFrame({"history": end - start, "popularity": popularity})))
        return path

    def differing(self) -> list[str]:
        """Records whose test metrics do not follow, to the last digit, from the ranks beside them: file and metric."""
        differing = []
        for path in self.paths():
            record, ranks = Record.read(path), self.ranks(path.name)
            for part, column in (("test", "rank"), ("test_masked", "rank_masked")):
                again, kept = metrics.from_ranks(ranks[column].to_numpy()), getattr(record, part)
                differing += [f"{path.name}: {part} {name}" for name, value in again.items() if kept[name] != value]
        return differing


def _counts(folder: Path, name: str, *columns: str) -> pd.DataFrame:
    """These columns of a table; raises InputError where one is missing, empty or holds anything but counts."""
    table = read_parquet(folder, name)
    for column in columns:
        counts = table.get(column)
        if counts is None or counts.dtype.kind not in "iu" or counts.empty or counts.min() < 0:
            raise InputError(f"{folder / name} is damaged: {column!r} must count from 0, with a row for each user.")
    return table[list(columns)].astype(int)


def _compact(ranks: pd.DataFrame) -> bytes:
    """Ranks in user order, one byte each, 255 for what is lower; own_above compresses better than the rank left."""
    columns = ranks.sort_values("user")[["rank", "rank_masked"]].reset_index(drop=True).clip(upper=DEEPEST)
    return _parquet(pd.DataFrame({"rank": columns["rank"], "own_above": columns["rank"] - columns["rank_masked"]}))


def _parquet(columns: pd.DataFrame) -> bytes:
    small = columns.apply(pd.to_numeric, downcast="unsigned")
    table, stream = pa.Table.from_pandas(small, preserve_index=False), io.BytesIO()
    table = table.replace_schema_metadata(None)  # a twentieth of such a small file
    pq.write_table(table, stream, compression="zstd", compression_level=19, store_schema=False)
    return stream.getvalue()
