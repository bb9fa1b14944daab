"""The one error type that is meant for the person at the keyboard."""


class InputError(ValueError):
    """Bad input: its message is one sentence that says what was wrong, where, and what to do (exit code 2)."""
