"""Figures of [wu2023]: accuracy and loss over the paces, the features at two paces, and the samples left out."""
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from data_prep import lmdb_io, prepare
from prototxt import wu2023
from tools import caffe_log, decisions, figures_farzaneh2021, forward, segments, self_paced
from tools.run import Run

SHORT = {"neutral": "Ne", "happy": "Ha", "sad": "Sa", "surprise": "Su", "fear": "Fe", "disgust": "Di", "angry": "An",
         "contempt": "Co"}


def paces(run: Run) -> int:
    return run.experiment.pacing["paces"]


def accuracies(run: Run, split: str) -> List[float]:
    """Of a self-paced run after each pace."""
    part = forward.read(run.info["data"], prepare.read_note(run.info["data"]), split)
    found = []
    for end in run.snapshots():
        prob = forward.of_part(run.experiment, part, run.path("deploy.prototxt"), run.caffemodel(end), ["prob"])["prob"]
        decided = decisions.vote(part.units, part.labels, part.rows, prob)
        found.append(sum(one.right for one in decided) / len(decided))
    return found


def accuracy_per_pace(paced: Dict[str, Sequence[float]], level: Dict[str, float]) -> Figure:
    """Fig. 5. paced: name -> accuracy after each pace; level: name -> that of a run without paces."""
    figure = Figure(figsize=(5.4, 3.6))
    axes = figure.subplots()
    for name, values in paced.items():
        axes.plot(range(1, len(values) + 1), 100 * np.array(values), marker="o", label=name)
    for (name, value), style in zip(level.items(), ("--", ":", "-.")):
        axes.axhline(100 * value, linestyle=style, color="grey", label=name)
    axes.set(xlabel="pace", ylabel="accuracy, %")
    axes.legend(fontsize=8, frameon=False)
    return figure


def losses(run: Run) -> List[Tuple[float, float]]:
    """(iteration, training loss) over all paces."""
    return [(link.start + iteration, value) for link in segments.chain(run)
            for iteration, value in caffe_log.curves(link.segment.path("caffe.log")).get("train softmax_loss", [])]


def loss_curves(with_paces: Sequence[Tuple[float, float]], without: Sequence[Tuple[float, float]],
                ends: Sequence[int]) -> Figure:
    """Fig. 6: training loss with and without self-paced learning. ends: iterations at which the paces end."""
    figure = Figure(figsize=(5.4, 3.6))
    axes = figure.subplots()
    for points, label in ((with_paces, "with SPL"), (without, "without SPL")):
        axes.plot(*zip(*points), linewidth=0.8, label=label)
    for end in ends[:-1]:
        axes.axvline(end, linewidth=0.5, color="grey")
    axes.set(xlabel="iteration", ylabel="training loss", yscale="log")
    axes.legend(fontsize=8, frameon=False)
    return figure


class Features(NamedTuple):
    """Of the training samples before a pace. places: (N, 2) by t-SNE; labels; selected: (N,)."""

    places: np.ndarray
    labels: np.ndarray
    selected: np.ndarray


def features(run: Run, pace: int, classes: Sequence[int], seed: int = 0) -> Features:
    """t-SNE of the features that are classified, of some classes' training samples, under the weights with which a
    pace (from 2) begins and chooses."""
    part = forward.read(run.info["data"], prepare.read_note(run.info["data"]), "train")
    blob = wu2023.features(run.experiment)
    values = forward.of_part(run.experiment, part, run.path("deploy.prototxt"),
                             run.caffemodel(run.snapshots()[pace - 2]), [blob])[blob]
    labels = np.array(part.labels)
    of_classes = np.isin(labels, classes)
    values = values.reshape(len(values), -1)[of_classes]
    # One thread: several get in each other's way, and sum in another order each time.
    with threadpool_limits(1):
        places = TSNE(perplexity=min(30, (len(values) - 1) / 3), init="pca", random_state=seed).fit_transform(values)
    return Features(places, labels[of_classes], self_paced.selection(run, pace)["selected"][of_classes])


def distribution(shown: Sequence[Features], titles: Sequence[str], classes: Sequence[str]) -> Figure:
    """Fig. 7: the features at some paces; a circle is around what the pace leaves out. classes: all names."""
    figure = Figure(figsize=(4.6 * len(shown), 4.2))
    for axes, one, title in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, titles):
        for label in np.unique(one.labels):
            axes.scatter(*one.places[one.labels == label].T, s=9, label=classes[label])
        axes.scatter(*one.places[~one.selected].T, s=45, facecolors="none", edgecolors="black", linewidths=0.6,
                     label="left out")
        axes.set(title=title, xticks=[], yticks=[])
        axes.legend(fontsize=8, frameon=False)
    return figure


def excluded(run: Run, pace: int, count: int, seed: int = 0) -> List[figures_farzaneh2021.Face]:
    """Fig. 8: training images that a pace leaves out, drawn at random, with their labels and losses."""
    note = prepare.read_note(run.info["data"])
    images = forward.read(run.info["data"], note, "train").images
    selection = self_paced.selection(run, pace)
    left_out = np.flatnonzero(~selection["selected"])
    drawn = np.random.RandomState((seed, pace)).permutation(left_out)[:count]
    names = [SHORT.get(name, name) for name in note["classes"]]
    return [figures_farzaneh2021.Face(
        figures_farzaneh2021.rgb(lmdb_io.decode(images[record])[0]),
        "{} {:.3f}".format(names[selection["labels"][record]], selection["losses"][record])) for record in drawn]


def excluded_samples(run: Run, count: int = 8) -> Figure:
    """Fig. 8: a row for each pace but the last, which leaves out nothing."""
    numbers = [pace for pace in range(1, paces(run) + 1) if not self_paced.selection(run, pace)["selected"].all()]
    return figures_farzaneh2021.faces([excluded(run, pace, count) for pace in numbers],
                                      ["pace {}".format(pace) for pace in numbers])
