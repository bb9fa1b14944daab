"""Configurations from files and from the command line."""

import re
from pathlib import Path
from typing import Any

import yaml

from rodpo_lite.config import Config, build
from rodpo_lite.errors import InputError, shown

# What the parser raises for text that is not valid; 2024-99-99 is a ValueError, !!bool x a KeyError, and so on.
_BROKEN = (yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError, TypeError, OverflowError)


def resolve(kind: type[Config], file: Path | None = None, overrides: list[str] | None = None) -> Config:
    """Build a configuration from defaults, then a YAML file, then `key=value` overrides.

    Raises InputError naming the key, the value and what is allowed.
    """
    values = read_yaml(file, "The configuration file") if file else {}
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"-o takes key=value, such as training.epochs=10, but got {override!r}.")
        target = values
        *parents, leaf = key.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"{key!r} is not a key: {parent!r} holds a value, not a group of keys.")
        try:
            target[leaf] = yaml.load(text, _Loader)
        except _BROKEN:
            raise InputError(f"The value of {key!r} is not a plain value: {shown(text)}.") from None
    return build(kind, values)


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted key as groups within groups: {"loss.beta": 1} becomes {"loss": {"beta": 1}}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, leaf = key.split(".")
        target = found
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    return found


class _Loader(yaml.SafeLoader):
    """YAML as people write numbers: 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def read_yaml(file: Path, what: str) -> dict[str, Any]:
    """Keys and values of a YAML file; raises InputError, `what` first, if it has none."""
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{what} {file} cannot be read: {error.strerror}.") from None
    except _BROKEN:
        raise InputError(f"{what} {file} is not valid YAML.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{what} {file} must hold keys and values, such as 'seed: 1'.")
    return values
