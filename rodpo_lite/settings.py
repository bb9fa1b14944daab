"""Settings: frozen pydantic models, built from defaults, a YAML file and `key=value`, and hashed to a run id."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from rodpo_lite.errors import InputError, shown
from rodpo_lite.files import parse_yaml, read_yaml

PRESETS = Path(__file__).with_name("presets")


class Settings(BaseModel):
    """Base of everything that can be configured: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def about_unknown(cls, key: str) -> str:
        """What to tell the user about a key that these settings do not have."""
        return f"Unknown key {shown(key)}; the keys are {', '.join(keys(cls))}."


Config = TypeVar("Config", bound=Settings)


def resolve(
    kind: type[Config], file: Path | None = None, overrides: list[str] | None = None, preset: str | None = None
) -> Config:
    """Build a configuration from defaults, a preset, a YAML file and `key=value`; raises InputError as `build` does."""
    values = read_preset(preset) if preset else {}
    _update(values, read_yaml(file, "The configuration file") if file else {})
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"-o takes key=value, such as training.epochs=10, but got {override!r}.")
        _place(values, key, parse_yaml(text, f"The value of {key!r}"))
    return build(kind, values)


def build(kind: type[Config], values: dict[str, Any], where: str = "") -> Config:
    """Validate a dictionary; raises InputError, `where` first, naming the key, the value and what is allowed."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(where + kind.about_unknown(key)) from None
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(f"{where}{message}.") from None
        reason = message[:1].lower() + message[1:]
        raise InputError(f"{where}{key} = {shown(first['input'])} is not valid: {reason}.") from None


def read_as(kind: Any, file: Path, what: str) -> Any:
    """A YAML file as a model or another type; raises InputError, `what` first, naming the key that is wrong."""
    values = read_yaml(file, what)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{what} {file}, {key}: {first['msg']}.") from None


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Every settable key of a configuration, dotted."""
    names = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += keys(field.annotation, f"{prefix}{name}.")
        elif name != "stage":
            names.append(prefix + name)
    return names


def one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Allow these names, read when one is validated: a registry may stand below the settings that name an entry."""

    def known(name: str) -> str:
        if name not in names():
            raise ValueError(f"allowed are {', '.join(names())}")
        return name

    return AfterValidator(known)


def nested(settings: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Settings by dotted key as groups within groups: {"loss.beta": 1} becomes {"loss": {"beta": 1}}."""
    groups: dict[str, Any] = {}
    for key, value in settings.items():
        _place(groups, key, value, where)
    return groups


def dotted(groups: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Groups within groups as settings by dotted key: the inverse of `nested`."""
    settings = {}
    for key, value in groups.items():
        settings |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return settings


def presets() -> list[str]:
    """The names of presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The keys of a preset; raises InputError where there is none of that name."""
    if name not in presets():
        raise InputError(f"There is no preset {name!r}; there is {', '.join(presets())}.")
    return read_yaml(PRESETS / f"{name}.yaml", "The preset")


def _update(groups: dict[str, Any], others: dict[str, Any]) -> None:
    """Set the keys of other groups, group by group."""
    for key, value in others.items():
        if isinstance(value, dict) and isinstance(groups.get(key), dict):
            _update(groups[key], value)
        else:
            groups[key] = value


def _place(groups: dict[str, Any], key: str, value: Any, where: str = "") -> None:
    """Set the value of a dotted key; raises InputError, `where` first, if a part of it but the last has a value."""
    *parents, leaf = key.split(".")
    for parent in parents:
        groups = groups.setdefault(parent, {})
        if not isinstance(groups, dict):
            raise InputError(f"{where}{key!r} is not a key: {parent!r} holds a value, not a group of keys.")
    groups[leaf] = value


def identity(config: BaseModel, **inputs: Any) -> str:
    """The run id: 12 hex digits of SHA-256 over the configuration and what it was applied to."""
    text = json.dumps({"config": config.model_dump(mode="json"), **inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
