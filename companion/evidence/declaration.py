"""What a grid of experiments is declared of: rows, their searches, and where positives are hidden."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.settings import Settings, dotted, one_of, presets, read_preset

EDGE = 0.1  # of a range, on its scale
Tier = Literal["A", "B", "C"]


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice")
    return seeds


Seeds = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_distinct)]


class Range(Settings):
    """A number between two ends, on a logarithmic scale; `whole` for one that is counted.

    most: no study widens the range beyond it.
    """

    low: float = Field(gt=0)
    high: float
    most: float | None = None
    whole: bool = False

    @model_validator(mode="after")
    def _ordered(self):
        if self.low >= self.high or (self.most or self.high) < self.high:
            raise ValueError("low must be below high, and high not above most")
        return self

    def at(self, place: float) -> float:
        """The value at a place in [0, 1), to two significant digits."""
        return self.rounded(self.low * (self.high / self.low) ** place)

    def rounded(self, value: float) -> float:
        value = float(f"{value:.2g}")
        return round(value) if self.whole else value

    def widened(self, value: float) -> "Range":
        """The range, or where the value lies in an outer tenth of it, one that is half as wide again on that side."""
        place = math.log(value / self.low) / math.log(self.high / self.low)
        step = (self.high / self.low) ** 0.5
        if place < EDGE:
            return self.model_copy(update={"low": self.rounded(self.low / step) or self.low})
        if place > 1 - EDGE:
            return self.model_copy(update={"high": min(self.rounded(self.high * step), self.most or math.inf)})
        return self


class Method(Settings):
    """One method: keys that it sets, keys that are searched, and the row of the reference that it starts from.

    preset: named keys (see `rodpo train --preset`), of which `set` changes some and into which they are put. reference:
    None for a reference itself. like: another row, whose chosen settings this one takes. tuned_on: dataset → another
    one, whose trials decide there as well. planted: also run where positives are hidden, where no others are.
    """

    tier: Tier
    reference: str | None = None
    like: str | None = None
    preset: Annotated[str, one_of(presets)] | None = None
    set: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    study: str | None = None
    search: dict[str, Range | list[Any]] = Field(default_factory=dict)
    tuned_on: dict[str, str] = Field(default_factory=dict)
    datasets: tuple[str, ...] | None = Field(None, description="only these; null is all")
    seeds: Seeds | None = Field(None, description="reported seeds, if fewer than the grid's")
    planted: bool = False

    @field_validator("set", mode="before")
    @classmethod
    def _after_the_preset(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        preset = info.data.get("preset")
        return (dotted(read_preset(preset)) if preset else {}) | settings

    @model_validator(mode="after")
    def _searched_or_borrowed(self):
        if few := [key for key, choice in self.search.items() if isinstance(choice, list) and len(choice) < 2]:
            raise ValueError(f"a search over {few[0]} needs at least two values")
        if self.like and self.search:
            raise ValueError("a row has settings of its own (search) or those of another (like), not both")
        if (self.tuned_on or self.study) and not self.search:
            raise ValueError("tuned_on and study are for a row with a search")
        return self

    def at(self, key: str, place: float) -> Any:
        """The value of a searched key at a place in [0, 1)."""
        choice = self.search[key]
        return choice.at(place) if isinstance(choice, Range) else choice[int(place * len(choice))]

    @property
    def kind(self) -> type[ReferenceConfig] | type[AlignmentConfig]:
        return AlignmentConfig if self.reference else ReferenceConfig


class Tuning(Settings):
    """How settings are chosen: so many trials for every row that searches, on seeds that are not reported."""

    seeds: Seeds
    trials: int = Field(ge=1)


class Study(Settings):
    """How a study searches: each trial is proposed by what the earlier ones gave, and the hopeless ones are cut short.

    The first trial is the row as declared, those up to `drawn` are random, the others proposed by a tree-structured
    Parzen estimator (Bergstra et al. 2011). Once `drawn` trials have finished, one is stopped after an epoch, from
    `epochs` on, if its best validation NDCG@5 so far is below the median of what the finished ones had at that epoch.
    If the best trial lies in an outer tenth of a range after `trials`, that range is widened by half on that side and
    `more` trials are added; at most `widenings` times. The seed is that of `Tuning`.
    """

    trials: int = Field(ge=1)
    drawn: int = Field(ge=1)
    epochs: int = Field(ge=1)
    more: int = Field(ge=1)
    widenings: int = Field(ge=0)


class PlantedDataset(Settings):
    """Another dataset with a share of its training interactions hidden; rows, seeds: only these, if any are named."""

    source: str
    share: float = Field(gt=0, lt=1)
    tier: Tier = "A"
    rows: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    seeds: Seeds | None = None
