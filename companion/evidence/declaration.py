"""What a grid of experiments is declared of: rows, their searches, and where positives are hidden."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from rodpo_lite.config import AlignmentConfig, ReferenceConfig

Tier = Literal["A", "B", "C"]


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice")
    return seeds


Seeds = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_distinct)]


class Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Declared):
    """A number between two ends, by default on a logarithmic scale."""

    low: float
    high: float
    log: bool = True

    @model_validator(mode="after")
    def _ordered(self):
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 on a logarithmic scale")
        return self

    def at(self, place: float) -> float:
        """The value at a place in [0, 1), to two significant digits."""
        value = self.low * (self.high / self.low) ** place if self.log else self.low + (self.high - self.low) * place
        return float(f"{value:.2g}")


class Method(Declared):
    """One method: keys that it sets, keys that are searched, and the row of the reference that it starts from.

    reference: None for a row that is a reference itself. like: another row, whose chosen settings this one takes.
    tuned_on: dataset → another one, whose trials decide there as well.
    planted: also run where positives are hidden; a dataset with hidden positives has no other rows.
    """

    tier: Tier
    reference: str | None = None
    like: str | None = None
    set: dict[str, Any] = {}
    search: dict[str, Range | list[Any]] = {}
    tuned_on: dict[str, str] = {}
    datasets: tuple[str, ...] | None = Field(None, description="only these; null is all")
    seeds: Seeds | None = Field(None, description="reported seeds, if fewer than the grid's")
    planted: bool = False

    @field_validator("search")
    @classmethod
    def _choices(cls, search: dict) -> dict:
        if empty := [key for key, choice in search.items() if isinstance(choice, list) and len(choice) < 2]:
            raise ValueError(f"a search over {empty[0]} needs at least two values")
        return search

    @model_validator(mode="after")
    def _searched_or_borrowed(self):
        if self.like and self.search:
            raise ValueError("a row has settings of its own (search) or those of another (like), not both")
        if self.tuned_on and not self.search:
            raise ValueError("tuned_on is for a row with a search")
        return self

    @property
    def kind(self) -> type[ReferenceConfig] | type[AlignmentConfig]:
        return AlignmentConfig if self.reference else ReferenceConfig


class Tuning(Declared):
    """How settings are chosen: so many trials for every row that searches, on seeds that are not reported."""

    seeds: Seeds
    trials: int = Field(ge=1)


class PlantedDataset(Declared):
    """A dataset that is another one with a share of its training interactions hidden.

    rows: only these, in place of all that are planted. seeds: only these, in place of the row's.
    """

    source: str
    share: float = Field(gt=0, lt=1)
    tier: Tier = "A"
    rows: tuple[str, ...] | None = None
    seeds: Seeds | None = None
