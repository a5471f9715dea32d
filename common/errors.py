"""The exception for errors that the user can correct, and what failed programs and libraries say."""
import re

# Fatal lines of glog, as Caffe writes them, and the errors of our own layers.
LAST_WORDS = re.compile(r"F\d{4} |layer \S+ \(\w+\): ")

# Said by PyTorch for the processor and for a card, and by CUDA's libraries.
NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory|ALLOC_FAILED|Unable to allocate")


class UserError(Exception):
    """Wrong input or a wrong request. The message names the file, row, layer or key and what was expected. It is shown
    as one line, without a traceback."""
