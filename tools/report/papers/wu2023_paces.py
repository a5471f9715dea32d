"""What the figures of [wu2023] show of a self-paced run: accuracy and loss over the paces, the features at two paces,
and the samples that are left out."""
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from common import files
from data_prep import lmdb_io, prepared_folder
from prototxt import nets
from tools.evaluation import evaluate, forward
from tools.report.training import Points
from tools.training import caffe_log, chain, schedules
from tools.training.run import DEPLOY, Run, require_same_data
from tools.training.schedules import SelfPaced, self_paced

SHORT = {"neutral": "Ne", "happy": "Ha", "sad": "Sa", "surprise": "Su", "fear": "Fe", "disgust": "Di", "angry": "An",
         "contempt": "Co"}
# What is kept in a run's folder.
PLACES = "t-sne-pace{:02d}.npz"


def paces(run: Run) -> int:
    return SelfPaced(run.experiment).paces


def accuracies(run: Run, split: str) -> list[float]:
    """Of a self-paced run after each pace; kept in its folder, since each takes a forward pass over the split."""
    evaluated = evaluate.saved_snapshots(run, split) or evaluate.every_snapshot(run, split)
    return [snapshot["correct"] / snapshot["total"] for snapshot in evaluated]


def accuracy_per_pace(paced: Mapping[str, Sequence[float]], levels: Mapping[str, float]) -> Figure:
    """Fig. 5. paced: name -> accuracy after each pace; levels: name -> accuracy of a run without paces."""
    figure = Figure(figsize=(5.4, 3.6))
    axes = figure.subplots()
    for name, values in paced.items():
        axes.plot(range(1, len(values) + 1), 100 * np.array(values), marker="o", label=name)
    for (name, value), style in zip(levels.items(), itertools.cycle(("--", ":", "-."))):
        axes.axhline(100 * value, linestyle=style, color="grey", label=name)
    axes.set(xlabel="pace", ylabel="accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False)
    return figure


def losses(run: Run) -> Points:
    """(iteration, training loss) over all paces."""
    return [(span.start + iteration, value) for span in chain.spans(run)
            for iteration, value in caffe_log.curves(span.segment.path("caffe.log")).get("train softmax_loss", [])]


def pace_epochs(run: Run) -> list[int]:
    """Epochs that are done at the end of each pace."""
    return np.cumsum(SelfPaced(run.experiment).epochs).tolist()


def by_epoch(run: Run, points: Points) -> Points:
    """Points over iterations, over epochs: an epoch of a pace has the pace's own samples, so it has fewer iterations
    than one with all."""
    experiment = run.experiment
    if isinstance(schedules.of(experiment), SelfPaced):
        at, epochs = [0, *run.snapshots()], [0, *pace_epochs(run)]
    else:
        images = prepared_folder.read_note(run.info["data"])["records"]["train"]
        at = [0, run.info["iterations"]]
        epochs = [0, run.info["iterations"] * experiment.solver["batch_size"] / images]
    return [(float(np.interp(iteration, at, epochs)), value) for iteration, value in points]


def loss_curves(curves: Sequence[tuple[str, Points]], ends: Sequence[float]) -> Figure:
    """Fig. 6: training loss over the epochs, with and without self-paced learning.

    curves: names, and points (epoch, loss); ends: epochs at which the paces end.
    """
    figure = Figure(figsize=(5.4, 3.6))
    axes = figure.subplots()
    for label, points in curves:
        axes.plot(*zip(*points), linewidth=0.8, label=label)
    for end in ends[:-1]:
        axes.axvline(end, linewidth=0.5, color="grey")
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes.legend(fontsize=8, frameon=False)
    return figure


@dataclass(frozen=True)
class Features:
    """Features of N training samples before a pace."""

    # (N, 2), by t-SNE.
    places: np.ndarray
    # (N,), classes.
    labels: np.ndarray
    # (N,), whether the pace trains with the sample.
    selected: np.ndarray


def features(run: Run, pace: int, classes: Sequence[int], seed: int = 0) -> Features:
    """t-SNE of the features that are classified, of some classes' training samples, under the weights with which a
    pace (from 2) begins and chooses; kept in the run's folder, since it takes seconds."""
    path = run.path(PLACES.format(pace))
    key = np.array([seed, *classes])
    if os.path.exists(path):
        with np.load(path, allow_pickle=False) as arrays:
            if np.array_equal(arrays["key"], key):
                return Features(arrays["places"], arrays["labels"], arrays["selected"])
    features = _features(run, pace, classes, seed)
    with files.replacing(path) as partial, open(partial, "wb") as stream:
        np.savez(stream, key=key, places=features.places, labels=features.labels, selected=features.selected)
    return features


def _features(run: Run, pace: int, classes: Sequence[int], seed: int) -> Features:
    train = forward.read(run.info["data"], require_same_data(run), "train")
    blob = nets.classified(run.experiment)
    values = forward.of_split(run.experiment, train, run.path(DEPLOY),
                              run.caffemodel(run.snapshots()[pace - 2]), [blob])[blob]
    labels = np.array(train.labels)
    of_classes = np.isin(labels, classes)
    values = values.reshape(len(values), -1)[of_classes]
    # One thread: several get in each other's way, and sum in another order each time.
    with threadpool_limits(1):
        places = TSNE(perplexity=min(30, (len(values) - 1) / 3), init="pca", random_state=seed).fit_transform(values)
    return Features(places, labels[of_classes], self_paced.selection(run, pace)["selected"][of_classes])


def distribution(features: Features, title: str, classes: Sequence[str], axes: Optional[Axes] = None) -> Figure:
    """Fig. 7: the features at a pace; a circle is around what the pace leaves out. classes: all names; axes: to draw
    on, else those of a figure of its own."""
    axes = axes or Figure(figsize=(4.6, 4.2)).subplots()
    for label in np.unique(features.labels):
        axes.scatter(*features.places[features.labels == label].T, s=9, label=classes[label])
    axes.scatter(*features.places[~features.selected].T, s=45, facecolors="none", edgecolors="black", linewidths=0.6,
                 label="left out")
    axes.set(title=title, xticks=[], yticks=[], xlabel="t-SNE, first dimension", ylabel="t-SNE, second dimension")
    axes.legend(fontsize=8, frameon=False)
    return axes.figure


@dataclass(frozen=True)
class Excluded:
    """A training image that a pace leaves out."""

    # uint8 (channels, height, width).
    image: np.ndarray
    # Its number in the LMDB.
    record: int
    # Its class.
    label: str
    # Softmax loss before the pace.
    loss: float

    @property
    def text(self) -> str:
        return f"{SHORT.get(self.label, self.label)} {self.loss:.3f}"


def excluded(run: Run, pace: int, count: int, seed: int = 0) -> list[Excluded]:
    """Fig. 8: of what a pace leaves out, drawn at random."""
    note = require_same_data(run)
    images = forward.read(run.info["data"], note, "train").images
    selection = self_paced.selection(run, pace)
    left_out = np.flatnonzero(~selection["selected"])
    drawn = np.random.RandomState((seed, pace)).permutation(left_out)[:count]
    return [Excluded(lmdb_io.decode(images[record])[0], int(record), note["classes"][selection["labels"][record]],
                     float(selection["losses"][record])) for record in drawn]
