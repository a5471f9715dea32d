"""Reads ahead: makes the next values in another thread while the net computes."""
import collections
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Tuple

# How many values may wait.
DEPTH = 2


class Ahead:
    """Calls `make(number)` for the numbers that come next. The thread ends when the object is no longer in use."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "ahead")
        self._coming: Deque[Tuple[int, "Future[Any]"]] = collections.deque()

    def get(self, make: Callable[[int], Any], number: int) -> Any:
        """make(number), most often made before. Raises what `make` raised for this number. All calls of `make` are in
        one thread, one after another."""
        while self._coming and self._coming[0][0] != number:  # the next pass is another one than was expected
            self._coming.popleft()[1].cancel()
        while len(self._coming) <= DEPTH:
            following = self._coming[-1][0] + 1 if self._coming else number
            self._coming.append((following, self._pool.submit(make, following)))
        return self._coming.popleft()[1].result()
