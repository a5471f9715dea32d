"""Progress bars: on a terminal, and nothing in a pipe."""
import sys
from typing import Iterator, Sequence

from tqdm import tqdm

from data_prep import children


def bar(what: str, total: int, done: int = 0) -> tqdm:
    return tqdm(total=total, initial=done, desc=what, disable=None, file=sys.stderr, dynamic_ncols=True,
                position=children.number, leave=None)


def each(what: str, things: Sequence) -> Iterator:
    """The things, one by one, under a bar."""
    return tqdm(things, desc=what, disable=None, file=sys.stderr, dynamic_ncols=True,
                position=children.number, leave=None)
