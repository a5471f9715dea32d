"""The state of a run, or of a group of runs, read from its folder while a training is at work there, or not."""
import calendar
import collections
import glob
import os
import re
import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

from common import locks
from tools.training import caffe_log, chain
from tools.training.caffe_process import Segment
from tools.training.chain import Span
from tools.training.run import LOCK, Run
from tools.training.schedules import adaptive_weights

# Seconds at the end of the logs over which the rate is taken.
RECENT = 1800
CLOCK = re.compile(r"I(\d\d)(\d\d) (\d\d):(\d\d):(\d\d\.\d+)")
# The first line of a process that trains: what it shows does not follow on from what stands before.
BEGINS = "Starting Optimization"


class Step(NamedTuple):
    """From one iteration shown to the next: seconds of the epoch, and how many iterations."""

    start: float
    end: float
    iterations: int


class Log:
    """A segment's caffe.log. `read` takes what was added since; a log that began anew is read anew."""

    def __init__(self, path: str):
        self.path = path
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.iteration, self.loss = 0, None
        self.accuracies: dict[int, float] = {}
        self.steps: collections.deque[Step] = collections.deque()
        self._parser, self._offset, self._file, self._shown = caffe_log.Parser(), 0, None, None

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
            self._shown = None
        event = self._parser.parse(line)
        if isinstance(event, caffe_log.Loss):
            moment = _moment(line, written)
            if self._shown and event.iteration > self._shown[0] and moment:
                self.steps.append(Step(self._shown[1], moment, event.iteration - self._shown[0]))
                while self.steps[0].end < moment - RECENT:
                    self.steps.popleft()
            self.iteration, self.loss = event.iteration, event.value
            self._shown = (event.iteration, moment) if moment else None
        elif isinstance(event, caffe_log.Output) and (event.phase, event.name) == ("val", "accuracy"):
            self.accuracies[event.iteration] = event.value


def _moment(line: str, written: float) -> Optional[float]:
    """Seconds of the epoch at which a line was logged. glog gives no year: it is that in which the file was last
    written, or the one before."""
    found = CLOCK.match(line)
    if not found:
        return None
    month, day, hour, minute = map(int, found.groups()[:4])
    now = time.localtime(written)
    year = now.tm_year - (month > now.tm_mon)
    # The local time counted as if it were UTC: only differences matter.
    return calendar.timegm((year, month, day, hour, minute, 0)) + float(found.group(5))


class State(NamedTuple):
    """stage: of several trainings the one that is at work, else ""; iteration, total: of the run; loss: the last one
    shown, None before; accuracy, best: (iteration, value) on the validation part; done, work: iterations of all
    trainings that the run consists of; rate: of them a second, None where not known; goes_on_from: the snapshot with
    which a stopped training goes on."""

    stage: str
    iteration: int
    total: int
    loss: Optional[float]
    accuracy: Optional[tuple]
    best: Optional[tuple]
    done: int
    work: int
    rate: Optional[float]
    working: bool
    finished: bool
    goes_on_from: int


class Watch:
    """Of one run; `state` reads on where the last call ended."""

    def __init__(self, run: Run):
        self.run = run
        self._logs: dict[str, Log] = {}

    def state(self) -> Optional[State]:
        """None where the run has not begun."""
        if not self.run.has_begun:
            return None
        working, info, experiment = is_working(self.run), self.run.info, self.run.experiment
        many = bool(experiment.weighting or experiment.pacing or experiment.halving)
        links = chain.adopted(self.run)
        start = links[-1].end if links else 0
        active = _active(self.run, links) if many else [self.run]
        known = [(span.start, self._log(span.segment)) for span in links] + [
            (start, self._log(segment)) for segment in active]
        accuracies = {begin + at: value for begin, log in known for at, value in log.accuracies.items()}
        shown = [log for _, log in known if log.loss is not None]
        total = info["iterations"]
        finished = total in self.run.snapshots()
        # Trials beside each round's training are work, but no iterations of the run.
        trainings = 3 if experiment.weighting and experiment.head["structure"] != "branched" else 1
        going = [(segment, self._log(segment)) for segment in active]
        own = [log.iteration for segment, log in going if trainings == 1 or os.path.basename(
            segment.folder) == "training"]
        saved = [max(segment.snapshots(), default=0) for segment, _ in going[-1:]]
        return State(
            "" if finished else _stage(self.run, experiment, going, len(links)),
            total if finished else min(total, start + max(own, default=0)), total,
            shown[-1].loss if shown else None,
            max(accuracies.items(), default=None),
            max(accuracies.items(), key=lambda one: (one[1], -one[0]), default=None),
            total * trainings if finished else start * trainings + sum(log.iteration for _, log in going),
            total * trainings, _rate([step for _, log in known for step in log.steps]), working, finished,
            start + (saved[0] if saved and trainings == 1 else 0))

    def _log(self, segment: Segment) -> Log:
        path = segment.path("caffe.log")
        log = self._logs.setdefault(path, Log(path))
        log.read()
        return log


def is_working(run: Run) -> bool:
    """Whether a training holds the run's lock."""
    return locks.is_held(run.path(LOCK))


def _active(run: Run, links: Sequence[Span]) -> list[Segment]:
    """The segments that the run has not taken over yet: of adaptive weights those of the round that is due."""
    taken = {os.path.realpath(span.segment.folder) for span in links}
    patterns = f"rounds/{len(links) + 1:02d}/*", "paces/*", "rates/*"
    found = [folder for pattern in patterns for folder in sorted(glob.glob(os.path.join(
        glob.escape(run.folder), pattern))) if os.path.exists(os.path.join(folder, "caffe.log"))]
    return [Segment(folder) for folder in found if os.path.realpath(folder) not in taken]


def _stage(run: Run, experiment, going, taken: int) -> str:
    parts = [f"{os.path.basename(segment.folder)} {log.iteration}" for segment, log in going]
    if experiment.weighting:
        return "round {}/{}{}".format(len(adaptive_weights.history(run)) + 1, experiment.weighting["rounds"],
                                      " ({})".format(", ".join(parts)) if parts else "")
    if experiment.pacing:
        return "pace {}/{}".format(taken + 1, experiment.pacing["paces"])
    if experiment.halving:
        return "learning rate {:g}".format(experiment.solver["base_lr"] / 2 ** taken)
    return ""


def _rate(steps: Sequence[Step]) -> Optional[float]:
    """Iterations a second of the last steps, of trainings side by side together: what they made, by the time in which
    at least one was at work."""
    newest = max((step.end for step in steps), default=0)
    recent = sorted(step for step in steps if step.end >= newest - RECENT)
    seconds, until = 0.0, float("-inf")
    for start, end, _ in recent:
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return sum(step.iterations for step in recent) / seconds if seconds > 0 else None
