"""The one exception for what a person can mend: shown as one line, without a traceback."""


class UserError(Exception):
    """Bad input or a wrong request. The message names the file, row, layer or key and what was expected."""
