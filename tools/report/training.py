"""How losses and accuracies went in training, from Caffe's logs."""
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from tools.report import figures, pictures
from tools.report.entries import Entry
from tools.training import chain, snapshots

Points = list[tuple[float, float]]


def over_branches(outputs: dict[str, Points], name: str) -> Points:
    """[(iteration, value)] of an output; where a net of several branches has it with suffixes, their mean."""
    if name in outputs:
        return outputs[name]
    branches = [points for key, points in outputs.items() if key.startswith(name + "_")]
    return [(same[0][0], sum(value for _, value in same) / len(same)) for same in zip(*branches)]


def mean(members: Sequence[Points]) -> Points:
    """At the iterations that all have; the points of the first where these are less than half of them."""
    values = [dict(points) for points in members]
    shared = [iteration for iteration, _ in members[0] if all(iteration in member for member in values)]
    if 2 * len(shared) < len(members[0]):
        return members[0]
    return [(iteration, sum(member[iteration] for member in values) / len(values)) for iteration in shared]


def of(entry: Entry, name: str) -> Points:
    """An output of a run, or the mean over a group."""
    return mean([over_branches(chain.curves(run), name) for run in entry.runs])


@dataclass(frozen=True)
class Validated:
    """Where the validation accuracy of a run was best, as Caffe measured it in training, of single images."""

    # Of the run in its group, "" of a run alone.
    name: str
    # Pairs of an iteration and its accuracy: the best of all, that of the best snapshot that was kept, None for none,
    # and the last one.
    best: tuple[int, float]
    snapshot: Optional[tuple[int, float]]
    last: tuple[int, float]


def validated(entry: Entry) -> list[Validated]:
    """Of each run of an entry that Caffe tested."""
    found = []
    for run in entry.runs:
        accuracies = snapshots.validated(run)
        best, kept = (snapshots.best_of(accuracies, at) for at in (sorted(accuracies), run.snapshots()))
        if best is not None:
            found.append(Validated(
                "" if entry.kind == "run" else os.path.relpath(run.folder, entry.folder), (best, accuracies[best]),
                None if kept is None else (kept, accuracies[kept]), max(accuracies.items())))
    return found


def plots(entries: Sequence[Entry]) -> dict[str, str]:
    """`loss` of training and validation, and validation `accuracy` over the iterations, as far as the logs have
    them."""
    loss, accuracy = [], []
    for number, entry in enumerate(entries):
        if entry.folder in [before.folder for before in entries[:number]]:  # another snapshot of the same training
            continue
        training, validation, right = (of(entry, name) for name in (
            "train softmax_loss", "val softmax_loss", "val accuracy"))
        loss += [figures.Curve(entry.title + ", training batch", training, number, thin=True),
                 figures.Curve(entry.title + ", validation", validation, number)]
        accuracy.append(figures.Curve(entry.title, [(at, 100 * value) for at, value in right], number))
    plotted = {"loss": (loss, "softmax loss"), "accuracy": (accuracy, "validation accuracy of single images, %")}
    return {name: pictures.svg(figures.curves([curve for curve in drawn if curve.points], label))
            for name, (drawn, label) in plotted.items() if any(curve.points for curve in drawn)}


def by_epoch(points: Points, length: int) -> Points:
    """The mean of each `length` iterations, at their end."""
    epochs: dict[int, list[float]] = {}
    for iteration, value in points:
        epochs.setdefault(int(iteration) // length, []).append(value)
    return [((number + 1) * length, float(np.mean(values))) for number, values in sorted(epochs.items())]
