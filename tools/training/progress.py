"""What a training shows on standard error while it runs: a bar on a terminal, a line now and then in a log."""
import time
from typing import Callable, Optional

from common import progress
from common.progress import remaining

# How many times as long the pause between two lines is if there is no new validation accuracy.
WITHOUT_VALIDATION = 6


class TrainingProgress:
    """The progress of one segment."""

    def __init__(self, title: str, total: int, done: int = 0, accuracy: Optional[float] = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """total: iterations; done: of them, by an earlier call; accuracy: the last one on the validation split."""
        self._title, self._total, self._accuracy = title, total, accuracy
        self._iteration, self._validated = done, False
        self._loss: Optional[float] = None
        # Its own lines, in place of the bar's: the rate is counted from the first loss that Caffe shows.
        self._bar, self._lines = progress.bar(title, total, done, lines=False), progress.Lines(clock)

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._validated and self._due():
            self._say()
        self._bar.close()

    def loss(self, iteration: int, value: float) -> None:
        self._loss = value
        self.reached(iteration)

    def accuracy(self, value: float) -> None:
        self._accuracy, self._validated = value, True

    def reached(self, iteration: int) -> None:
        self._lines.step(iteration)
        self._iteration = iteration
        self._bar.update(iteration - self._bar.n)
        self._bar.set_postfix_str(", ".join(self._measured()))
        if self._due():
            self._say()

    def _due(self) -> bool:
        return self._bar.disable and self._lines.due(1 if self._validated else WITHOUT_VALIDATION)

    def _say(self) -> None:
        self._bar.quiet()
        self._lines.say("{}: iteration {}/{}, {}".format(self._title, self._iteration, self._total, ", ".join(
            self._measured() + self._speed())))
        self._validated = False

    def _measured(self) -> list[str]:
        words = [] if self._loss is None else [f"loss {self._loss:.4g}"]
        return words if self._accuracy is None else [*words, f"validation accuracy {100 * self._accuracy:.2f} %"]

    def _speed(self) -> list[str]:
        rate = self._lines.rate(self._iteration)
        return [] if rate is None else [speed(rate), remaining((self._total - self._iteration) / rate)]


def speed(rate: float) -> str:
    """rate: iterations a second."""
    return f"{rate:.3g} it/s"
