"""Self-paced learning, [wu2023] 3.3 and 3.4: from the easy samples of each class to all of them.

    RUN/paces/01                 the training of a pace, a segment
    RUN/paces/01/selection.json  the loss of each training sample before the pace, and the samples it trains with
    RUN/paces/01/initial.caffemodel      the weights that it begins with

Each pace begins with the weights that the last one left, and with a solver that has no history.
"""
import dataclasses
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np
from scipy.special import logsumexp

from common import files
from common.errors import UserError
from prototxt import build
from prototxt.builders.parts import Data
from tools.evaluation import forward
from tools.training import caffe_process, chain, pretrained
from tools.training.caffe_process import Segment
from tools.training.schedules.base import DEPLOY, Cost, Schedule, Training

SELECTION = "selection.json"
INITIAL = "initial.caffemodel"


def percentages(first: int, more: int, paces: int) -> list[int]:
    """Percentage of each class that each pace trains with."""
    return [min(100, first + more * pace) for pace in range(paces)]


def selected_count(count: int, percentage: int) -> int:
    """Samples that are selected of a class of `count`: the percentage, rounded up."""
    return -(-count * percentage // 100)


def select(losses: np.ndarray, labels: np.ndarray, percentage: int) -> np.ndarray:
    """Eq. (12), (N,) bool: of each class the samples of least loss, lambda_k being that quantile of its losses.

    losses: (N,); labels: (N,) int. Of equal losses the first come first. Raises ValueError on a loss that is NaN.
    """
    if np.isnan(losses).any():
        raise ValueError(f"sample {int(np.isnan(losses).argmax())} has a loss that is NaN")
    selected = np.zeros(len(losses), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        easiest = members[np.argsort(losses[members], kind="stable")]
        selected[easiest[:selected_count(len(members), percentage)]] = True
    return selected


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Eq. (10), (N,) float64. scores: (N, K), before the softmax; labels: (N,) int."""
    scores = scores.astype(np.float64)
    return logsumexp(scores, axis=1) - scores[np.arange(len(labels)), labels]


def pace(run: Segment, number: int) -> Segment:
    """The segment of a pace. number: from 1."""
    return Segment(run.path("paces", f"{number:02d}"))


def selection(run: Segment, number: int) -> dict[str, np.ndarray]:
    """Of a pace, from 1, record by record: "losses" before it, "selected", and "labels"."""
    noted = files.read_json(pace(run, number).path(SELECTION))
    return {key: np.array(values) for key, values in noted.items()}


class SelfPaced(Schedule):
    FILES = ("paces",)
    SEGMENTS = "paces/*"

    @property
    def paces(self) -> int:
        return self.experiment.pacing["paces"]

    @property
    def epochs(self) -> list[int]:
        """Epochs of each pace, which are shared out equally, the remainder to the last pace."""
        total = self.experiment.pacing["epochs"]
        shared = [total // self.paces] * self.paces
        shared[-1] += total % self.paces
        return shared

    @property
    def percentages(self) -> list[int]:
        return percentages(*(self.experiment.pacing[key] for key in ("first", "more", "paces")))

    def describe(self) -> str:
        return "{} paces with {} % of the training images of each class, {} epochs in total".format(
            self.paces, ", ".join(map(str, self.percentages)), self.experiment.pacing["epochs"])

    def ends(self, class_counts: Sequence[int]) -> list[int]:
        """The run's iteration at the end of each pace. The epochs of a pace are of its own samples.

        class_counts: training samples of each class.
        """
        batch = self.experiment.solver["batch_size"]
        lengths = [max(1, round(epochs * sum(selected_count(count, percentage) for count in class_counts) / batch))
                   for epochs, percentage in zip(self.epochs, self.percentages)]
        return np.cumsum(lengths).tolist()

    def iterations(self, data: Data) -> int:
        return self.ends(data.class_counts)[-1]

    def cost(self, data: Data) -> Cost:
        return Cost(self.iterations(data), self._tests(data), self.paces * data.counts["train"], self.paces, False)

    def train(self, training: Training) -> None:
        run, samples, start = training.run, training.read("train"), 0
        ends = self.ends(training.data.class_counts)
        for number, (end, percentage) in enumerate(zip(ends, self.percentages), start=1):
            segment = pace(run, number)
            if end not in run.snapshots():
                os.makedirs(segment.folder, exist_ok=True)
                self._write_initial(training, segment, run.weights_of(start) if start else training.weights)
                self._select(training, segment, samples, percentage)
                solver = dict(self.experiment.solver, max_iter=end - start)
                selected = dataclasses.replace(
                    training.data, records=np.flatnonzero(selection(run, number)["selected"]).tolist(), pace=number)
                caffe_process.write_definitions(segment, build.definitions(
                    dataclasses.replace(self.experiment.one_training(), solver=solver), selected, segment.folder,
                    caffe_process.snapshot_prefix(segment)))
                caffe_process.train(segment, segment.path(INITIAL), training.engine,
                                    f"{os.path.basename(run.folder)} pace {number}/{self.paces}")
                chain.adopt(run, segment, start, end)
            files.remove(segment.path(INITIAL))
            start = end

    def _write_initial(self, training: Training, segment: Segment, weights: Optional[str]) -> None:
        """weights: caffemodel that the pace begins with, or the part of it that fits; None for He initialisation."""
        if os.path.exists(segment.path(INITIAL)):
            return
        # All layers, also those that weights from outside do not have: the net must predict before it is trained.
        pretrained.write_fresh(training.run.path(DEPLOY), self.experiment.solver["random_seed"], segment.path(INITIAL),
                               weights)

    def _select(self, training: Training, segment: Segment, samples: forward.Split, percentage: int) -> None:
        """Selects by the losses under the weights that the pace begins with, of the samples as they are, in the TEST
        phase. samples: all training samples."""
        if os.path.exists(segment.path(SELECTION)):
            return
        labels = np.array(samples.labels)
        scores = forward.of_split(self.experiment, samples, training.run.path(DEPLOY), segment.path(INITIAL), ["fc"],
                                  training.engine)["fc"]
        losses = cross_entropy(scores, labels)
        try:
            selected = select(losses, labels, percentage)
        except ValueError as error:
            raise UserError(f"{segment.folder}: {error}") from None
        files.write_json(segment.path(SELECTION), {
            "losses": losses.tolist(), "selected": selected.tolist(), "labels": labels.tolist()})

    def _position(self, adopted: int, active: Sequence[tuple[str, int]]) -> str:
        return f"pace {adopted + 1}/{self.paces}"
