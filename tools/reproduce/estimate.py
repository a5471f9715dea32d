"""What jobs take, estimated from a few steps of their nets: time, disk and memory."""
import contextlib
import ctypes
import functools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

import caffe
import numpy as np

from common import children, files
from common.experiment import Experiment
from data_prep import prepared_folder
from prototxt import build, nets
from prototxt.builders import parts, xie2019a
from prototxt.builders.backbones import BACKBONES
from tools.evaluation import forward
from tools.training.caffe_process import Engine
from tools.training.run import require_fitting
from tools.training.schedules import self_paced

# In the first measurement; the second one takes what these seconds are enough for, up to the whole batch.
FEW, SECONDS = 2, 1.0
REPEATS = 2
# Values that a solver keeps beside each weight.
HISTORY = {"SGD": 1, "Adam": 2}
# Of a Python process that has loaded Caffe and done nothing, and of `caffe train` with our layers.
PYTHON, CAFFE = 180e6, 160e6
# While Caffe writes or reads a snapshot, it holds each weight a second time, in a list that has grown by doubling.
SNAPSHOT = 1.5
# For each pair of training images, LIBSVM's matrix, scikit-learn's copy of it, and the products it is made of.
PAIR = 2 * 8 + 4
# Values of the longest one, GABOR.
VECTOR = 12800
M_MMAP_THRESHOLD = -3
# Of a container, version 2 and 1.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Cost(NamedTuple):
    """Of a pass of `count` units, the most that was measured: seconds and bytes; each_second, each_byte: of each unit
    more. A unit is what the batch size counts: an image, with its reference, or a tuplet."""

    count: int
    seconds: float
    bytes: float
    each_second: float
    each_byte: float

    def seconds_of(self, count: float) -> float:
        return self.seconds + (count - self.count) * self.each_second

    def bytes_of(self, count: float) -> float:
        return self.bytes + (count - self.count) * self.each_byte


class Costs(NamedTuple):
    """step: of the solver's net; test: of the net that predicts, whose bytes include its weights; weights: bytes."""

    step: Cost
    test: Cost
    weights: int


class Estimate(NamedTuple):
    """seconds; bytes: of snapshots; memory: bytes, at most at a time."""

    seconds: float
    bytes: int
    memory: int = 0


class Estimator:
    """Measures each net once, with the given number of BLAS threads.

    What is measured is Caffe's solver on the net that trains, losses and updates included, and a forward pass of the
    net that it tests, both on drawn inputs: the time that data layers take is not in it. A batch that takes long is
    not measured: what two smaller ones took is drawn out in a straight line.
    """

    def __init__(self, threads: int, seconds: float = SECONDS) -> None:
        """seconds: that a measured batch may take; 0 where the memory is wanted alone."""
        self._threads = threads
        self._seconds = seconds
        self._costs: dict[str, Costs] = {}

    def training(self, experiment: Experiment, folder: str) -> Estimate:
        """Of training an experiment on a prepared folder. Raises UserError where the data do not fit."""
        note = prepared_folder.read_note(folder)
        data = parts.prepared(folder, note)
        require_fitting(experiment, data, note)
        return self._training(experiment, data)

    def expected_training(self, experiment: Experiment) -> Estimate:
        """The same where the data are not there, on what is published of them; of one fold."""
        data = build.expected(experiment)
        if not data.class_counts:
            data = data._replace(class_counts=[max(1, data.counts["train"] // data.classes)] * data.classes)
        return self._training(experiment, data)

    def _training(self, experiment: Experiment, data: parts.Data) -> Estimate:
        costs, solver = self._of(experiment, data), experiment.solver
        steps = self_paced.ends(experiment, data.class_counts)[-1] if experiment.pacing else experiment.iterations
        trials = 2 if experiment.weighting and experiment.head["structure"] == "single" else 0
        validation = data.counts.get("val", 0)
        tests = steps / solver["test_interval"] if validation and "test_interval" in solver else 0
        judged = experiment.weighting.get("rounds", 0) * (trials or 1) * validation
        if experiment.pacing:
            judged = experiment.pacing["paces"] * data.counts["train"]
        seconds = (steps * (1 + trials) * costs.step.seconds_of(solver["batch_size"])
                   + (tests * validation + judged) * costs.test.each_second)
        snapshots = experiment.weighting.get("rounds") or (
            experiment.pacing.get("paces") or -(-steps // (solver.get("snapshot") or steps)))
        states = 0 if experiment.weighting or experiment.pacing else HISTORY.get(solver.get("type"), 1)
        memory = (PYTHON + CAFFE + costs.step.bytes_of(solver["batch_size"]) + SNAPSHOT * costs.weights)
        if tests:
            memory += costs.test.bytes_of(parts.test_batch(validation)) - costs.weights
        if judged:
            memory = max(memory, self._predicting(costs, max(validation, judged)))
        return Estimate(seconds, costs.weights * snapshots * (1 + states), round(memory))

    def predicting(self, experiment: Experiment, folder: str, split: Optional[str] = None, kept: int = 0) -> Estimate:
        """Of what a trained net makes of a part of a prepared folder, None for all of it. kept: bytes that are kept of
        each record."""
        note = prepared_folder.any_note(folder)
        count = note["records"].get(split, sum(note["records"].values()))
        data = parts.Data(folder, len(note["classes"]), note["records"], BACKBONES[experiment.net].shape,
                          note["class_counts"].get("train", ()))
        costs = self._of(experiment, data)
        return Estimate(count * costs.test.each_second, 0, round(self._predicting(costs, count) + count * kept))

    def responding(self, experiment: Experiment, folder: str) -> Estimate:
        """Of the respond ratio, which holds FC1's input of all records, once in 4 and twice in 8 bytes."""
        return self.predicting(experiment, folder, "test", (4 + 8 + 8) * BACKBONES[experiment.net].width)

    def svm(self, folder: str, experiment: Optional[Experiment] = None) -> Estimate:
        """Of support vector machines on handcrafted features, or on a trained net's, of the images of a prepared
        folder. Their time is not known before."""
        counts = prepared_folder.any_note(folder)["counts"]
        memory = PYTHON + PAIR * counts.get("train", 0) ** 2 + 4 * VECTOR * sum(counts.values())
        if experiment:
            memory = max(memory, self.predicting(experiment, folder).memory)
        return Estimate(0, 0, round(memory))

    def _predicting(self, costs: Costs, count: float) -> float:
        """A process for each thread; they share the weights."""
        each = costs.test.bytes_of(min(forward.BATCH, count)) - costs.weights
        return PYTHON + costs.weights * (1 + SNAPSHOT) + self._threads * each

    def _of(self, experiment: Experiment, data: parts.Data) -> Costs:
        # Experiments that differ in loss weights alone take the same.
        losses = {name: dict(settings, weight=1.0) for name, settings in experiment.losses.items()}
        plain = experiment._replace(name=experiment.paper + "/", losses=losses, weighting={}, pacing={})
        # So do parts of other sizes.
        counts = dict.fromkeys({**data.counts, "val": 1}, 1)
        net = build.text(with_inputs(nets.train_val(plain, data._replace(root="", records=(), counts=counts)),
                                     input_shapes(experiment, data)))
        key = net + str(experiment.solver.get("type"))
        if key not in self._costs:
            self._costs[key], = children.in_order(1, lambda: None, (), functools.partial(
                _measured, net, build.text(nets.deploy(plain, data)), experiment.solver, self._threads,
                self._seconds), [None])
        return self._costs[key]


def machine_memory() -> tuple[int, int]:
    """Bytes of memory that this machine has, or this container may take, and of it what is free."""
    with open("/proc/meminfo") as stream:
        known = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in stream)}
    limits = [known["MemTotal"]]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path) as stream:
            limits.append(int(stream.read()))
    return min(limits), min(known["MemAvailable"], *limits)


def input_shapes(experiment: Experiment, data: parts.Data) -> dict[str, Sequence[int]]:
    """Of what a data layer can hand out of one image: blob -> shape."""
    return {"data": data.shape, "reference": data.shape, "label": (), "gabor": (BACKBONES[experiment.net].width,),
            **{feature: (side ** 2 * (data.classes - 1),) for feature, side in xie2019a.GRIDS.items()}}


def with_inputs(net: parts.NetParameter, shapes: dict[str, Sequence[int]]) -> parts.NetParameter:
    """The net that trains, with inputs in place of its data layers; the first batch is of one unit."""
    changed = parts.NetParameter(name=net.name)
    for layer in net.layer:
        if any(rule.phase == caffe.TEST for rule in layer.include):
            continue
        if layer.bottom or not set(layer.top) <= set(shapes):
            changed.layer.add().CopyFrom(layer)
            continue
        given = json.loads(layer.python_param.param_str)
        images = given.get("positives", 1) + given.get("negatives", 0)
        for top in layer.top:
            added = changed.layer.add(name=top, type="Input", top=[top])
            added.input_param.shape.add(dim=[images, *shapes[top]])
    return changed


def _measured(net: str, deploy: str, solver: dict, threads: int, limit: float, _) -> Costs:
    """In a process of its own, whose memory is measured. Memory that is freed goes back to the system at once, so that
    what is there is what is used. net: that trains, see `with_inputs`."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
    forward.use(Engine(threads))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("train.prototxt", net), ("deploy.prototxt", deploy),
                           ("solver.prototxt", _solver(folder, solver))):
            files.write_text(os.path.join(folder, name), text)
        began = _memory()
        predicting = caffe.Net(os.path.join(folder, "deploy.prototxt"), caffe.TEST)
        test = _cost(predicting, predicting.forward, list(predicting.inputs), forward.BATCH, threads, limit, began)
        weights = 4 * sum(blob.count for blobs in predicting.params.values() for blob in blobs)
        del predicting
        began = _memory()
        trained = caffe.get_solver(os.path.join(folder, "solver.prototxt"))
        inputs = [name for name, layer in zip(trained.net._layer_names, trained.net.layers) if layer.type == "Input"]
        step = _cost(trained.net, lambda: trained.step(1), inputs, solver["batch_size"], threads, limit, began)
    return Costs(step, test, weights)


def _solver(folder: str, solver: dict) -> str:
    """Of learning rate 0, which takes as long as any other and cannot explode."""
    settings = {key: solver[key] for key in ("type", "momentum", "momentum2", "weight_decay") if key in solver}
    return build.text(caffe.proto.caffe_pb2.SolverParameter(
        net=os.path.join(folder, "train.prototxt"), base_lr=0, lr_policy="fixed", max_iter=1 << 30,
        solver_mode=caffe.proto.caffe_pb2.SolverParameter.CPU, **settings))


def _cost(net: caffe.Net, work: Callable[[], None], inputs: list[str], batch: int, threads: int,
          limit: float, began: float) -> Cost:
    """began: memory before the net was made. One thread's time is the processor's, so that nothing else on the machine
    counts."""
    clock = time.process_time if threads == 1 else time.perf_counter
    images = {name: net.blobs[name].shape[0] for name in inputs}
    random = np.random.RandomState(0)

    def timed() -> float:
        start = clock()
        work()
        return clock() - start

    def measured(count: int, repeats: int):
        for name in inputs:
            net.blobs[name].reshape(count * images[name], *list(net.blobs[name].shape)[1:])
            net.blobs[name].data[...] = 0 if name == "label" else random.uniform(-1, 1, net.blobs[name].data.shape)
        work()
        return min(timed() for _ in range(repeats)), _memory() - began

    few = min(FEW, batch)
    seconds, memory = measured(few, 1)
    more = min(batch, max(2 * few, int(limit * few / seconds)))
    if more == few:
        return Cost(few, seconds, memory, seconds / few, memory / few)
    more_seconds, more_memory = measured(more, REPEATS)
    each = [(most - least) / (more - few) for least, most in ((seconds, more_seconds), (memory, more_memory))]
    # Of little work the difference is noise.
    return Cost(more, more_seconds, more_memory, each[0] if more < batch else more_seconds / more, max(0, each[1]))


def _memory() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
