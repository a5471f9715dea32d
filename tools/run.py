"""A run's folder, and training in it with the real `caffe train`.

    RUN/run.json                          what is run, and with what
    RUN/{train_val,deploy,solver}.prototxt
    RUN/caffe.log
    RUN/snapshots/iter_N.{caffemodel,solverstate}     complete ones only
    RUN/scratch/                          where Caffe writes its next snapshot
"""
import collections
import contextlib
import ctypes
import fcntl
import glob
import json
import math
import os
import re
import subprocess
from typing import Dict, List, NamedTuple, Optional

import caffe
import numpy as np

from data_prep import children, files, lmdb_io, prepare, progress
from data_prep.errors import UserError
from prototxt import backbones, build, parts, xie
from prototxt.experiment import ROOT, Experiment
from tools import caffe_log, pretrained

# A smoothed loss this many times that of the start is an explosion, not noise.
EXPLOSION = 1e4
# glog's fatal lines, and the errors of our own layers.
# Of a stack trace, which says nothing to who has no debugger.
STACK = re.compile(r"\s*(@\s|\*\*\* Check failure)")
INITIAL = "initial.caffemodel"
LAST_WORDS = re.compile(r"F\d{4} |layer \S+ \(\w+\): ")


class Run(NamedTuple):
    folder: str

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    @property
    def info(self) -> Dict:
        if not os.path.exists(self.path("run.json")):
            raise UserError("{}: no run here; `./fer train EXPERIMENT --data DIR --out {}` makes one".format(
                self.folder, self.folder))
        return files.read_json(self.path("run.json"))

    def threads(self, otherwise: int) -> int:
        """What the run was begun with: another number would give other bytes."""
        return self.info["threads"] if os.path.exists(self.path("run.json")) else otherwise

    def snapshots(self) -> List[int]:
        """Iterations of the complete snapshots, in rising order."""
        states = glob.glob(glob.escape(self.path("snapshots")) + "/iter_*.solverstate")
        return sorted(int(re.search(r"iter_(\d+)\.", path).group(1)) for path in states)

    def caffemodel(self, iteration: Optional[int] = None) -> str:
        """Weights of an iteration, by default the last. Raises UserError where training is not complete."""
        if iteration is None:
            iteration = self.info["experiment"]["solver"]["max_iter"]
        if iteration not in self.snapshots():
            raise UserError("{}: no snapshot of iteration {}; it has {}. `./fer train` goes on with it".format(
                self.folder, iteration, ", ".join(map(str, self.snapshots())) or "none"))
        return self.path("snapshots", "iter_{}.caffemodel".format(iteration))


def train(experiment: Experiment, data_folder: str, folder: str, weights: Optional[str], threads: int) -> Run:
    """Trains, or goes on where an earlier call stopped; the result is byte for byte the same.

    weights: caffemodel to begin with; what is state of the run that it comes from is left out.
    threads: of BLAS.
    Raises UserError where the folder holds another run, the data do not fit, or training fails.
    """
    run = Run(os.path.abspath(folder))
    data_folder = os.path.abspath(data_folder)
    note = prepare.read_note(data_folder)
    texts = _definitions(experiment, data_folder, note, run)
    info = {"experiment": experiment._asdict(), "data": data_folder, "manifest": note["manifest"],
            "weights": weights and files.digest(weights), "threads": threads, "versions": versions()}
    existed = os.path.exists(run.folder)
    with _locked(run):
        _begin(run, info, texts)
        if weights and not run.snapshots():
            try:
                print(pretrained.write_fitting(weights, run.path("deploy.prototxt"), run.path(INITIAL)))
            except UserError:
                if not existed:
                    files.remove(run.folder)
                raise
        _train(run, experiment.solver["max_iter"], bool(weights), threads)
    return run


def _definitions(experiment: Experiment, data_folder: str, note: Dict, run: Run) -> Dict[str, str]:
    shape = backbones.BACKBONES[experiment.net].shape
    if tuple(note["shape"]) != shape:
        raise UserError("{}: the images are {}, but the net {} takes {}".format(
            data_folder, "x".join(map(str, note["shape"])), experiment.net, "x".join(map(str, shape))))
    for loss in experiment.losses:
        if loss in xie.FEATURES and loss not in note["features"]:
            raise UserError("{}: has no {} features, which {} needs; it has {}".format(
                data_folder, loss, experiment.name, ", ".join(note["features"]) or "none"))
    if "val" not in note["records"]:
        raise UserError("{}: has no validation part; `./fer prepare ... --hold-out 0.1` makes one of the training "
                        "part".format(data_folder))
    for split in ("train", "val"):
        for name in os.listdir(os.path.join(data_folder, split)):
            if os.path.isdir(os.path.join(data_folder, split, name)):
                lmdb_io.Reader(os.path.join(data_folder, split, name)).close()
    return build.definitions(experiment, parts.prepared(data_folder, note), run.folder, run.path("scratch", "snapshot"))


def versions() -> Dict[str, str]:
    """Of what the result's bytes depend on."""
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_get_corename.restype = ctypes.c_char_p
    return {"caffe": caffe.__version__, "blas": "OpenBLAS " + blas.openblas_get_corename().decode(),
            "numpy": np.__version__}


@contextlib.contextmanager
def _locked(run: Run):
    if os.path.isdir(run.folder) and os.listdir(run.folder) and not os.path.exists(run.path(".lock")):
        raise UserError("{}: is there already and is no run; give another --out".format(run.folder))
    os.makedirs(run.folder, exist_ok=True)
    with open(run.path(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError("{}: another training is at work in this folder".format(run.folder)) from None
        yield


def _begin(run: Run, info: Dict, texts: Dict[str, str]) -> None:
    # Without a snapshot nothing is lost by beginning anew with other settings.
    if not run.snapshots():
        files.remove(run.path("caffe.log"))
    elif os.path.exists(run.path("run.json")):
        known = run.info
        for key, value in json.loads(json.dumps(info)).items():
            if known.get(key) != value:
                raise UserError("{}: belongs to another run, whose {} was {}, not {}; give another --out".format(
                    run.folder, key, *_difference(known.get(key), value)))
    for name, text in texts.items():
        files.write_text(run.path(name), text)
    files.write_json(run.path("run.json"), info)
    os.makedirs(run.path("snapshots"), exist_ok=True)
    files.remove(run.path("scratch"))
    os.makedirs(run.path("scratch"))


def _difference(one, other):
    """Both, without what they agree on."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    pairs = {key: _difference(one.get(key), other.get(key)) for key in {**one, **other}
             if one.get(key) != other.get(key)}
    return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}


def _train(run: Run, max_iter: int, with_weights: bool, threads: int) -> None:
    done = max(run.snapshots(), default=0)
    if done == max_iter:
        return
    command = ["caffe", "train", "-solver", run.path("solver.prototxt")]
    if done:
        command += ["-snapshot", _resumable(run, done)]
    elif with_weights:
        command += ["-weights", run.path(INITIAL)]
    environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), PYTHONPATH=ROOT, GLOG_logtostderr="1",
                       GLOG_minloglevel="0")
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True, preexec_fn=children.die_with_parent,
                               encoding="utf-8", errors="replace")
    try:
        last_words = _follow(run, process, done, max_iter)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise UserError("{}: caffe train ended with status {}: {}".format(
            run.folder, process.returncode, " | ".join(last_words)))
    files.remove(run.path("scratch"))


def _resumable(run: Run, iteration: int) -> str:
    """The solver state, with the weights' present path: Caffe notes the one they were written to."""
    state = caffe.proto.caffe_pb2.SolverState()
    with open(run.path("snapshots", "iter_{}.solverstate".format(iteration)), "rb") as stream:
        state.ParseFromString(stream.read())
    state.learned_net = run.caffemodel(iteration)
    path = run.path("scratch", "resume.solverstate")
    with open(path, "wb") as stream:
        stream.write(state.SerializeToString())
    return path


def _follow(run: Run, process: subprocess.Popen, done: int, max_iter: int) -> List[str]:
    """Reads Caffe's log to its end, commits its snapshots, and returns its last words."""
    parser = caffe_log.Parser()
    fatal, recent, written = [], collections.deque(maxlen=3), []
    first = None
    name = os.path.basename(run.folder)
    with open(run.path("caffe.log"), "a", encoding="utf-8") as log, \
            progress.bar(name, max_iter, done) as bar:
        for line in process.stderr:
            log.write(line)
            log.flush()
            if not STACK.match(line):
                recent.append(line.strip())
            if LAST_WORDS.match(line):
                fatal.append(line.strip())
            if len(written) == 2:
                # Caffe writes a file after it has announced it, so the next line says that both are whole.
                _commit(run, written)
                written = []
            event = parser.parse(line)
            if isinstance(event, caffe_log.Snapshot):
                written.append(event.path)
            elif isinstance(event, caffe_log.Loss):
                first = event.value if first is None else first
                _require_sane(run, event, first)
                bar.update(event.iteration - bar.n)
                bar.set_postfix_str("loss {:.4g}".format(event.value))
        bar.update(max_iter - bar.n if process.wait() == 0 else 0)
    return fatal or list(recent)


def _commit(run: Run, written: List[str]) -> None:
    """Moves a snapshot to its place; the solver state comes last and makes it count."""
    for path in sorted(written):
        iteration, kind = re.search(r"_iter_(\d+)\.(caffemodel|solverstate)$", path).groups()
        os.replace(path, run.path("snapshots", "iter_{}.{}".format(iteration, kind)))


def _require_sane(run: Run, loss: caffe_log.Loss, first: float) -> None:
    if math.isfinite(loss.value) and abs(loss.value) <= EXPLOSION * max(1, abs(first)):
        return
    snapshots = [run.caffemodel(iteration) for iteration in reversed(run.snapshots())]
    raise UserError("{}: the loss is {:g} at iteration {} (learning rate too high?); last good snapshot: {}".format(
        run.folder, loss.value, loss.iteration, next(filter(pretrained.is_finite, snapshots), "none")))
