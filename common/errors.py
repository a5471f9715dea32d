"""The exception for errors that the user can correct, and which lines of a failed program say what was wrong."""
import re

# Fatal lines of glog, as Caffe writes them, and the errors of our own layers.
LAST_WORDS = re.compile(r"F\d{4} |layer \S+ \(\w+\): ")


class UserError(Exception):
    """Wrong input or a wrong request. The message names the file, row, layer or key and what was expected. It is shown
    as one line, without a traceback."""
