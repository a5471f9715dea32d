"""Estimates of the time, disk space and memory that jobs take, from a few steps of their nets."""
import ctypes
import functools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import caffe
import numpy as np

from common import children, files, machine, progress
from common.experiment import Experiment
from data_prep import prepared_folder
from prototxt import build, nets
from prototxt.builders import parts
from prototxt.builders.backbones import BACKBONES
from tools.evaluation import forward
from tools.reproduce import passes
from tools.training import schedules
from tools.training.caffe_process import Engine
from tools.training.run import require_fitting

# Units of the first measurement, and seconds that the second one may take, with at most a whole batch.
FEW, SECONDS = 2, 1.0
# How often the second measurement is made.
REPEATS = 2
# Values that a solver keeps for each weight.
HISTORY = {"SGD": 1, "Adam": 2}
# Bytes of memory of a Python process that has loaded Caffe, and of `caffe train` with the project's layers.
PYTHON, CAFFE = 180e6, 160e6
# While Caffe writes or reads a snapshot, it holds each weight a second time, in a list that has grown by doubling.
SNAPSHOT = 1.5
# Bytes for each pair of training images: LIBSVM's matrix, scikit-learn's copy of it, and the products for it.
PAIR = 2 * 8 + 4
# Values of the longest handcrafted feature, GABOR.
VECTOR = 12800
# mallopt's name for the size from which memory is given back to the system.
M_MMAP_THRESHOLD = -3


@dataclass(frozen=True)
class Cost:
    """What a pass through a net takes. A unit is what the batch size counts: an image, with its reference, or a
    tuplet."""

    # Units of the largest pass that was measured.
    count: int
    # Its time and memory.
    seconds: float
    bytes: float
    # The time and memory of each further unit.
    each_second: float
    each_byte: float

    def seconds_of(self, count: float) -> float:
        return self.seconds + (count - self.count) * self.each_second

    def bytes_of(self, count: float) -> float:
        return self.bytes + (count - self.count) * self.each_byte


@dataclass(frozen=True)
class Costs:
    # An iteration of the solver.
    step: Cost
    # A forward pass of the net that predicts. Its bytes include the weights.
    test: Cost
    # Bytes of the weights.
    weights: int


@dataclass(frozen=True)
class Estimate:
    """What a job takes."""

    seconds: float
    # Bytes of snapshots on the disk.
    bytes: int
    # The largest number of bytes in memory at a time.
    memory: int = 0


class Estimator:
    """Measures each net once, on an engine.

    It measures an iteration of the engine's solver on the training net, with losses and updates, and a forward pass of
    the net that predicts, both on random inputs: the time of data layers is not included. A batch that takes long is
    not measured but extrapolated linearly from two smaller ones.
    """

    def __init__(self, engine: Engine, seconds: float = SECONDS) -> None:
        """seconds: the time that the measured batch may take; 0 if only the memory is needed."""
        self._engine = engine
        self._seconds = seconds
        self._costs: dict[str, Costs] = {}

    def training(self, experiment: Experiment, folder: str) -> Estimate:
        """Of training an experiment on a prepared folder. Raises UserError if the data do not fit."""
        note = prepared_folder.read_note(folder)
        data = parts.prepared(folder, note)
        require_fitting(experiment, data, note)
        return self._training(experiment, data)

    def expected_training(self, experiment: Experiment) -> Estimate:
        """The same without data, from their published counts; of one fold."""
        data = build.expected(experiment)
        if not data.class_counts:
            data = replace(data, class_counts=[max(1, data.counts["train"] // data.classes)] * data.classes)
        return self._training(experiment, data)

    def _training(self, experiment: Experiment, data: parts.Data) -> Estimate:
        costs, solver = self._of(experiment, data), experiment.solver
        cost, validation = schedules.of(experiment).cost(data), data.counts.get("val", 0)
        seconds = (cost.steps * costs.step.seconds_of(solver["batch_size"])
                   + (cost.tests * validation + cost.judged) * costs.test.each_second)
        states = HISTORY.get(solver.get("type", "SGD"), 1) if cost.keeps_states else 0
        memory = (PYTHON + CAFFE + costs.step.bytes_of(solver["batch_size"]) + SNAPSHOT * costs.weights)
        if cost.tests:
            memory += costs.test.bytes_of(parts.test_batch(validation)) - costs.weights
        if cost.judged:
            memory = max(memory, self._predicting(costs, max(validation, cost.judged)))
        return Estimate(seconds, costs.weights * cost.snapshots * (1 + states), round(memory))

    def predicting(self, experiment: Experiment, folder: str, split: Optional[str] = None, kept: int = 0) -> Estimate:
        """Of running a trained net on a split of a prepared folder; None for all of it. kept: bytes that stay in memory
        for each record."""
        note = prepared_folder.any_note(folder)
        count = note["records"][split] if split else sum(note["records"].values())
        data = parts.Data(folder, len(note["classes"]), note["records"], BACKBONES[experiment.net].shape,
                          note["class_counts"].get("train", ()))
        costs = self._of(experiment, data)
        return Estimate(count * costs.test.each_second, 0, round(self._predicting(costs, count) + count * kept))

    def every_snapshot(self, experiment: Experiment, folder: str, split: str) -> Estimate:
        """Of running the nets of all snapshots on a split."""
        estimate = self.predicting(experiment, folder, split)
        data = parts.prepared(folder, prepared_folder.any_note(folder))
        snapshots = schedules.of(experiment).cost(data).snapshots
        return replace(estimate, seconds=estimate.seconds * snapshots)

    def responding(self, experiment: Experiment, folder: str) -> Estimate:
        """Of the respond ratio, which holds FC1's input of all records, once in 4 and twice in 8 bytes a value."""
        return self.predicting(experiment, folder, "test", (4 + 8 + 8) * BACKBONES[experiment.net].width)

    def svm(self, folder: str, experiment: Optional[Experiment] = None) -> Estimate:
        """Of support vector machines on the handcrafted features of a prepared folder, or on those of a trained net.
        Their time cannot be estimated."""
        counts = prepared_folder.any_note(folder)["counts"]
        memory = PYTHON + PAIR * counts.get("train", 0) ** 2 + 4 * VECTOR * sum(counts.values())
        if experiment:
            memory = max(memory, self.predicting(experiment, folder).memory)
        return Estimate(0, 0, round(memory))

    def _predicting(self, costs: Costs, count: float) -> float:
        """Bytes of a process for each thread; the processes share the weights."""
        each = costs.test.bytes_of(min(forward.batch_size(self._engine), count)) - costs.weights
        processes = self._engine.threads if self._engine.device.engine == machine.CAFFE else 1
        return PYTHON + costs.weights * (1 + SNAPSHOT) + processes * each

    def _of(self, experiment: Experiment, data: parts.Data) -> Costs:
        # Experiments that differ only in loss weights cost the same.
        losses = {name: dict(settings, weight=1.0) for name, settings in experiment.losses.items()}
        plain = replace(experiment.one_training(), name=experiment.paper + "/", losses=losses)
        # So do splits of other sizes.
        counts = dict.fromkeys({**data.counts, "val": 1}, 1)
        small = replace(data, root="", records=(), counts=counts)
        net = build.text(with_inputs(nets.train_val(plain, small), nets.inputs(experiment, data)))
        key = net + str(experiment.solver.get("type"))
        if key not in self._costs:
            with progress.doing(f"measuring a few steps of the net of {experiment.name}"):
                self._costs[key], = children.in_order(1, lambda: None, (), functools.partial(
                    _measured, net, build.text(nets.deploy(plain, data)), experiment.solver, self._engine,
                    self._seconds), [None])
        return self._costs[key]


def with_inputs(net: parts.NetParameter, shapes: dict[str, Sequence[int]]) -> parts.NetParameter:
    """A training net with inputs in place of its data layers, for a batch of one unit."""
    changed = parts.NetParameter(name=net.name)
    for layer in net.layer:
        if any(rule.phase == caffe.TEST for rule in layer.include):
            continue
        if layer.bottom or not set(layer.top) <= set(shapes):
            changed.layer.add().CopyFrom(layer)
            continue
        parameters = json.loads(layer.python_param.param_str)
        images = parameters.get("positives", 1) + parameters.get("negatives", 0)
        for top in layer.top:
            added = changed.layer.add(name=top, type="Input", top=[top])
            added.input_param.shape.add(dim=[images, *shapes[top]])
    return changed


def _measured(net: str, deploy: str, solver: dict, engine: Engine, limit: float, _) -> Costs:
    """The costs of a net, measured in a process of its own. Of Caffe, freed memory goes back to the system at once, so
    that the memory of the process is what is in use; the engine on PyTorch keeps it. net: the training net, see
    `with_inputs`."""
    if engine.device.engine == machine.CAFFE:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
        forward.use(engine)
    else:
        from tools.evaluation import torch_net  # its own memory does not count
        torch_net.place(engine)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("train.prototxt", net), ("deploy.prototxt", deploy),
                           ("solver.prototxt", _solver(folder, solver))):
            files.write_text(os.path.join(folder, name), text)
        began = _memory()
        predicting, weights = passes.predicting(os.path.join(folder, "deploy.prototxt"), engine)
        test = _cost(predicting, forward.batch_size(engine), engine, limit, began)
        del predicting
        began = _memory()
        training = passes.training(os.path.join(folder, "solver.prototxt"), engine)
        step = _cost(training, solver["batch_size"], engine, limit, began)
    return Costs(step, test, 4 * weights)


def _solver(folder: str, solver: dict) -> str:
    """A solver with learning rate 0, which takes as long as any other rate and cannot diverge."""
    settings = {key: solver[key] for key in ("type", "momentum", "momentum2", "weight_decay") if key in solver}
    return build.text(caffe.proto.caffe_pb2.SolverParameter(
        net=os.path.join(folder, "train.prototxt"), base_lr=0, lr_policy="fixed", max_iter=1 << 30,
        solver_mode=caffe.proto.caffe_pb2.SolverParameter.CPU, **settings))


def _cost(net: passes.Passes, batch: int, engine: Engine, limit: float, began: float) -> Cost:
    """began: bytes of memory before the net was made. For one thread the time of the processor is measured, so that
    other work on the machine does not matter."""
    clock = time.process_time if engine.threads == 1 and engine.gpu is None else time.perf_counter
    random = np.random.RandomState(0)

    def timed() -> float:
        start = clock()
        net.run()
        return clock() - start

    def measured(count: int, repeats: int):
        for name, (images, *sizes) in net.shapes.items():
            shape = (count * images, *sizes)
            net.fill(name, np.zeros(shape) if name == "label" else random.uniform(-1, 1, shape))
        net.run()
        return min(timed() for _ in range(repeats)), _memory() - began

    few = min(FEW, batch)
    seconds, memory = measured(few, 1)
    more = min(batch, max(2 * few, int(limit * few / seconds)))
    if more == few:
        return Cost(few, seconds, memory, seconds / few, memory / few)
    more_seconds, more_memory = measured(more, REPEATS)
    each = [(most - least) / (more - few) for least, most in ((seconds, more_seconds), (memory, more_memory))]
    # For short work, and on a busy machine, the difference is noise.
    each_second = each[0] if more < batch and each[0] > 0 else more_seconds / more
    return Cost(more, more_seconds, more_memory, each_second, max(0, each[1]))


def _memory() -> int:
    """Bytes of memory that this process uses."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
