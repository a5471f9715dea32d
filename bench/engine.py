"""The engine on PyTorch, compared with Caffe: the same prototxts, data and layers, trained in turns.

Reading of data and Python layers are included; validation, snapshots and the start of the program are not.
"""
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import caffe

from bench import drawn
from bench.layers import NETS, SUBJECTS
from common import experiment, files
from common.experiment import ROOT
from data_prep import prepared_folder
from prototxt import build
from prototxt.builders import parts
from tools.training import caffe_process

# Net of the benchmark "layers" -> batch size, and the iterations that are timed with one thread.
TIMED = {"toy": (64, 60), "face ResNet": (16, 4), "inception": (12, 12), "ResNet-18": (16, 5)}
# Iterations that are not timed: the first ones allocate memory.
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Speed:
    """Of one training."""

    # Iterations per second.
    rate: float
    # The most memory that the process had, bytes.
    memory: int


def measure(options) -> Iterator[dict]:
    for name in ["toy"] if options.quick else TIMED:
        batch, iterations = TIMED[name]
        if options.quick:
            iterations = 2
        net = NETS[name]
        data = drawn.prepared(options.data, SUBJECTS, net.crops, net.features, options.cores)
        for threads in sorted({1, options.cores}):
            solver = write(net.experiment, batch, WARM_UP + iterations * threads, data,
                           os.path.join(options.scratch, f"{name}-{threads}"))
            yield dict({"net": name, "batch": batch, "threads": threads},
                       **compared(solver, threads, 1 if options.quick else 3))


def write(name: str, batch: int, iterations: int, data_folder: str, folder: str, changes: Sequence[str] = ()) -> str:
    """Writes the definitions of an experiment for a training without validation and snapshots that shows each
    iteration, and returns the path of the solver's."""
    settings = experiment.load(name, [f"solver.batch_size={batch}", *changes])
    data = parts.prepared(os.path.abspath(data_folder), prepared_folder.read_note(data_folder))
    folder = os.path.abspath(folder)
    os.makedirs(folder)
    texts = build.definitions(settings.one_training(), data, folder, os.path.join(folder, "snapshot"))
    solver = build.parse(texts["solver.prototxt"], caffe.proto.caffe_pb2.SolverParameter())
    for field in ("test_iter", "test_interval", "snapshot"):
        solver.ClearField(field)
    solver.max_iter, solver.display, solver.snapshot_after_train = iterations, 1, False
    files.write_text(os.path.join(folder, "train_val.prototxt"), texts["train_val.prototxt"])
    path = os.path.join(folder, "solver.prototxt")
    files.write_text(path, build.text(solver))
    return path


def compared(solver: str, threads: int, repeats: int) -> dict:
    """The median speeds of Caffe and of the engine, the median of their ratios over the turns, the peak memory."""
    commands = {"Caffe": ["caffe"], "engine": [sys.executable, "-m", "engine"]}
    turns: dict[str, list[Speed]] = {which: [] for which in commands}
    for _ in range(repeats):
        for which, command in commands.items():
            turns[which].append(speed([*command, "train", "-solver", solver], threads))
    row: dict = {}
    for which, speeds in turns.items():
        row[f"{which} iterations/s"] = statistics.median(one.rate for one in speeds)
        row[f"{which} MB"] = round(max(one.memory for one in speeds) / 1e6)
    row["times Caffe"] = statistics.median(
        engine.rate / caffe.rate for caffe, engine in zip(turns["Caffe"], turns["engine"]))
    return row


def speed(command: Sequence[str], threads: int) -> Speed:
    """Trains, and times the iterations by the lines of the log. Raises RuntimeError if the training fails."""
    environment = dict(caffe_process.environment(threads), OMP_NUM_THREADS=str(threads))
    times, lines = [], []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, encoding="utf-8", cwd=ROOT,
                               env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if "Iteration" in line and "loss =" in line:
            times.append(time.perf_counter())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise RuntimeError(f"{' '.join(command)}: {''.join(lines)[-2000:]}")
    timed = times[WARM_UP:]
    return Speed((len(timed) - 1) / (timed[-1] - timed[0]), usage.ru_maxrss * 1024)
