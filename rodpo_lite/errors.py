"""What is meant for the person at the keyboard: the one error type, and notices."""


class InputError(ValueError):
    """Bad input: its message is one sentence that says what was wrong, where, and what to do (exit code 2)."""


class Notice(UserWarning):
    """Something the user should know that stops nothing; the command line prints it as one sentence."""
