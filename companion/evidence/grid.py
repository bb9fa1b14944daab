"""The grid of experiments: what workflow/grid.yaml declares, and what of it is still to be done.

A row is one method. Where it declares a `search`, as many settings as `tuning.trials` are tried on the tuning seeds,
the one that validates best is run with the reported seeds, and only those are ever evaluated on test. Under the folder
of runs are <dataset>/<row>/trial-<t>/seed-<s> and <dataset>/<row>/final/seed-<s>, with config.yaml beside the seeds.
Of a row with a study no trials are declared: they are proposed one by one (companion.evidence.study).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from scipy.stats import qmc

from companion.evidence.declaration import Method, PlantedDataset, Range, Seeds, Study, Tuning
from companion.evidence.ledger import Ledger
from rodpo_lite.config import ENGINE_KEYS, AlignmentConfig, ReferenceConfig
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_json, read_yaml
from rodpo_lite.settings import Settings, build, nested

FINAL, CHOSEN, STUDY = "final", "chosen", "study.json"
PRIMARY = "ndcg@5"


class Grid(Settings):
    """Datasets × rows × seeds.

    apart: datasets on which only rows run that name them. planted: datasets that are another one with known positives
    hidden from training. drift: the row against which it is measured there how far the scores of what was hidden moved.
    tuning, studies: how rows with a search are tuned, by declared trials or by the study that they name.
    """

    datasets: tuple[str, ...]
    apart: tuple[str, ...] = ()
    planted: dict[str, PlantedDataset] = Field(default_factory=dict)
    drift: str | None = None
    seeds: Seeds
    tuning: Tuning
    studies: dict[str, Study] = Field(default_factory=dict)
    rows: dict[Annotated[str, Field(pattern=r"^[a-z0-9_.=-]+$")], Method]

    __hash__ = object.__hash__  # what is computed of a grid is kept by it

    @model_validator(mode="after")
    def _consistent(self):
        if shared := set(self.seeds) & set(self.tuning.seeds):
            raise ValueError(f"seed {min(shared)} is both reported and tuned on")
        if unknown := set(self.apart) - set(self.datasets):
            raise ValueError(f"apart: {min(unknown)} is not among the datasets")
        for name, hidden in self.planted.items():
            source = hidden.source
            if name not in self.datasets or source not in self.datasets or source in self.planted:
                raise ValueError(f"planted: {name} or {source} is not among the datasets, or planted itself")
            if not name.startswith(f"{source}-planted"):
                raise ValueError(f"planted: what is made of {source} is called {source}-planted…, not {name}")
            if extra := [row for row in hidden.rows or () if row not in self.rows or not self.rows[row].planted]:
                raise ValueError(f"planted: {name} asks for {extra[0]}, which is no row that is planted")
            if missing := [row for row in hidden.rows or () if self.rows[row].reference not in (None, *hidden.rows)]:
                raise ValueError(f"planted: {name} lacks the reference of {missing[0]}")
            if extra := set(hidden.seeds or ()) - set(self.seeds):
                raise ValueError(f"planted: {name} has a seed {min(extra)} that the grid has not")
        if self.drift and not (self.drift in self.rows and self.rows[self.drift].planted):
            raise ValueError(f"drift: {self.drift} is no row that is run where positives are hidden")
        if self.studies and len(self.tuning.seeds) > 1:
            raise ValueError("a study needs one seed to tune on")
        for name, row in self.rows.items():
            if unknown := {row.reference, row.like} - {None, *self.rows}:
                raise ValueError(f"the row {name} names a row {min(unknown)}, which is not declared")
            if row.reference and self.rows[row.reference].reference:
                raise ValueError(f"the row {name} starts from {row.reference}, which is no reference")
            if row.study and row.study not in self.studies:
                raise ValueError(f"the row {name} names a study {row.study}, which is not declared")
            if row.planted and row.reference and not self.rows[row.reference].planted:
                raise ValueError(f"the row {name} is planted, and its reference {row.reference} is not")
            if row.like and (self.rows[row.like].like or self.rows[row.like].kind is not row.kind):
                raise ValueError(f"the row {name} is like {row.like}, which has no settings for it")
            if unknown := set(row.datasets or ()) - set(self.datasets):
                raise ValueError(f"the row {name} names an unknown dataset {min(unknown)}")
            for dataset, source in row.tuned_on.items():
                if wrong := [d for d in (dataset, source) if d in self.planted or not self.runs_on(name, d)]:
                    raise ValueError(f"the row {name}, tuned on {source} for {dataset}: {wrong[0]} is not its own")
                if source in row.tuned_on:
                    raise ValueError(f"the row {name} is tuned on {source}, which is tuned on {row.tuned_on[source]}")
            if extra := set(row.seeds or ()) - set(self.seeds):
                raise ValueError(f"the row {name} has a seed {min(extra)} that the grid has not")
        return self

    @classmethod
    def read(cls, path: Path) -> "Grid":
        """Read the declaration; raises InputError naming the row and the key that is wrong."""
        grid = build(cls, read_yaml(path, "The grid"), f"The grid {path}: ")
        for name, row in grid.rows.items():  # every setting that may come up is a valid configuration
            here = f"The grid {path}, row {name}: "
            for settings in grid.trials(name):
                build(row.kind, nested(settings, here), here)
            for key, value in values(row, row.set, row.search).items() if row.study else ():
                choice = row.search[key]
                if not (choice.low <= value <= choice.high if isinstance(choice, Range) else value in choice):
                    raise InputError(f"{here}the study begins with {key} = {value}, which is not in its search.")
        return grid

    @property
    def real(self) -> list[str]:
        """The datasets in which nothing was hidden, without those apart."""
        return [name for name in self.datasets if name not in (*self.planted, *self.apart)]

    @property
    def known(self) -> list[str]:
        """The datasets in which nothing was hidden, those apart too."""
        return [name for name in self.datasets if name not in self.planted]

    def label(self, dataset: str, whole: bool = True) -> str:
        """A dataset's name for readers, such as `Toys`, `Toys, timed` or `Toys, 10 % hidden`; not whole, all `Toys`."""
        hidden = self.planted.get(dataset)
        name = self.source(dataset).replace("-", ", ").capitalize()
        name = f"{name}, {100 * hidden.share:.0f} % hidden" if hidden else name
        return name if whole else name.split(",")[0]

    def trials(self, name: str) -> list[dict[str, Any]]:
        """The settings that a row tries: first what it sets, the rest at its default, then Sobol points of its search.

        A row without a search has one, and of a study this is the first. The points are the same in every row with the
        same search.
        """
        row = self.rows[name]
        if not row.search or row.study or self.tuning.trials == 1:
            return [dict(row.set)]
        sampler = qmc.Sobol(len(row.search), rng=np.random.default_rng(0))
        points = sampler.random_base2(int(np.ceil(np.log2(self.tuning.trials))))[: self.tuning.trials - 1]
        drawn = [{key: row.at(key, place) for key, place in zip(row.search, point)} for point in points]
        return [row.set | settings for settings in ({}, *drawn)]

    def n_trials(self, name: str) -> int:
        """How many settings a row tries; a study, if no range of it is widened."""
        study = self.studies.get(self.rows[name].study)
        return study.trials if study else len(self.trials(name))

    def seeds_of(self, name: str, dataset: str) -> tuple[int, ...]:
        """Reported seeds of a row on a dataset."""
        hidden = self.planted.get(dataset)
        return (hidden and hidden.seeds) or self.rows[name].seeds or self.seeds

    def source(self, dataset: str) -> str:
        """The dataset that decides on the settings: the one itself, or what positives were hidden of."""
        return self.planted[dataset].source if dataset in self.planted else dataset

    def tier(self, name: str, dataset: str) -> str:
        """The tier of a row on a dataset: the later one of the two."""
        hidden = self.planted.get(dataset)
        return max(self.rows[name].tier, hidden.tier if hidden else "A")

    def experiments(self, datasets: Sequence = (), tiers: str = "ABC", rows: Sequence = ()) -> list["Experiment"]:
        """Dataset by dataset, the rows asked for and the references they start from; InputError for an unknown name."""
        for asked, known, kind in ((datasets, self.datasets, "dataset"), (rows, self.rows, "row")):
            if unknown := [name for name in asked if name not in known]:
                raise InputError(f"The grid has no {kind} {unknown[0]!r}; it has {', '.join(known)}.")
        experiments = []
        for dataset in datasets or self.datasets:
            on = [name for name in self.rows if self.runs_on(name, dataset)]
            wanted = {name for name in on if (name in rows if rows else self.tier(name, dataset) in tiers)}
            wanted |= {self.rows[name].reference for name in wanted}
            experiments += [Experiment(self, dataset, name) for name in on if name in wanted]
        return experiments

    def runs_on(self, name: str, dataset: str) -> bool:
        """Whether a row is declared for a dataset."""
        row, hidden = self.rows[name], self.planted.get(dataset)
        if hidden:
            return row.planted and name in (hidden.rows or self.rows)
        return dataset in (set(self.datasets) - set(self.apart) if row.datasets is None else row.datasets)


def values(method: Method, settings: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What these keys are with a row's settings, by default or as they are set."""
    config = method.kind.model_validate(nested(settings))
    return {key: attrgetter(key)(config) for key in keys}


@dataclass(frozen=True, order=True)
class Experiment:
    """A method on a dataset."""

    grid: Grid
    dataset: str
    name: str

    @property
    def method(self) -> Method:
        return self.grid.rows[self.name]

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.grid.seeds_of(self.name, self.dataset)

    @property
    def reference(self) -> "Experiment | None":
        return Experiment(self.grid, self.dataset, self.method.reference) if self.method.reference else None

    @property
    def base(self) -> str:
        """The row of the reference without a mixture that this experiment is, extends or starts from."""
        start = self.reference or self
        return start.method.like or start.name

    @property
    def drift(self) -> "Experiment | None":
        """The experiment against which drift is measured; None where nothing is hidden or nothing was rejected."""
        row = self.grid.drift
        if self.dataset not in self.grid.planted or not self.reference or row in (None, self.name):
            return None
        if self.grid.rows[row].reference != self.method.reference:
            return None
        return Experiment(self.grid, self.dataset, row)

    @property
    def tuned(self) -> "Experiment":
        """The experiment whose trials decide on the settings of this one."""
        name, dataset = self.method.like or self.name, self.grid.source(self.dataset)
        return Experiment(self.grid, self.grid.rows[name].tuned_on.get(dataset, dataset), name)

    def needs(self) -> Iterator["Experiment"]:
        """The experiment and those that it depends on."""
        for start in filter(None, (self, self.drift)):
            for one in (start, start.tuned):
                yield one
                if one.reference:
                    yield from (one.reference, one.reference.tuned)

    def folder(self, runs: Path) -> Path:
        return Path(runs) / self.dataset / self.name

    def trials_file(self, ledger: Ledger) -> Path:
        """Where the ledger keeps what was tried."""
        return ledger.folder / "trials" / f"{self.dataset}.{self.name}.json"

    def chosen(self, ledger: Ledger) -> dict[str, Any] | None:
        """Settings of the reported runs; None before the trials are run, InputError if those on record are others."""
        tuned, declared = self.tuned, self.grid.trials(self.tuned.name)
        if self.grid.n_trials(tuned.name) == 1:
            return declared[0] | self.method.set
        if not (path := tuned.trials_file(ledger)).exists():
            return None
        kept = read_json(path)
        tried = [trial["settings"] for trial in kept["trials"]]
        same = tried[:1] == declared if tuned.method.study else tried == declared
        if not same or kept["seeds"] != list(self.grid.tuning.seeds) or kept.get("study") != tuned.declared_study:
            raise InputError(f"{path} holds the trials of another declaration of this row; the ledger is append-only.")
        begun = tuned.name == self.name and self.method.study  # by what is set, which otherwise wins
        return tried[kept[CHOSEN]] | ({} if begun else self.method.set)

    @property
    def declared_study(self) -> dict[str, Any] | None:
        """What of a study stands beside its trials."""
        if not self.method.study:
            return None
        search = {key: c.model_dump() if isinstance(c, Range) else c for key, c in self.method.search.items()}
        return {"rule": self.grid.studies[self.method.study].model_dump(), "search": search}

    def config(self, settings: dict[str, Any], seed: int) -> ReferenceConfig | AlignmentConfig:
        return self.method.kind.model_validate(nested(settings) | {"seed": seed})

    def recorded(self, ledger: Ledger) -> dict[int, str]:
        """Files of the records, by seed: the first of `candidates`."""
        return {seed: files[0] for seed, files in self.candidates(ledger).items()}

    def candidates(self, ledger: Ledger) -> dict[int, list[str]]:
        """Files of the records, by seed, what is to be preferred first.

        An alignment started from the reference of its own seed. Of several with one seed, an alignment is preferred
        that started from recorded weights, and a reference that has the very configuration, precision and device
        included. Raises InputError for two references of one seed that were trained on different data.
        """
        return ledger.once(self, lambda: self._candidates(ledger))

    def _candidates(self, ledger: Ledger) -> dict[int, list[str]]:
        start = self.reference or self
        settings, of_start = self.chosen(ledger), start.chosen(ledger)
        if settings is None or of_start is None or ledger.records.empty:
            return {}
        rows = ledger.of(self.config(settings, 0), start.config(of_start, 0).encoder)
        rows = rows[(rows["dataset"] == self.dataset) & rows["seed"].isin(self.seeds)]
        engine = {key: settings[f"training.{key}"] for key in ENGINE_KEYS if f"training.{key}" in settings}
        rows = rows[rows["config"].map(lambda config: config["training"].items() >= engine.items()).astype(bool)]
        if self.reference:
            starts = {seed: ledger.by_file.at[file, "id"] for seed, file in self.reference.recorded(ledger).items()}
            rows = rows[rows["reference"] == rows["seed"].map(starts)]
            preferred = rows["reference_weights"].isin(ledger.records["weights"])
        else:
            for _, of_seed in rows.groupby("seed"):
                ledger.check_one_edition(of_seed["file"])
            wanted = self.config(settings, 0).model_dump(mode="json")
            preferred = rows["config"].map(lambda config: (config | {"seed": 0}) == wanted).astype(bool)
        rows = pd.concat([rows[preferred], rows[~preferred]])
        return {int(seed): files.tolist() for seed, files in rows.groupby("seed")["file"]}
