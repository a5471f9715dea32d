"""How losses and accuracies went in training, from Caffe's logs."""
import os
from collections.abc import Sequence

import numpy as np

from tools.report import figures, pictures
from tools.report.entries import Entry
from tools.training import caffe_log, chain, groups
from tools.training.run import Run

Points = list[tuple[float, float]]


def curves(run: Run) -> dict[str, Points]:
    """Of all its segments, over the run's iterations; see `caffe_log.curves`."""
    found: dict[str, Points] = {}
    for span in chain.spans(run):
        path = span.segment.path("caffe.log")
        for name, points in (caffe_log.curves(path) if os.path.exists(path) else {}).items():
            found.setdefault(name, []).extend((span.start + iteration, value) for iteration, value in points)
    return found


def over_branches(found: dict[str, Points], name: str) -> Points:
    """[(iteration, value)] of an output; where a net of several branches has it with suffixes, their mean."""
    if name in found:
        return found[name]
    branches = [points for key, points in found.items() if key.startswith(name + "_")]
    return [(same[0][0], sum(value for _, value in same) / len(same)) for same in zip(*branches)]


def mean(members: Sequence[Points]) -> Points:
    """At the iterations that all have; the first one's points where these are less than half of them."""
    values = [dict(points) for points in members]
    shared = [iteration for iteration, _ in members[0] if all(iteration in one for one in values)]
    if 2 * len(shared) < len(members[0]):
        return members[0]
    return [(iteration, sum(one[iteration] for one in values) / len(values)) for iteration in shared]


def of(entry: Entry, name: str) -> Points:
    """An output of a run, or of a group in the mean."""
    return mean([over_branches(curves(run), name) for run in groups.runs(entry.one)])


def plots(entries: Sequence[Entry]) -> dict[str, str]:
    """`loss` of training and validation, and validation `accuracy` over the iterations; without what is not
    known."""
    loss, accuracy = [], []
    for number, entry in enumerate(entries):
        training, validation, right = (of(entry, name) for name in (
            "train softmax_loss", "val softmax_loss", "val accuracy"))
        loss += [figures.Curve(entry.title + ", training batch", training, number, thin=True),
                 figures.Curve(entry.title + ", validation", validation, number)]
        accuracy.append(figures.Curve(entry.title, [(at, 100 * value) for at, value in right], number))
    labels = {"loss": "softmax loss", "accuracy": "validation accuracy of single images, %"}
    known = {name: [curve for curve in drawn if curve.points] for name, drawn in (
        ("loss", loss), ("accuracy", accuracy))}
    return {name: pictures.svg(figures.curves(drawn, labels[name])) for name, drawn in known.items() if drawn}


def by_pass(points: Points, length: int) -> Points:
    """The mean of each `length` iterations, at their end."""
    found: dict[int, list[float]] = {}
    for iteration, value in points:
        found.setdefault(int(iteration) // length, []).append(value)
    return [((number + 1) * length, float(np.mean(values))) for number, values in sorted(found.items())]
