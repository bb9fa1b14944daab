"""Messages for the person at the keyboard: the one error type, and notices."""

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 2


class InputError(ValueError):
    """Bad input: its message is one sentence that says what was wrong, where, and what to do (exit code 2)."""


class Notice(UserWarning):
    """A warning to the user, which stops nothing; the command line prints it as one sentence."""


def printable(text: str) -> str:
    """Text on one line, without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))


def shown(value: Any) -> str:
    """A value for a message: short, though a file may hold one that is long, or that repeats itself within itself."""
    return _SHORT.repr(value)
