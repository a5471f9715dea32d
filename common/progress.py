"""How far work is, on stderr: on a terminal a bar, elsewhere a line now and then."""
import datetime
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Optional

from tqdm import tqdm

from common import children

# Seconds from one line to the next, at least. Of long work, this share of its time instead.
QUIET, SHARE = 10, 1 / 500
# So many times that between two lines which tell no more than how far it is.
PLAIN = 3


class Lines:
    """Says when a line is due, and how fast the work goes since its first step: what comes before is starting."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._began = self._last = clock()
        self._first = None

    def step(self, done: int) -> None:
        self._first = self._first or (done, self._clock())

    def due(self, times: float = 1) -> bool:
        now = self._clock()
        return now - self._last >= times * max(QUIET, SHARE * (now - self._began))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self._last = self._clock()

    def rate(self, done: int) -> Optional[float]:
        """Steps a second; None where too little is known."""
        step, since = self._first or (done, self._clock())
        seconds = self._clock() - since
        return (done - step) / seconds if done > step and seconds else None


class Bar(tqdm):
    """tqdm's, and where it shows nothing, since no terminal is there, lines. lines: None for none."""

    def __init__(self, what: str, total: int, done: int, lines: Optional[Lines]):
        super().__init__(total=total, initial=done, desc=what, disable=None, file=sys.stderr, dynamic_ncols=True,
                         position=children.number, leave=None)
        self._what, self._total, self._done, self._lines = what, total, done, lines

    def update(self, count: int = 1) -> None:
        super().update(count)
        self._done += count
        if not self._lines or not self.disable:
            return
        self._lines.step(self._done)
        if self._lines.due(PLAIN) and self._done < self._total:
            rate = self._lines.rate(self._done)
            self._lines.say("{}: {}/{}{}".format(self._what, self._done, self._total, "" if rate is None else
                                                 f", {rate:.3g} a second, "
                                                 f"{remaining((self._total - self._done) / rate)}"))


def bar(what: str, total: int, done: int = 0, lines: bool = True) -> Bar:
    """done: of the total, by an earlier call; lines: whether it says lines where it shows nothing."""
    return Bar(what, total, done, Lines() if lines else None)


def each(what: str, things: Sequence) -> Iterator:
    """The things, one by one, under a bar."""
    with bar(what, len(things)) as shown:
        for thing in things:
            yield thing
            shown.update()


def remaining(seconds: float) -> str:
    return f"{datetime.timedelta(seconds=round(seconds))} left"
