"""The exception for errors that the user can correct. It is shown as one line, without a traceback."""


class UserError(Exception):
    """Wrong input or a wrong request. The message names the file, row, layer or key and what was expected."""
