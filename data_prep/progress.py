"""Progress bars: on a terminal, and nothing in a pipe."""
import sys

from tqdm import tqdm


def bar(what: str, total: int, done: int = 0) -> tqdm:
    return tqdm(total=total, initial=done, desc=what, disable=None, file=sys.stderr, dynamic_ncols=True)
