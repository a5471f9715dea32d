"""The state of a run, read from its folder, whether a training is at work there or not."""
import calendar
import collections
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from common import locks
from tools.training import caffe_log, schedules
from tools.training.caffe_process import LOG, Segment
from tools.training.run import LOCK, Run

# Seconds at the end of the logs from which the rate is calculated.
RECENT = 1800
CLOCK = re.compile(r"I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d\.\d+)")
# In the first line of a process that trains. What it shows does not continue what stands before it.
BEGINS = "Starting Optimization"


@dataclass(frozen=True, order=True)
class Step:
    """From one iteration that the log shows to the next one."""

    # Seconds since 1970, by the local clock.
    start: float
    end: float
    iterations: int


class Log:
    """A segment's caffe.log. `read` reads what was added since the last call; a log that began anew is read anew."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._begin_anew()

    def _begin_anew(self) -> None:
        # The last ones that the log shows.
        self.iteration = 0
        self.loss: Optional[float] = None
        # Iteration -> accuracy on the validation split.
        self.accuracies: dict[int, float] = {}
        # Those of the last RECENT seconds.
        self.steps: collections.deque[Step] = collections.deque()
        self._parser, self._offset = caffe_log.Parser(), 0
        self._file: Optional[int] = None
        # The last iteration that this process showed, and when.
        self._last: Optional[tuple[int, float]] = None

    def read(self) -> None:
        try:
            stream = open(self.path, "rb")
        except FileNotFoundError:
            self._begin_anew()
            return
        with stream:
            about = os.fstat(stream.fileno())
            if about.st_ino != self._file or about.st_size < self._offset:
                self._begin_anew()
                self._file = about.st_ino
            stream.seek(self._offset)
            added = stream.read()
        whole = added[:added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            self._take(line, about.st_mtime)

    def _take(self, line: str, written: float) -> None:
        if BEGINS in line:
            self._last = None
        event = self._parser.parse(line)
        if isinstance(event, caffe_log.Loss):
            moment = _moment(line, written)
            if self._last and event.iteration > self._last[0] and moment:
                self.steps.append(Step(self._last[1], moment, event.iteration - self._last[0]))
                while self.steps[0].end < moment - RECENT:
                    self.steps.popleft()
            self.iteration, self.loss = event.iteration, event.value
            self._last = (event.iteration, moment) if moment else None
        elif isinstance(event, caffe_log.Output) and (event.phase, event.name) == ("val", "accuracy"):
            self.accuracies[event.iteration] = event.value


def _moment(line: str, written: float) -> Optional[float]:
    """When a line was logged, in seconds since 1970. glog gives no year: it is the one in which the file was last
    written, or the one before. None if the line has no time."""
    match = CLOCK.match(line)
    if not match:
        return None
    month, day, hour, minute = map(int, match.groups()[:4])
    now = time.localtime(written)
    year = now.tm_year - (month > now.tm_mon)
    # The local time counted as if it were UTC: only differences matter.
    return calendar.timegm((year, month, day, hour, minute, 0)) + float(match.group(5))


@dataclass(frozen=True)
class State:
    """How far a run is."""

    # What is trained at the moment, such as "round 2/30"; "" if there is only one training, or none any more.
    position: str
    # Iterations of the run: reached, and in total.
    iteration: int
    total: int
    # The last one shown; None before.
    loss: Optional[float]
    # (iteration, value) on the validation split: the last one and the best one; None before.
    accuracy: Optional[tuple[int, float]]
    best: Optional[tuple[int, float]]
    # Iterations of all trainings of the run, its trials included: made so far, and in total.
    done: int
    work: int
    # Of them a second; None if it is not known.
    rate: Optional[float]
    # Whether a training is at work.
    working: bool
    finished: bool
    # Iteration of the snapshot from which a stopped training continues.
    continues_from: int


class Watch:
    """The state of one run; `state` reads on where the last call ended."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._logs: dict[str, Log] = {}

    def state(self) -> Optional[State]:
        """None if the run has not begun. Raises UserError if run.json cannot be read."""
        if not self.run.has_begun:
            return None
        working, total = is_working(self.run), self.run.info["iterations"]
        progress = schedules.of(self.run.experiment).progress(self.run, total,
                                                              lambda segment: self._log(segment).iteration)
        start = progress.adopted[-1].end if progress.adopted else 0
        logs = [(span.start, self._log(span.segment)) for span in progress.adopted] + [
            (start, self._log(segment)) for segment in progress.active]
        accuracies = {begin + at: value for begin, log in logs for at, value in log.accuracies.items()}
        losses = [log.loss for _, log in logs if log.loss is not None]
        finished = total in self.run.snapshots()
        return State(
            "" if finished else progress.position, total if finished else progress.iteration, total,
            losses[-1] if losses else None,
            max(accuracies.items(), default=None),
            max(accuracies.items(), key=lambda pair: (pair[1], -pair[0]), default=None),
            progress.work if finished else progress.done, progress.work,
            _rate([step for _, log in logs for step in log.steps]), working, finished, progress.continues_from)

    def _log(self, segment: Segment) -> Log:
        path = segment.path(LOG)
        log = self._logs.setdefault(path, Log(path))
        log.read()
        return log


def is_working(run: Run) -> bool:
    """Whether a training holds the run's lock."""
    return locks.is_held(run.path(LOCK))


def _rate(steps: Sequence[Step]) -> Optional[float]:
    """Iterations a second over the last steps: those of all trainings, divided by the time in which at least one was
    at work. None without steps."""
    newest = max((step.end for step in steps), default=0)
    recent = sorted(step for step in steps if step.end >= newest - RECENT)
    seconds, until = 0.0, float("-inf")
    for step in recent:
        seconds += max(0.0, step.end - max(step.start, until))
        until = max(until, step.end)
    return sum(step.iterations for step in recent) / seconds if seconds > 0 else None
