"""Shows the progress of work on stderr: a bar on a terminal, otherwise a line from time to time. Work that cannot be
counted is named when it takes long."""
import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Optional

from tqdm import tqdm

from common import children

# Minimum seconds between two lines; for long work, this share of the time since its start, if that is longer.
QUIET, SHARE = 10, 1 / 500
# Factor of this minimum for lines that show nothing but the progress.
PLAIN = 3
# Seconds after which work says what it is.
SILENT = 5


class Notice:
    """Names work that has gone on for SILENT seconds, once, unless it ended or has shown something before. The line
    comes late where compiled code, such as a pass of pycaffe, lets no other thread run."""

    def __init__(self, what: str):
        self._timer = threading.Timer(SILENT, print, [f"{what} ..."], {"file": sys.stderr, "flush": True})
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Names work that cannot be counted if it takes long. what: in words, such as "reading the logs"."""
    notice = Notice(what)
    try:
        yield
    finally:
        notice.cancel()


class Lines:
    """Decides when a line is due, and measures the speed of the work from its first step on, without the start-up."""

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
        """Steps per second; None before the second step."""
        step, since = self._first or (done, self._clock())
        seconds = self._clock() - since
        return (done - step) / seconds if done > step and seconds else None


class Bar(tqdm):
    """A bar of tqdm, which shows nothing without a terminal; then lines are printed instead. lines: None for none."""

    def __init__(self, what: str, total: int, done: int, lines: Optional[Lines]):
        super().__init__(total=total, initial=done, desc=what, disable=None, file=sys.stderr, dynamic_ncols=True,
                         position=children.number, leave=None)
        self._what, self._total, self._done, self._lines = what, total, done, lines
        self._notice = Notice(f"{what}: {done}/{total}") if self.disable and done < total else None

    def quiet(self) -> None:
        """Lines have shown what the work is."""
        if self._notice:
            self._notice.cancel()

    def close(self) -> None:
        # tqdm also closes a bar whose making has failed.
        if hasattr(self, "_notice"):
            self.quiet()
        super().close()

    def update(self, count: int = 1) -> None:
        super().update(count)
        self._done += count
        if not self._lines or not self.disable:
            return
        self._lines.step(self._done)
        if self._lines.due(PLAIN) and self._done < self._total:
            rate = self._lines.rate(self._done)
            self.quiet()
            self._lines.say("{}: {}/{}{}".format(self._what, self._done, self._total, "" if rate is None else
                                                 f", {rate:.3g} a second, "
                                                 f"{remaining((self._total - self._done) / rate)}"))


def bar(what: str, total: int, done: int = 0, lines: bool = True) -> Bar:
    """A progress bar. done: how much of the total an earlier call has done; lines: whether lines are printed if there
    is no terminal."""
    return Bar(what, total, done, Lines() if lines else None)


def each(what: str, things: Sequence) -> Iterator:
    """Yields the things one by one, and shows a bar."""
    with bar(what, len(things)) as progress_bar:
        for thing in things:
            yield thing
            progress_bar.update()


def remaining(seconds: float) -> str:
    """A duration as text, such as "0:01:30 left"."""
    return f"{datetime.timedelta(seconds=round(seconds))} left"
