"""A segment of a run: one training of the real `caffe train`, which goes on where a killed one stopped.

    SEGMENT/{train_val,deploy,solver}.prototxt
    SEGMENT/caffe.log
    SEGMENT/snapshots/iter_N.{caffemodel,solverstate}     complete ones only
    SEGMENT/scratch/                                      where Caffe writes its next snapshot
"""
import collections
import errno
import glob
import math
import os
import re
import signal
import subprocess
import sys
from typing import NamedTuple, Optional

import caffe

from common import children, files, signals
from common.errors import UserError
from common.experiment import ROOT
from prototxt import build
from tools.training import caffe_log, pretrained
from tools.training.progress import TrainingProgress

# A smoothed loss this many times that of the start is an explosion, not noise.
EXPLOSION = 1e4
# Of a stack trace, which says nothing to who has no debugger.
STACK = re.compile(r"\s*(@\s|\*\*\* Check failure)")
# glog's fatal lines, and the errors of our own layers.
LAST_WORDS = re.compile(r"F\d{4} |layer \S+ \(\w+\): ")


class Engine(NamedTuple):
    """What Caffe computes with. threads: of BLAS; gpu: what follows `caffe train -gpu`, None for the processor."""

    threads: int
    gpu: Optional[str] = None


def all_cores(gpu: Optional[str] = None) -> Engine:
    """A thread for each core that this process may use; fewer where OPENBLAS_NUM_THREADS says so, as Snakemake does to
    jobs side by side."""
    cores, told = len(os.sched_getaffinity(0)), os.environ.get("OPENBLAS_NUM_THREADS", "")
    return Engine(max(1, min(cores, int(told))) if told.isdigit() else cores, gpu)


def environment(threads: int) -> dict[str, str]:
    """Of Caffe's own program: it finds our layers, and its log goes to standard error."""
    return dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), PYTHONPATH=ROOT, GLOG_logtostderr="1",
                GLOG_minloglevel="0")


class Segment(NamedTuple):
    folder: str

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def snapshots(self) -> list[int]:
        """Iterations of the complete snapshots, in rising order."""
        models = glob.glob(glob.escape(self.path("snapshots")) + "/iter_*.caffemodel")
        return sorted(int(re.search(r"iter_(\d+)\.", path).group(1)) for path in models)

    def weights_of(self, iteration: int) -> str:
        """Where the caffemodel of an iteration lies, or would lie."""
        return self.path("snapshots", f"iter_{iteration}.caffemodel")


def begin(segment: Segment, texts: dict[str, str]) -> None:
    """Writes the definitions (file name -> text); the log of a training that left nothing goes."""
    if not segment.snapshots():
        files.remove(segment.path("caffe.log"))
    for name, text in texts.items():
        files.write_text(segment.path(name), text)


def snapshot_prefix(segment: Segment) -> str:
    """As the solver's definition must have it."""
    return segment.path("scratch", "snapshot")


def train(segment: Segment, weights: Optional[str], engine: Engine, title: str) -> str:
    """Trains what `begin` wrote to its end and returns the caffemodel's path; done before, it does nothing.

    weights: caffemodel to begin with. Raises UserError where Caffe fails or the loss explodes.
    """
    solver = _read(segment.path("solver.prototxt"), caffe.proto.caffe_pb2.SolverParameter())
    done = max(segment.snapshots(), default=0)
    legs = _legs(segment, solver)
    files.remove(segment.path("scratch"))
    for name in ("scratch", "snapshots"):
        os.makedirs(segment.path(name), exist_ok=True)
    try:
        with TrainingProgress(title, solver.max_iter, done, _last_accuracy(segment, done)) as shown:
            for number, end in enumerate(legs):
                if done < end:
                    definition = (_leg(segment, solver, number, end) if len(legs) > 1
                                  else segment.path("solver.prototxt"))
                    stop = _Stop(title, may_snapshot=len(legs) == 1)
                    with signals.handled(stop):
                        _caffe_train(segment, solver, definition, done, weights, engine, shown, stop)
                    if stop.number:
                        kept = max(segment.snapshots(), default=0)
                        print(f"{title}: stopped, iteration {kept} of {solver.max_iter} is kept",
                              file=sys.stderr, flush=True)
                        raise signals.Interrupted(stop.number)
                    shown.reached(end)
                    done = end
    finally:
        files.remove(segment.path("scratch"))
    return segment.weights_of(solver.max_iter)


def _last_accuracy(segment: Segment, done: int) -> Optional[float]:
    """On the validation part, in what an earlier call has trained."""
    path = segment.path("caffe.log")
    known = caffe_log.curves(path).get("val accuracy", []) if done and os.path.exists(path) else []
    return next((value for iteration, value in reversed(known) if iteration <= done), None)


def _read(path: str, message):
    with open(path, encoding="utf-8") as stream:
        return build.parse(stream.read(), message)


def _legs(segment: Segment, solver) -> list[int]:
    """Iterations at which Caffe ends, the next leg being another process. One leg, but for a net with dropout:
    a snapshot does not hold the state of Caffe's random numbers, so each leg from snapshot to snapshot begins with
    a seed of its own, whether the training was killed there or not."""
    net = _read(segment.path("train_val.prototxt"), caffe.proto.caffe_pb2.NetParameter())
    random = any(layer.type == "Dropout" for layer in net.layer)
    inner = range(solver.snapshot, solver.max_iter, solver.snapshot) if random and solver.snapshot else []
    return [*inner, solver.max_iter]


def _leg(segment: Segment, solver, number: int, end: int) -> str:
    leg = caffe.proto.caffe_pb2.SolverParameter()
    leg.CopyFrom(solver)
    leg.max_iter, leg.random_seed = end, solver.random_seed + number
    path = segment.path("scratch", "solver.prototxt")
    files.write_text(path, build.text(leg))
    return path


class _Stop:
    """What a signal does to a training. number: of the signal, None as long as there was none.

    may_snapshot: whether Caffe writes a snapshot before it ends. A leg with dropout does not: see `_legs`.
    """

    def __init__(self, title: str, may_snapshot: bool):
        self._title, self._may_snapshot = title, may_snapshot
        self._process: Optional[subprocess.Popen] = None
        self.number: Optional[int] = None

    def of(self, process: subprocess.Popen) -> None:
        self._process = process
        if self.number:
            self._end()

    def __call__(self, number: int) -> None:
        again, self.number = self.number is not None, number
        if again:
            self._may_snapshot = False
        elif self._may_snapshot:
            signals.say(f"{self._title}: stops after this iteration, with a snapshot; once more stops it at once")
        if self._process:
            self._end()

    def _end(self) -> None:
        self._process.send_signal(signal.SIGINT if self._may_snapshot else signal.SIGKILL)


def _prepare_caffe() -> None:
    """In the child: it is ended by this process alone, also where a whole group of processes is sent SIGTERM."""
    children.die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _caffe_train(segment: Segment, solver, definition: str, done: int, weights: Optional[str], engine: Engine,
                 shown: TrainingProgress, stop: _Stop) -> None:
    command = ["caffe", "train", "-solver", definition, "-sigint_effect", "stop"]
    if done:
        command += ["-snapshot", _resumable(segment, done)]
    elif weights:
        command += ["-weights", weights]
    if engine.gpu is not None:
        command += ["-gpu", engine.gpu]
    process = subprocess.Popen(command, env=environment(engine.threads), cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_prepare_caffe,
                               encoding="utf-8", errors="replace")
    try:
        stop.of(process)
        last_words = _follow(segment, solver, process, weights, shown)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(_not_whole(error.filename or segment.path("caffe.log"))) from None
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0 and not stop.number:
        raise UserError(f"{segment.folder}: {_failure(segment, process.returncode, last_words)}")


def _failure(segment: Segment, status: int, last_words: list[str]) -> str:
    said = "caffe train ended with status {}: {}".format(status, " | ".join(last_words))
    if any("SerializeToOstream" in words for words in last_words):
        with open(segment.path("caffe.log"), encoding="utf-8", errors="replace") as log:
            announced = caffe_log.SNAPSHOT.findall(log.read())
        return "{}: {}".format(_not_whole((announced or [segment.path("scratch")])[-1]), said)
    if status == -signal.SIGKILL or re.search("bad_alloc|MemoryError|host allocation|out of memory", said):
        return "the memory did not suffice; a smaller solver.batch_size needs less: " + said
    return said


def _not_whole(path: str) -> str:
    disk = os.path.abspath(path)
    while not os.path.ismount(disk):
        disk = os.path.dirname(disk)
    return (f"{path}: could not be written whole; the disk mounted at {disk} has "
            f"{files.free_space(path) / 1e6:.1f} MB free")


def _resumable(segment: Segment, iteration: int) -> str:
    """The solver state, with the weights' present path: Caffe notes the one they were written to."""
    state, source = caffe.proto.caffe_pb2.SolverState(), segment.path("snapshots", f"iter_{iteration}.solverstate")
    try:
        pretrained.require_finite(segment.weights_of(iteration))
        pretrained.require_whole(source)
    except UserError as error:
        raise UserError(f"{error}; without iter_{iteration}.caffemodel there, the same command goes on from the "
                        "snapshot before"
                        ) from None
    with open(source, "rb") as stream:
        state.ParseFromString(stream.read())
    state.learned_net = segment.weights_of(iteration)
    path = segment.path("scratch", "resume.solverstate")
    with open(path, "wb") as stream:
        stream.write(state.SerializeToString())
    return path


def _follow(segment: Segment, solver, process: subprocess.Popen, weights: Optional[str], shown: TrainingProgress
            ) -> list[str]:
    """Reads Caffe's log to its end, commits its snapshots, and returns its last words."""
    parser = caffe_log.Parser()
    fatal, recent, written = [], collections.deque(maxlen=3), []
    first = None
    with open(segment.path("caffe.log"), "a", encoding="utf-8") as log:
        for line in process.stderr:
            log.write(line)
            log.flush()
            if not STACK.match(line):
                recent.append(line.strip())
            if LAST_WORDS.match(line):
                fatal.append(line.strip())
            if len(written) == 2:
                # Caffe writes a file after it has announced it, so the next line says that both are whole.
                _commit(segment, solver, written, weights)
                written = []
            event = parser.parse(line)
            if isinstance(event, caffe_log.Snapshot):
                written.append(event.path)
            elif isinstance(event, caffe_log.Loss):
                first = event.value if first is None else first
                _require_sane(segment, event, first, weights)
                shown.loss(event.iteration, event.value)
            elif isinstance(event, caffe_log.Output) and (event.phase, event.name) == ("val", "accuracy"):
                shown.accuracy(event.value)
    process.wait()
    return fatal or list(recent)


def _commit(segment: Segment, solver, written: list[str], weights: Optional[str]) -> None:
    """Moves a snapshot to its place; the caffemodel comes last and makes it count. What a signal left before goes: all
    that is kept is what an uninterrupted training keeps. Raises UserError where it is not whole, or has weights that
    are not finite."""
    for path in written:
        try:
            pretrained.require_whole(path)
        except UserError:
            raise UserError(_not_whole(path)) from None
    layer = pretrained.not_finite(next(path for path in written if path.endswith(".caffemodel")))
    if layer is not None:
        raise UserError(f"{segment.folder}: layer {layer} has weights that are NaN or infinite at iteration "
                        f"{_iteration(written[0])} (learning rate too high?); "
                        f"last good snapshot: {_last_good(segment, weights)}")
    for path in sorted(written, reverse=True):
        os.replace(path, segment.path("snapshots", f"iter_{_iteration(path)}{os.path.splitext(path)[1]}"))
    for iteration in segment.snapshots():
        if iteration < _iteration(written[0]) and (not solver.snapshot or iteration % solver.snapshot):
            files.remove(segment.weights_of(iteration))
            files.remove(segment.path("snapshots", f"iter_{iteration}.solverstate"))


def _iteration(path: str) -> int:
    """Of a file as Caffe names it."""
    return int(re.search(r"_iter_(\d+)\.(caffemodel|solverstate)$", path).group(1))


def _require_sane(segment: Segment, loss: caffe_log.Loss, first: float, weights: Optional[str]) -> None:
    if math.isfinite(loss.value) and abs(loss.value) <= EXPLOSION * max(1, abs(first)):
        return
    raise UserError(f"{segment.folder}: the loss is {loss.value:g} at iteration {loss.iteration} (learning rate too "
                    f"high?); last good snapshot: {_last_good(segment, weights)}")


def _last_good(segment: Segment, weights: Optional[str]) -> str:
    """Only finite ones are committed, and begun with."""
    done = segment.snapshots()
    return segment.weights_of(done[-1]) if done else weights or "none"


# ---------------------------------------------------------------- runs of many segments

CHAIN = "chain.json"


class Link(NamedTuple):
    """A segment whose result a run has taken over. start, end: iterations of the run."""

    segment: Segment
    start: int
    end: int


def chain(run: Segment) -> list[Link]:
    """The segments that a run has taken over, in their order; a run of one training is its own only segment."""
    path = run.path(CHAIN)
    if not os.path.exists(path):
        return [Link(run, 0, max(run.snapshots(), default=0))]
    done = run.snapshots()
    return [Link(Segment(run.path(folder)), start, end) for folder, start, end in files.read_json(path) if end in done]


def adopt(run: Segment, link: Link) -> None:
    """Moves a segment's trained weights into the run's snapshots, which is what makes the segment count; its other
    snapshots go."""
    links = chain(run) if os.path.exists(run.path(CHAIN)) else []
    files.write_json(run.path(CHAIN), [(os.path.relpath(one.segment.folder, run.folder), one.start, one.end)
                                       for one in links + [link]])
    os.makedirs(run.path("snapshots"), exist_ok=True)
    os.replace(link.segment.weights_of(link.end - link.start), run.weights_of(link.end))
    files.remove(link.segment.path("snapshots"))
