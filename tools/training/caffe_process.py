"""A segment: one training by `caffe train`, or by the engine's `train`, which has the same command line. It continues
where a killed one stopped.

    SEGMENT/{train_val,deploy,solver}.prototxt
    SEGMENT/caffe.log
    SEGMENT/snapshots/iter_N.{caffemodel,solverstate}     complete ones only
    SEGMENT/scratch/                                      where Caffe writes its next snapshot
"""
import collections
import dataclasses
import errno
import glob
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import caffe

from common import files, machine, signals
from common.errors import LAST_WORDS, UserError
from common.experiment import ROOT
from common.machine import DEFAULT, Device
from prototxt import build
from tools.training import caffe_log, pretrained
from tools.training.progress import TrainingProgress

LOG = "caffe.log"
# What a process writes before it is whole.
SCRATCH = "scratch"
# A smoothed loss this many times that of the start is an explosion, not noise.
EXPLOSION = 1e4
# Lines of a stack trace, which help only with a debugger.
STACK = re.compile(r"\s*(@\s|\*\*\* Check failure)")
# Lines of the log that an error quotes where none of them is fatal.
QUOTED = 3


@dataclass(frozen=True)
class Engine:
    """What computes nets, and with how many threads."""

    # Threads of BLAS, and of PyTorch.
    threads: int
    device: Device = DEFAULT

    @property
    def gpu(self) -> Optional[str]:
        return self.device.gpu

    def with_threads(self, threads: int) -> "Engine":
        return dataclasses.replace(self, threads=threads)


def all_cores() -> Engine:
    """One thread for each core that this process may use, and the device of the command line. OPENBLAS_NUM_THREADS can
    lower the number: Snakemake sets it for jobs that run side by side."""
    cores, limit = len(os.sched_getaffinity(0)), os.environ.get("OPENBLAS_NUM_THREADS", "")
    return Engine(max(1, min(cores, int(limit))) if limit.isdigit() else cores, machine.device())


def environment(threads: int) -> dict[str, str]:
    """The environment variables of a training: it finds our layers, and writes its log to standard error."""
    # Behind ours: the PyTorch that `./fer setup --torch` has installed.
    paths = [ROOT, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", ROOT))]
    return dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads),
                PYTHONPATH=os.pathsep.join(paths), GLOG_logtostderr="1", GLOG_minloglevel="0")


def program(engine: Engine) -> list[str]:
    """The words of a command line that stand for `caffe`."""
    return ["caffe"] if engine.device.engine == machine.CAFFE else [sys.executable, "-m", "engine"]


@dataclass(frozen=True)
class Segment:
    """The folder of one training by `caffe train`."""

    folder: str

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def snapshots(self) -> list[int]:
        """Iterations of the complete snapshots, in rising order."""
        models = glob.glob(glob.escape(self.path("snapshots")) + "/iter_*.caffemodel")
        return sorted(int(os.path.basename(path)[len("iter_"):-len(".caffemodel")]) for path in models)

    def weights_of(self, iteration: int) -> str:
        """Path of the caffemodel of an iteration, whether it is there or not."""
        return self.path("snapshots", f"iter_{iteration}.caffemodel")

    def state_of(self, iteration: int) -> str:
        """Path of the solver's state at an iteration, whether it is there or not."""
        return self.path("snapshots", f"iter_{iteration}.solverstate")

    def remove_snapshot(self, iteration: int) -> None:
        files.remove(self.weights_of(iteration))
        files.remove(self.state_of(iteration))


def write_definitions(segment: Segment, texts: dict[str, str]) -> None:
    """Writes the definitions (file name -> text), and removes the log of a training that left no snapshot."""
    if not segment.snapshots():
        files.remove(segment.path(LOG))
    for name, text in texts.items():
        files.write_text(segment.path(name), text)


def snapshot_prefix(segment: Segment) -> str:
    """The prefix that the solver's definition must have."""
    return segment.path(SCRATCH, "snapshot")


def train(segment: Segment, weights: Optional[str], engine: Engine, title: str) -> str:
    """Trains what `write_definitions` wrote to its end and returns the caffemodel's path. A finished training is left
    as it is.

    weights: caffemodel that the training begins with; None for random weights.
    Raises UserError if Caffe fails or the loss explodes.
    """
    solver = _read(segment.path("solver.prototxt"), caffe.proto.caffe_pb2.SolverParameter())
    done = max(segment.snapshots(), default=0)
    ends = _process_ends(segment, solver, engine)
    files.remove(segment.path(SCRATCH))
    for name in (SCRATCH, "snapshots"):
        os.makedirs(segment.path(name), exist_ok=True)
    try:
        with TrainingProgress(title, solver.max_iter, done, _last_accuracy(segment, done)) as progress:
            for number, end in enumerate(ends):
                if done < end:
                    definition = (segment.path("solver.prototxt") if len(ends) == 1
                                  else _write_process_solver(segment, solver, number, end))
                    stop = _Stop(title, may_snapshot=len(ends) == 1)
                    with signals.handled(stop):
                        _caffe_train(segment, solver, definition, done, weights, engine, progress, stop)
                    if stop.number:
                        last = max(segment.snapshots(), default=0)
                        print(f"{title}: stopped, the last snapshot is of iteration {last} of {solver.max_iter}",
                              file=sys.stderr, flush=True)
                        raise signals.Interrupted(stop.number)
                    progress.reached(end)
                    done = end
    finally:
        files.remove(segment.path(SCRATCH))
    return segment.weights_of(solver.max_iter)


def _last_accuracy(segment: Segment, done: int) -> Optional[float]:
    """The last accuracy on the validation split up to iteration `done`; None if there is none."""
    path = segment.path(LOG)
    accuracies = caffe_log.curves(path).get("val accuracy", []) if done and os.path.exists(path) else []
    return next((value for iteration, value in reversed(accuracies) if iteration <= done), None)


def _read(path: str, message: Any) -> Any:
    with open(path, encoding="utf-8") as stream:
        return build.parse(stream.read(), message)


def _process_ends(segment: Segment, solver: Any, engine: Engine) -> list[int]:
    """Iterations at which a process of Caffe ends and the next one takes over. There is one process, except for a net
    with dropout: a snapshot does not hold the state of Caffe's random numbers, so each process trains from snapshot to
    snapshot with its own seed, whether the training was killed there or not. The engine's random numbers depend on the
    seed and the iteration only."""
    if engine.device.engine != machine.CAFFE:
        return [solver.max_iter]
    net = _read(segment.path("train_val.prototxt"), caffe.proto.caffe_pb2.NetParameter())
    random = any(layer.type == "Dropout" for layer in net.layer)
    inner = range(solver.snapshot, solver.max_iter, solver.snapshot) if random and solver.snapshot else []
    return [*inner, solver.max_iter]


def _write_process_solver(segment: Segment, solver: Any, number: int, end: int) -> str:
    """Writes the solver's definition for one process of several, see `_process_ends`, and returns its path."""
    changed = caffe.proto.caffe_pb2.SolverParameter()
    changed.CopyFrom(solver)
    changed.max_iter, changed.random_seed = end, solver.random_seed + number
    path = segment.path(SCRATCH, "solver.prototxt")
    files.write_text(path, build.text(changed))
    return path


class _Stop:
    """What a signal does to a training."""

    def __init__(self, title: str, may_snapshot: bool):
        """may_snapshot: whether Caffe writes a snapshot before it ends; not for a net with dropout, see
        `_process_ends`."""
        self._title, self._may_snapshot = title, may_snapshot
        self._process: Optional[subprocess.Popen] = None
        # The signal's number; None as long as there was none.
        self.number: Optional[int] = None

    def watch(self, process: subprocess.Popen) -> None:
        """From now on a signal ends this process; one that came before ends it now."""
        self._process = process
        if self.number:
            self._end(process)

    def __call__(self, number: int) -> None:
        again, self.number = self.number is not None, number
        if again:
            self._may_snapshot = False
        elif self._may_snapshot:
            signals.say(f"{self._title}: stops after this iteration, with a snapshot; once more stops it at once")
        if self._process:
            self._end(self._process)

    def _end(self, process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGINT if self._may_snapshot else signal.SIGKILL)


def _prepare_caffe() -> None:
    """Called in the child. Only this process ends it, also if a whole process group is sent SIGTERM. That it can, by
    SIGINT, holds also where this process ignores SIGINT itself: the engine would ignore it, too."""
    signals.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _caffe_train(segment: Segment, solver: Any, definition: str, done: int, weights: Optional[str], engine: Engine,
                 progress: TrainingProgress, stop: _Stop) -> None:
    command = [*program(engine), "train", "-solver", definition, "-sigint_effect", "stop"]
    if done:
        command += ["-snapshot", _resumable(segment, done)]
    elif weights:
        command += ["-weights", weights]
    if engine.gpu is not None:
        command += ["-gpu", engine.gpu]
    if engine.device.precision != machine.FLOAT32:
        command += ["-precision", engine.device.precision]
    process = subprocess.Popen(command, env=environment(engine.threads), cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_prepare_caffe,
                               encoding="utf-8", errors="replace")
    try:
        stop.watch(process)
        last_words = _follow(segment, solver, process, weights, progress)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(_not_whole(error.filename or segment.path(LOG))) from None
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0 and not stop.number:
        raise UserError(f"{segment.folder}: {_failure(segment, engine, process.returncode, last_words)}")


def _failure(segment: Segment, engine: Engine, status: int, last_words: Sequence[str]) -> str:
    name = "caffe" if engine.device.engine == machine.CAFFE else "engine"
    text = f"{name} train ended with status {status}: {' | '.join(last_words)}"
    if any("SerializeToOstream" in words for words in last_words):
        with open(segment.path(LOG), encoding="utf-8", errors="replace") as log:
            announced = caffe_log.SNAPSHOT.findall(log.read())
        return f"{_not_whole((announced or [segment.path('scratch')])[-1])}: {text}"
    if "not enough memory" in text:  # the engine gives the advice itself
        return text
    if status == -signal.SIGKILL or re.search("bad_alloc|MemoryError|host allocation|out of memory", text):
        return "there is not enough memory; a smaller solver.batch_size needs less: " + text
    return text


def _not_whole(path: str) -> str:
    disk = os.path.abspath(path)
    while not os.path.ismount(disk):
        disk = os.path.dirname(disk)
    return (f"{path}: could not be written completely; the disk mounted at {disk} has "
            f"{files.free_space(path) / 1e6:.1f} MB free")


def _resumable(segment: Segment, iteration: int) -> str:
    """Path of a copy of the solver's state that names the weights' present path: Caffe notes the one that they were
    written to."""
    state, source = caffe.proto.caffe_pb2.SolverState(), segment.state_of(iteration)
    try:
        pretrained.require_finite(segment.weights_of(iteration))
        pretrained.require_whole(source)
    except UserError as error:
        raise UserError(f"{error}; remove iter_{iteration}.caffemodel there, and the same command continues from the "
                        "snapshot before") from None
    with open(source, "rb") as stream:
        state.ParseFromString(stream.read())
    state.learned_net = segment.weights_of(iteration)
    path = segment.path(SCRATCH, "resume.solverstate")
    with open(path, "wb") as stream:
        stream.write(state.SerializeToString())
    return path


def _follow(segment: Segment, solver: Any, process: subprocess.Popen, weights: Optional[str],
            progress: TrainingProgress) -> list[str]:
    """Reads Caffe's log to its end, commits its snapshots, and returns its last words."""
    parser = caffe_log.Parser()
    fatal: list[str] = []
    recent: collections.deque[str] = collections.deque(maxlen=QUOTED)
    written: list[str] = []
    first = None
    assert process.stderr is not None
    with open(segment.path(LOG), "a", encoding="utf-8") as log:
        for line in process.stderr:
            log.write(line)
            log.flush()
            if not STACK.match(line):
                recent.append(line.strip())
            if LAST_WORDS.match(line):
                fatal.append(line.strip())
            if len(written) == 2:
                # Caffe announces a file before it writes it, so the next line says that both are complete.
                _commit(segment, solver, written, weights)
                written = []
            event = parser.parse(line)
            if isinstance(event, caffe_log.Snapshot):
                written.append(event.path)
            elif isinstance(event, caffe_log.Loss):
                first = event.value if first is None else first
                _require_sane(segment, event, first, weights)
                progress.loss(event.iteration, event.value)
            elif isinstance(event, caffe_log.Output) and (event.phase, event.name) == ("val", "accuracy"):
                progress.accuracy(event.value)
    process.wait()
    return fatal or list(recent)


def _commit(segment: Segment, solver: Any, written: Sequence[str], weights: Optional[str]) -> None:
    """Moves a snapshot to its place; the caffemodel comes last and makes it count. A snapshot that a signal left before
    is removed, so that the same ones stay as in an uninterrupted training. Raises UserError if the snapshot is not
    complete, or has weights that are not finite."""
    for path in written:
        try:
            pretrained.require_whole(path)
        except UserError:
            raise UserError(_not_whole(path)) from None
    committed = _iteration(written[0])
    layer = pretrained.not_finite(next(path for path in written if path.endswith(".caffemodel")))
    if layer is not None:
        raise UserError(f"{segment.folder}: layer {layer} has weights that are NaN or infinite at iteration "
                        f"{committed} (learning rate too high?); last good snapshot: {_last_good(segment, weights)}")
    for path in sorted(written, reverse=True):
        os.replace(path, segment.path("snapshots", f"iter_{_iteration(path)}{os.path.splitext(path)[1]}"))
    for iteration in segment.snapshots():
        if iteration < committed and (not solver.snapshot or iteration % solver.snapshot):
            segment.remove_snapshot(iteration)


def _iteration(path: str) -> int:
    """The iteration in a file name of Caffe's."""
    return int(os.path.splitext(path)[0].rpartition("_iter_")[2])


def _require_sane(segment: Segment, loss: caffe_log.Loss, first: float, weights: Optional[str]) -> None:
    if math.isfinite(loss.value) and abs(loss.value) <= EXPLOSION * max(1, abs(first)):
        return
    raise UserError(f"{segment.folder}: the loss is {loss.value:g} at iteration {loss.iteration} (learning rate too "
                    f"high?); last good snapshot: {_last_good(segment, weights)}")


def _last_good(segment: Segment, weights: Optional[str]) -> str:
    """Only finite weights are committed, and only such begin a training."""
    done = segment.snapshots()
    return segment.weights_of(done[-1]) if done else weights or "none"
