"""How far a recorded metric may move from its baseline, and what must hold whatever it is."""

from __future__ import annotations

import math
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from companion.evidence.declaration import Declared
from rodpo_lite.errors import InputError
from rodpo_lite.files import read_yaml


class Within(Declared):
    """Every metric of a page whose name fits `metric`, `*` allowed, lies between `low` and `high`, both included.

    It holds where none fits: a metric that is gone differs from the baseline, and a profile may have none.
    """

    page: str
    metric: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def asked(self) -> str:
        return f"{self.low:g} ≤ {self.metric} ≤ {self.high:g}"

    def names(self, metrics: dict[str, Any]) -> list[str]:
        return [name for name in metrics if fnmatch(name, self.metric)]

    def holds(self, values: list[float]) -> bool:
        return all(self.low <= value <= self.high for value in values)


class Rising(Declared):
    """These metrics of a page never fall from one to the next."""

    page: str
    rising: tuple[str, ...] = Field(min_length=2)

    @property
    def asked(self) -> str:
        return " ≤ ".join(self.rising)

    def names(self, metrics: dict[str, Any]) -> list[str]:
        return list(self.rising)

    def holds(self, values: list[float]) -> bool:
        return values == sorted(values)


class Total(Declared):
    """These metrics of a page add up to `total`."""

    page: str
    sum: tuple[str, ...] = Field(min_length=2)
    total: float
    within: float = 1e-9

    @property
    def asked(self) -> str:
        return f"{' + '.join(self.sum)} = {self.total:g}"

    def names(self, metrics: dict[str, Any]) -> list[str]:
        return list(self.sum)

    def holds(self, values: list[float]) -> bool:
        return abs(math.fsum(values) - self.total) <= self.within


Invariant = Within | Rising | Total


class Rules(Declared):
    """tolerance: of `<page>.<metric>`, `*` allowed, the largest change relative to the baseline; the last that fits."""

    tolerance: dict[str, Annotated[float, Field(ge=0)]]
    invariants: tuple[Invariant, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Rules:
        """Raises InputError naming the key that is wrong."""
        try:
            return cls.model_validate(read_yaml(path, "The rules"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise InputError(f"The rules {path}, {where}: {first['msg']}.") from None

    def allowed(self, page: str, metric: str) -> float:
        """How far a metric may move, relative to its baseline; 0 where no rule fits."""
        found = [value for pattern, value in self.tolerance.items() if fnmatch(f"{page}.{metric}", pattern)]
        return found[-1] if found else 0.0

    def broken(self, page: str, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        """Invariants of a page that do not hold: what is asked, and the values, as text."""
        found = []
        for rule in (rule for rule in self.invariants if rule.page == page):
            names = rule.names(metrics)
            complete = all(name in metrics for name in names)
            if not (complete and rule.holds([metrics[name] for name in names])):
                values = (f"{metrics[name]:.6g}" if name in metrics else "missing" for name in names)
                found.append((rule.asked, ", ".join(values)))
        return found
