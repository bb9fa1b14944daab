"""What is meant for the person at the keyboard: the one error type, and notices."""

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 2


class InputError(ValueError):
    """Bad input: its message is one sentence that says what was wrong, where, and what to do (exit code 2)."""


class Notice(UserWarning):
    """Something the user should know that stops nothing; the command line prints it as one sentence."""


def printable(text: str) -> str:
    """Text on one line, without what a terminal would obey."""
    return "".join(one if one.isprintable() else " " for one in " ".join(text.split()))


def shown(value: Any) -> str:
    """A value for a message: short, though a file may hold one that is long, or that repeats itself within itself."""
    return _SHORT.repr(value)
