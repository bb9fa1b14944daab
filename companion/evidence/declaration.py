"""What a grid of experiments is declared of: rows, their searches, and where positives are hidden."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from rodpo_lite.config import AlignmentConfig, ReferenceConfig
from rodpo_lite.settings import Settings, dotted, one_of, presets, read_preset

Tier = Literal["A", "B", "C"]


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice")
    return seeds


Seeds = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_distinct)]


class Range(Settings):
    """A number between two ends, on a logarithmic scale."""

    low: float = Field(gt=0)
    high: float

    @model_validator(mode="after")
    def _ordered(self):
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self

    def at(self, place: float) -> float:
        """The value at a place in [0, 1), to two significant digits."""
        return float(f"{self.low * (self.high / self.low) ** place:.2g}")


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
        if self.tuned_on and not self.search:
            raise ValueError("tuned_on is for a row with a search")
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


class PlantedDataset(Settings):
    """Another dataset with a share of its training interactions hidden; rows, seeds: only these, if any are named."""

    source: str
    share: float = Field(gt=0, lt=1)
    tier: Tier = "A"
    rows: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    seeds: Seeds | None = None
