"""What a training shows on stderr while it runs: a bar on a terminal, in a log a line now and then."""
import time
from typing import Optional

from common import progress
from common.progress import remaining

# Times that the lines are apart where there is no new validation accuracy.
WITHOUT_VALIDATION = 6


class TrainingProgress:
    """Of one segment. done: iterations that an earlier call made; accuracy: on the validation part, the last one that
    is known."""

    def __init__(self, title: str, total: int, done: int = 0, accuracy: Optional[float] = None, clock=time.monotonic):
        self._title, self._total, self._accuracy = title, total, accuracy
        self._iteration, self._loss, self._validated = done, None, False
        # Its own lines, in place of the bar's: the rate is counted from the first loss that Caffe shows.
        self._bar, self._lines = progress.bar(title, total, done, lines=False), progress.Lines(clock)

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
        self._lines.step(iteration)
        self._iteration = iteration
        self._bar.update(iteration - self._bar.n)
        self._bar.set_postfix_str(", ".join(self._measured()))
        if self._due():
            self._say()

    def _due(self) -> bool:
        return self._bar.disable and self._lines.due(1 if self._validated else WITHOUT_VALIDATION)

    def _say(self) -> None:
        self._lines.say("{}: iteration {}/{}, {}".format(self._title, self._iteration, self._total, ", ".join(
            self._measured() + self._speed())))
        self._validated = False

    def _measured(self) -> list[str]:
        found = [] if self._loss is None else [f"loss {self._loss:.4g}"]
        return found if self._accuracy is None else found + [
            f"validation accuracy {100 * self._accuracy:.2f} %"]

    def _speed(self) -> list[str]:
        rate = self._lines.rate(self._iteration)
        return [] if rate is None else [speed(rate), remaining((self._total - self._iteration) / rate)]


def speed(rate: float) -> str:
    """rate: iterations a second."""
    return f"{rate:.3g} it/s"
