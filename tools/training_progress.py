"""What a training shows on stderr while it runs: a bar on a terminal, in a log a line now and then."""
import datetime
import sys
import time
from typing import List, Optional

from data_prep import progress

# Seconds from one line to the next, at least, where there is a new validation accuracy; without one it is so many
# times that. Of a long training, this share of its time instead.
QUIET, WITHOUT_VALIDATION, SHARE = 10, 6, 1 / 500


class TrainingProgress:
    """Of one segment. done: iterations that an earlier call made; accuracy: on the validation part, the last one that
    is known."""

    def __init__(self, title: str, total: int, done: int = 0, accuracy: Optional[float] = None, clock=time.monotonic):
        self._title, self._total, self._accuracy, self._clock = title, total, accuracy, clock
        self._iteration, self._loss, self._validated = done, None, False
        self._bar = progress.bar(title, total, done)
        # The rate is counted from the first loss that Caffe shows: what comes before is starting.
        self._first = None
        self._began = self._last = clock()

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_) -> None:
        if self._validated and self._due():
            self._say()
        self._bar.close()

    def loss(self, iteration: int, value: float) -> None:
        self._loss = value
        self.reached(iteration)

    def accuracy(self, value: float) -> None:
        self._accuracy, self._validated = value, True

    def reached(self, iteration: int) -> None:
        self._first = self._first or (iteration, self._clock())
        self._iteration = iteration
        self._bar.update(iteration - self._bar.n)
        self._bar.set_postfix_str(", ".join(self._measured()))
        if self._due():
            self._say()

    def _due(self) -> bool:
        now = self._clock()
        quiet = max(QUIET, SHARE * (now - self._began))
        return self._bar.disable and now - self._last >= quiet * (1 if self._validated else WITHOUT_VALIDATION)

    def _say(self) -> None:
        print("{}: iteration {}/{}, {}".format(self._title, self._iteration, self._total, ", ".join(
            self._measured() + self._speed())), file=sys.stderr, flush=True)
        self._last, self._validated = self._clock(), False

    def _measured(self) -> List[str]:
        found = [] if self._loss is None else ["loss {:.4g}".format(self._loss)]
        return found if self._accuracy is None else found + [
            "validation accuracy {:.2f} %".format(100 * self._accuracy)]

    def _speed(self) -> List[str]:
        iteration, since = self._first or (self._iteration, self._clock())
        seconds = self._clock() - since
        if iteration == self._iteration or not seconds:
            return []
        rate = (self._iteration - iteration) / seconds
        return [speed(rate), remaining((self._total - self._iteration) / rate)]


def speed(rate: float) -> str:
    """rate: iterations a second."""
    return "{:.3g} it/s".format(rate)


def remaining(seconds: float) -> str:
    return "{} left".format(datetime.timedelta(seconds=round(seconds)))
