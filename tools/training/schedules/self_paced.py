"""Self-paced learning, [wu2023] 3.3 and 3.4: from the easy samples of each class to all of them.

    RUN/paces/01                 a pace's training, a segment
    RUN/paces/01/selection.json  the loss of each training sample before the pace, and the samples it trains with
    RUN/paces/01/initial.caffemodel      the weights that it begins with

Each pace begins with the weights that the last one left, and with a solver that has no history.
"""
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np

from common import files
from common.errors import UserError
from common.experiment import Experiment
from prototxt import build, nets
from prototxt.builders.parts import Data
from tools.evaluation import forward
from tools.evaluation.forward import Part
from tools.training import caffe_process, chain, pretrained
from tools.training.caffe_process import Engine, Segment

SELECTION = "selection.json"
INITIAL = "initial.caffemodel"


def percentages(first: int, more: int, paces: int) -> list[int]:
    """Of each class that each pace trains with."""
    return [min(100, first + more * pace) for pace in range(paces)]


def chosen(count: int, percentage: int) -> int:
    """Samples of a class of `count`: the percentage, rounded up."""
    return -(-count * percentage // 100)


def select(losses: np.ndarray, labels: np.ndarray, percentage: int) -> np.ndarray:
    """Eq. (12), (N,) bool: of each class the samples of least loss, lambda_k being that quantile of its losses.

    losses: (N,); labels: (N,) int. Of equal losses the first come first. Raises ValueError on a loss that is NaN.
    """
    if np.isnan(losses).any():
        raise ValueError(f"sample {int(np.isnan(losses).argmax())} has a loss that is no number")
    selected = np.zeros(len(losses), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        easiest = members[np.argsort(losses[members], kind="stable")]
        selected[easiest[:chosen(len(members), percentage)]] = True
    return selected


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Eq. (10), (N,) float64. scores: (N, K), before the softmax; labels: (N,) int."""
    scores = scores.astype(np.float64)
    highest = scores.max(axis=1, keepdims=True)
    log_sum = highest[:, 0] + np.log(np.exp(scores - highest).sum(axis=1))
    return log_sum - scores[np.arange(len(labels)), labels]


def ends(experiment: Experiment, class_counts: Sequence[int]) -> list[int]:
    """The run's iteration at the end of each pace.

    The epochs are shared out equally, the remainder to the last pace; a pace's epoch has its own samples.
    class_counts: training samples of each class.
    """
    batch = experiment.solver["batch_size"]
    lengths = [max(1, round(passes * sum(chosen(count, percentage) for count in class_counts) / batch))
               for passes, percentage in zip(epochs(experiment), _percentages(experiment))]
    return np.cumsum(lengths).tolist()


def epochs(experiment: Experiment) -> list[int]:
    """Of each pace."""
    total, paces = experiment.pacing["epochs"], experiment.pacing["paces"]
    shared = [total // paces] * paces
    shared[-1] += total % paces
    return shared


def _percentages(experiment: Experiment) -> list[int]:
    return percentages(*(experiment.pacing[key] for key in ("first", "more", "paces")))


def pace(run: Segment, number: int) -> Segment:
    return Segment(run.path("paces", f"{number:02d}"))


def selection(run: Segment, number: int) -> dict[str, np.ndarray]:
    """Of a pace, from 1, record by record: "losses" before it, "selected", and "labels"."""
    noted = files.read_json(pace(run, number).path(SELECTION))
    return {key: np.array(values) for key, values in noted.items()}


def train(run: Segment, experiment: Experiment, data: Data, training: Part, weights: Optional[str], engine: Engine
          ) -> None:
    """All paces, or those that a killed call did not finish.

    training: all training samples; weights: caffemodel to begin with, None for He initialisation.
    """
    start = 0
    for number, (end, percentage) in enumerate(zip(ends(experiment, data.class_counts), _percentages(experiment)),
                                               start=1):
        if end not in run.snapshots():
            segment = pace(run, number)
            os.makedirs(segment.folder, exist_ok=True)
            _begin_with(run, segment, run.weights_of(start) if start else weights, experiment)
            _select(run, segment, experiment, training, percentage, engine)
            solver = dict(experiment.solver, max_iter=end - start)
            paced = data._replace(records=np.flatnonzero(selection(run, number)["selected"]).tolist(), pace=number)
            caffe_process.write_definitions(segment, build.definitions(
                experiment._replace(pacing={}, solver=solver), paced, segment.folder,
                caffe_process.snapshot_prefix(segment)))
            caffe_process.train(segment, segment.path(INITIAL), engine, "{} pace {}/{}".format(
                os.path.basename(run.folder), number, experiment.pacing["paces"]))
            chain.adopt(run, segment, start, end)
        files.remove(pace(run, number).path(INITIAL))
        start = end


def _begin_with(run: Segment, segment: Segment, weights: Optional[str], experiment: Experiment) -> None:
    if os.path.exists(segment.path(INITIAL)):
        return
    deploy = run.path("deploy.prototxt")
    if weights:
        pretrained.write_fitting(weights, deploy, segment.path(INITIAL), nets.copied_suffix(experiment))
    else:
        pretrained.write_fresh(deploy, experiment.solver["random_seed"], segment.path(INITIAL))


def _select(run: Segment, segment: Segment, experiment: Experiment, training: Part, percentage: int, engine: Engine
            ) -> None:
    """By the losses under the weights that the pace begins with, of the samples as they are, in the TEST phase."""
    if os.path.exists(segment.path(SELECTION)):
        return
    labels = np.array(training.labels)
    scores = forward.of_part(experiment, training, run.path("deploy.prototxt"), segment.path(INITIAL), ["fc"],
                             engine)["fc"]
    losses = cross_entropy(scores, labels)
    try:
        selected = select(losses, labels, percentage)
    except ValueError as error:
        raise UserError(f"{segment.folder}: {error}") from None
    files.write_json(segment.path(SELECTION), {
        "losses": losses.tolist(), "selected": selected.tolist(), "labels": labels.tolist()})
