"""`caffe` and `python3 -m engine` as processes, on the same small nets and data."""
import os
import re
import signal
import subprocess
import sys
import threading

import h5py
import numpy as np

PROGRAMS = {"caffe": ["caffe"], "engine": [sys.executable, "-m", "engine"]}
# As `python3 -m engine -gpu 0,1` does, but on the processor.
RANKS = """
import sys
from common.errors import UserError
from engine import launcher
try:
    launcher.run(sys.argv[2:], int(sys.argv[1]))
except UserError as error:
    launcher.last_words(str(error))
    sys.exit(1)
"""
SEVERAL = {f"{size} ranks": [sys.executable, "-c", RANKS, str(size)] for size in (2, 3)}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# A line of glog: its place and its text.
LINE = re.compile(r"[IF]\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{5,} (\S+)\] (.*)")
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?|-?nan|-?inf")

# No blob has two readers in the training net, so Caffe adds no Split layers there.
NET = """
name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "%(folder)s/list.txt" batch_size: 8 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 2 }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" include { phase: TEST stage: "prob" } }
"""
SOLVER = """
net: "%(folder)s/net.prototxt" base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 lr_policy: "multistep" gamma: 0.5
stepvalue: 4 max_iter: 10 display: 2 average_loss: 3 test_iter: 2 test_interval: 5 snapshot: 6 snapshot_prefix: "snap"
random_seed: 3 solver_mode: CPU
"""
# One that trains until it is stopped.
ENDLESS = """
base_lr: 0.1 lr_policy: "fixed" max_iter: 100000000 display: 1 snapshot_prefix: "snap" solver_mode: CPU net_param {
layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 9 dim: 9 } } }
layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 9 } }
layer { name: "r" type: "Reduction" bottom: "f" top: "r" loss_weight: 1 } }
"""


def write(folder, net=NET, solver=SOLVER):
    """Writes net, solver and data: 40 images of 3x6x6 with labels of 4 classes."""
    random = np.random.RandomState(0)
    with h5py.File(str(folder / "data.h5"), "w") as stream:
        stream["data"] = random.standard_normal((40, 3, 6, 6)).astype(np.float32)
        stream["label"] = random.randint(0, 4, 40).astype(np.float32)
    (folder / "list.txt").write_text(f"{folder}/data.h5\n")
    for name, text in (("net", net), ("solver", solver)):
        (folder / f"{name}.prototxt").write_text(text.replace("%(folder)s", str(folder)))


def _heed_signals():
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def start(program, folder, *words, **options):
    """Starts a program in a folder. It writes its log to standard error. The launcher, in which the tests run, ignores
    SIGHUP, and a shell that runs them in the background SIGINT; a program that ignores a signal goes on doing so."""
    path = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = dict(os.environ, GLOG_logtostderr="1", GLOG_minloglevel="0", PYTHONPATH=path)
    return subprocess.Popen(dict(PROGRAMS, **SEVERAL)[program] + list(words), cwd=str(folder), env=variables,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                            preexec_fn=_heed_signals, **options)


def run(program, folder, *words, **options):
    """Runs a program to its end. Returns its status, output and log."""
    process = start(program, folder, *words, **options)
    out, log = process.communicate(timeout=120)
    return process.returncode, out, log


class Watched:
    """A training without an end, or another one, whose log is read. texts: as `write` takes them."""

    def __init__(self, program, folder, *flags, solver=ENDLESS, **texts):
        write(folder, solver=solver, **texts)
        self.process = start(program, folder, "train", "-solver", "solver.prototxt", *flags)
        self.log = ""
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.log += line
                self.changed.notify_all()

    def wait_for(self, pattern):
        with self.changed:
            assert self.changed.wait_for(lambda: re.search(pattern, self.log), 60), self.log[-2000:]

    def goes_on(self):
        last = int(re.findall(r"Iteration (\d+)", self.log)[-1])
        self.wait_for(rf"Iteration {last + 3} ")


def lines(log, after="", place=""):
    """The lines of a log as (place, text, with # for numbers; the numbers). after: only those behind the line that
    contains this; place: only those whose place begins with this. Speeds are left out."""
    found, seen = [], not after
    for line in log.splitlines():
        match = LINE.fullmatch(line)
        if match and seen and match.group(1).startswith(place):
            text = re.sub(r" \(\S+ iter/s, \S+s/2 iters\)", "", match.group(2))
            found.append((match.group(1), NUMBER.sub("#", text), [float(number) for number in NUMBER.findall(text)]))
        seen = seen or after in line
    return found


def assert_alike(ours, theirs, tolerance=2e-4):
    """The same lines, with numbers that agree within the tolerance, or to the last digit that is printed."""
    assert [line[:2] for line in ours] == [line[:2] for line in theirs]
    for (_, text, found), (_, _, expected) in zip(ours, theirs):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-6, err_msg=text)
