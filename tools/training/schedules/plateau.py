"""Training that halves the learning rate when it stalls, [liu2017] Section 5.2, first stage.

    RUN/rates/01/            the segment that trains at the first rate, epoch by epoch; then 02 at half of it ...
    RUN/halving.json         what each epoch achieved
    RUN/best.caffemodel      the weights of the epoch with the lowest training loss

An epoch is as long as the solver's test_interval. After a halving the training begins with the best weights and without
momentum; the epochs at one rate are one training.
"""
import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common import files
from prototxt import build
from tools.training import caffe_log, caffe_process, chain
from tools.training.caffe_process import LOG, Segment
from tools.training.schedules.base import Schedule, Training

HISTORY = "halving.json"
BEST = "best.caffemodel"


@dataclass(frozen=True)
class Epoch:
    """What an epoch achieved."""

    # Number of the learning rate, from 1.
    rate: int
    # Of training, mean over the epoch.
    loss: float
    # On the validation split, at the end of the epoch.
    accuracy: float


def due(epochs: Sequence[Epoch], loss_rise: float, patience: int) -> bool:
    """Whether the rate is halved after these epochs: the loss of the last one is above the lowest before by more than
    this share of it, or the accuracy has not risen above its best for `patience` epochs at this rate."""
    *before, last = epochs
    if before and last.loss > (1 + loss_rise) * min(epoch.loss for epoch in before):
        return True
    best = int(np.argmax([epoch.accuracy for epoch in epochs]))
    first_at_rate = next(number for number, epoch in enumerate(epochs) if epoch.rate == last.rate)
    return len(epochs) - 1 - max(best, first_at_rate - 1) >= patience


def history(run: Segment) -> list[Epoch]:
    """The finished epochs."""
    path = run.path(HISTORY)
    return [Epoch(**epoch) for epoch in files.read_json(path)["epochs"]] if os.path.exists(path) else []


class Plateau(Schedule):
    FILES = ("rates", HISTORY, BEST)
    SEGMENTS = "rates/*"
    VALIDATED = "the halving of its learning rate"

    def describe(self) -> str:
        solver = self.experiment.solver
        return ("one training of {max_iter} iterations whose learning rate is halved when the training loss rises by "
                "{rise:g} % or the validation accuracy does not rise for {patience} epochs".format(
                    **solver, rise=100 * self.experiment.halving["loss_rise"],
                    patience=self.experiment.halving["patience"]))

    def train(self, training: Training) -> None:
        run, length, iterations = training.run, self._epoch_length, self.iterations(training.data)
        epochs, total = history(run), iterations // length
        while len(epochs) < total or not os.path.exists(run.weights_of(iterations)):
            rate = epochs[-1].rate if epochs else 1
            if epochs and (len(epochs) == total or due(epochs, **self.experiment.halving)):
                self._adopt(run, epochs)
                if len(epochs) == total:
                    break
                rate += 1
                _copy(run.path(BEST), _initial(run, rate))
            elif not epochs and training.weights:
                _copy(training.weights, _initial(run, rate))
            epochs.append(self._train_epoch(training, rate, _count(epochs, rate)))
            segment, done = _segment(run, rate), _count(epochs, rate) * length
            if epochs[-1].loss == min(epoch.loss for epoch in epochs):
                _copy(segment.weights_of(done), run.path(BEST))
            files.write_json(run.path(HISTORY), {"epochs": [dataclasses.asdict(epoch) for epoch in epochs]})
            for iteration in segment.snapshots():
                if iteration < done:
                    segment.remove_snapshot(iteration)

    @property
    def _epoch_length(self) -> int:
        """Iterations of an epoch."""
        return self.experiment.solver["test_interval"]

    def _base_lr(self, rate: int) -> float:
        """The learning rate with a number, from 1."""
        return self.experiment.solver["base_lr"] / 2 ** (rate - 1)

    def _train_epoch(self, training: Training, rate: int, before: int) -> Epoch:
        """One more epoch at a rate. before: epochs at this rate before it."""
        segment, length = _segment(training.run, rate), self._epoch_length
        end = (before + 1) * length
        solver = dict(self.experiment.solver, base_lr=self._base_lr(rate), max_iter=end, snapshot=length)
        caffe_process.write_definitions(segment, build.definitions(
            dataclasses.replace(self.experiment, solver=solver), training.data, segment.folder,
            caffe_process.snapshot_prefix(segment)))
        initial = _initial(training.run, rate)
        caffe_process.train(segment, initial if os.path.exists(initial) else None, training.engine,
                            f"{os.path.basename(training.run.folder)} rate {self._base_lr(rate):g}")
        curves = caffe_log.curves(segment.path(LOG))
        losses = [value for iteration, value in curves["train softmax_loss"] if end - length <= iteration < end]
        return Epoch(rate, float(np.mean(losses)), dict(curves["val accuracy"])[end])

    def _adopt(self, run: Segment, epochs: Sequence[Epoch]) -> None:
        """The run adopts what was trained at the last rate."""
        rate, end = epochs[-1].rate, len(epochs) * self._epoch_length
        if not os.path.exists(run.weights_of(end)):
            chain.adopt(run, _segment(run, rate), end - _count(epochs, rate) * self._epoch_length, end)

    def _position(self, adopted: int, active: Sequence[tuple[str, int]]) -> str:
        return f"learning rate {self._base_lr(adopted + 1):g}"


def _segment(run: Segment, rate: int) -> Segment:
    return Segment(run.path("rates", f"{rate:02d}"))


def _initial(run: Segment, rate: int) -> str:
    return _segment(run, rate).path("initial.caffemodel")


def _count(epochs: Sequence[Epoch], rate: int) -> int:
    """Epochs at a rate."""
    return sum(epoch.rate == rate for epoch in epochs)


def _copy(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with files.replacing(target) as partial:
        shutil.copyfile(source, partial)
