"""What trainings take, estimated from a few timed passes of their nets: time and disk."""
import os
import tempfile
import time
from typing import Dict, NamedTuple, Tuple

import caffe

from data_prep import files, prepare
from prototxt import build, nets, parts
from prototxt.experiment import Experiment
from tools import forward, self_paced
from tools.run import require_fitting
from tools.segments import Engine

TIMED_IMAGES = 4
REPEATS = 2
# Values that a solver keeps beside each weight.
HISTORY = {"SGD": 1, "Adam": 2}


class Cost(NamedTuple):
    """Of one image: seconds of a forward pass and of a forward and backward pass; values: weights of the net."""

    forward: float
    both: float
    values: int


class Estimate(NamedTuple):
    seconds: float
    bytes: int


class Estimator:
    """Times each net once, with the given number of BLAS threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._costs: Dict[str, Cost] = {}

    def training(self, experiment: Experiment, folder: str) -> Estimate:
        """Of training an experiment on a prepared folder; the losses' own time is not in it. Raises UserError where
        the data do not fit."""
        note = prepare.read_note(folder)
        data = parts.prepared(folder, note)
        require_fitting(experiment, data, note)
        cost = self._cost(experiment, data)
        steps = self_paced.ends(experiment, data.class_counts)[-1] if experiment.pacing else experiment.iterations
        if experiment.weighting and experiment.head["structure"] == "single":
            steps *= 3  # two trials beside each round
        solver = experiment.solver
        snapshots = experiment.weighting.get("rounds") or (
            experiment.pacing.get("paces") or -(-steps // (solver.get("snapshot") or steps)))
        tested = steps / solver["test_interval"] * note["records"].get("val", 0) if "test_interval" in solver else 0
        states = 0 if experiment.weighting or experiment.pacing else HISTORY.get(solver.get("type"), 1)
        return Estimate(steps * _images(experiment) * cost.both + tested * cost.forward,
                        4 * cost.values * snapshots * (1 + states))

    def _cost(self, experiment: Experiment, data: parts.Data) -> Cost:
        deploy = build.text(nets.deploy(experiment.weighted()._replace(pacing={}), data))
        if deploy not in self._costs:
            self._costs[deploy] = _measured(deploy, self._threads)
        return self._costs[deploy]


def _images(experiment: Experiment) -> int:
    """That pass the net in a step."""
    images = experiment.solver["batch_size"] * sum(experiment.tuplets.values() or [1])
    return images * (2 if experiment.head.get("subtracted", "none") != "none" else 1)


def _measured(deploy: str, threads: int) -> Cost:
    forward.use(Engine(threads))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "deploy.prototxt")
        files.write_text(path, deploy)
        net = caffe.Net(path, caffe.TRAIN)
    for name in net.inputs:
        net.blobs[name].reshape(TIMED_IMAGES, *net.blobs[name].shape[1:])
    net.forward()
    net.backward()
    ahead, both = _timed(net)
    return Cost(ahead, both, sum(blob.count for blobs in net.params.values() for blob in blobs))


def _timed(net: caffe.Net) -> Tuple[float, float]:
    """Seconds of the fastest pass, an image."""
    passes = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        net.forward()
        half = time.perf_counter()
        net.backward()
        passes.append((half - began, time.perf_counter() - began))
    return tuple(min(times) / TIMED_IMAGES for times in zip(*passes))
