"""Training that halves the learning rate where it stalls, [liu2017] Section 5.2, first stage.

    RUN/rates/01/            the segment that trains at the first rate, pass by pass; then 02 at half of it ...
    RUN/halving.json         what each pass came to
    RUN/best.caffemodel      the weights of the pass with the lowest training loss

A pass is as long as the solver's test_interval. What follows a halving begins with the best weights and without
momentum; the passes at one rate are one training.
"""
import os
import shutil
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from common import files
from common.experiment import Experiment
from prototxt import build
from prototxt.builders.parts import Data
from tools.training import caffe_log, caffe_process, chain
from tools.training.caffe_process import Engine, Segment

HISTORY = "halving.json"
BEST = "best.caffemodel"


class Pass(NamedTuple):
    """rate: number of the learning rate, from 1; loss: of training, mean over the pass; accuracy: on the validation
    part at its end."""

    rate: int
    loss: float
    accuracy: float


def due(passes: Sequence[Pass], loss_rise: float, patience: int) -> bool:
    """Whether the rate is halved after these passes: the loss of the last one is above the lowest before by more than
    this share of it, or the accuracy has not risen above its best for `patience` passes at this rate."""
    *before, last = passes
    if before and last.loss > (1 + loss_rise) * min(one.loss for one in before):
        return True
    best = int(np.argmax([one.accuracy for one in passes]))
    first_at_rate = next(number for number, one in enumerate(passes) if one.rate == last.rate)
    return len(passes) - 1 - max(best, first_at_rate - 1) >= patience


def history(run: Segment) -> list[Pass]:
    path = run.path(HISTORY)
    return [Pass(**one) for one in files.read_json(path)["passes"]] if os.path.exists(path) else []


def train(run: Segment, experiment: Experiment, data: Data, weights: Optional[str], engine: Engine) -> None:
    """All passes, or those that a killed call did not finish. weights: caffemodel to begin with."""
    passes, length = history(run), experiment.solver["test_interval"]
    total = experiment.iterations // length
    while len(passes) < total or not os.path.exists(run.weights_of(experiment.iterations)):
        rate = passes[-1].rate if passes else 1
        if passes and (len(passes) == total or due(passes, **experiment.halving)):
            _close(run, passes, length)
            if len(passes) == total:
                break
            rate += 1
            _copy(run.path(BEST), _initial(run, rate))
        elif not passes and weights:
            _copy(weights, _initial(run, rate))
        passes.append(_train_pass(run, experiment, data, rate, [one for one in passes if one.rate == rate], engine))
        segment, done = _segment(run, rate), _at(passes, rate) * length
        if passes[-1].loss == min(one.loss for one in passes):
            _copy(segment.weights_of(done), run.path(BEST))
        files.write_json(run.path(HISTORY), {"passes": [one._asdict() for one in passes]})
        for iteration in segment.snapshots():
            if iteration < done:
                files.remove(segment.weights_of(iteration))
                files.remove(segment.path("snapshots", f"iter_{iteration}.solverstate"))


def _train_pass(run: Segment, experiment: Experiment, data: Data, rate: int, before: Sequence[Pass],
                engine: Engine) -> Pass:
    """One pass more at a rate."""
    segment, length = _segment(run, rate), experiment.solver["test_interval"]
    end = (len(before) + 1) * length
    solver = dict(experiment.solver, base_lr=experiment.solver["base_lr"] / 2 ** (rate - 1), max_iter=end,
                  snapshot=length)
    caffe_process.write_definitions(segment, build.definitions(experiment._replace(solver=solver), data, segment.folder,
                                              caffe_process.snapshot_prefix(segment)))
    initial = _initial(run, rate)
    caffe_process.train(segment, initial if os.path.exists(initial) else None, engine,
                   "{} rate {:g}".format(os.path.basename(run.folder), solver["base_lr"]))
    found: dict[str, list] = caffe_log.curves(segment.path("caffe.log"))
    losses = [value for iteration, value in found["train softmax_loss"] if end - length <= iteration < end]
    return Pass(rate, float(np.mean(losses)), dict(found["val accuracy"])[end])


def _close(run: Segment, passes: Sequence[Pass], length: int) -> None:
    """The run takes over what the last rate has trained."""
    rate, end = passes[-1].rate, len(passes) * length
    if not os.path.exists(run.weights_of(end)):
        chain.adopt(run, _segment(run, rate), end - _at(passes, rate) * length, end)


def _segment(run: Segment, rate: int) -> Segment:
    return Segment(run.path("rates", f"{rate:02d}"))


def _initial(run: Segment, rate: int) -> str:
    return _segment(run, rate).path("initial.caffemodel")


def _at(passes: Sequence[Pass], rate: int) -> int:
    return sum(one.rate == rate for one in passes)


def _copy(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with files.replacing(target) as partial:
        shutil.copyfile(source, partial)
