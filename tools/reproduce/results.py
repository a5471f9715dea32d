"""What runs have reached, beside what the papers print: k of N where that is a count."""
import functools
import os
from typing import Callable, NamedTuple, Optional

import numpy as np

from common import files
from data_prep import prepared_folder
from published.values import Figure
from tools.analysis import respond_ratio, svm
from tools.evaluation import cross_dataset, evaluate
from tools.training import groups, pretrained
from tools.training.caffe_process import Segment

# The papers shorten classes in several ways, but for their first two letters.
LETTERS = 2


class Measured(NamedTuple):
    """value: in the printed figure's unit, mostly %; correct, total: of a count."""

    value: float
    correct: Optional[int] = None
    total: Optional[int] = None


def of_figure(figure: Figure, folder: str, tested: str = "") -> Optional[Measured]:
    """What a folder's results have for a printed figure; None where it is not measured yet.

    folder: of a run or group, or prepared folder for handcrafted features; tested: prepared folder, of tests on
    other data.
    """
    if figure.measure == "svm":
        return _svm(figure, folder)
    if figure.measure == "respond_ratio":
        return _respond_ratio(figure, folder)
    one = Segment(folder)
    path = evaluate.metrics_path(one, figure.split)
    if tested:
        path = cross_dataset.metrics_path(one, prepared_folder.data_set(prepared_folder.any_note(tested)))
    return _READINGS[figure.measure](figure, files.read_json(path)) if os.path.exists(path) else None


def problem(folder: str) -> Optional[str]:
    """Why what a run or group has reached is no result: a part of it is not trained, or its weights are not finite."""
    for run in groups.runs(groups.open_(folder)):
        path = run.path("run.json")
        if not os.path.exists(path) or run.info["iterations"] not in run.snapshots():
            return "not measured"
        weights = run.caffemodel()
        if not _is_finite(weights, os.stat(weights).st_mtime_ns):
            return "NaN weights"
    return None


@functools.cache
def _is_finite(path: str, changed: int) -> bool:
    return pretrained.not_finite(path) is None


def _accuracy(figure: Figure, metrics: dict) -> Measured:
    if figure.kind == "fold_mean" and metrics["folds"]:
        return Measured(100 * float(np.mean([fold["correct"] / fold["total"] for fold in metrics["folds"]])))
    return _count(metrics["correct"], metrics["total"])


def _neutral_wrong(figure: Figure, metrics: dict) -> Measured:
    """Of all units, those of classes that the net does not know too."""
    return _count(metrics["correct"], metrics["total"] + metrics["left_out"])


def _mean(name: str) -> Callable[[Figure, dict], Optional[Measured]]:
    return lambda figure, metrics: Measured(100 * metrics[name]) if name in metrics else None


def _confusion(figure: Figure, metrics: dict) -> Optional[Measured]:
    short = [name[:LETTERS].lower() for name in metrics["classes"]]
    cell = [label[:LETTERS].lower() for label in (figure.row, figure.column)]
    if not set(cell) <= set(short):
        return None
    row, column = map(short.index, cell)
    counts = metrics["confusion"][row]
    return _count(counts[column], sum(counts)) if sum(counts) else None


_READINGS = {"accuracy": _accuracy, "accuracy_without_neutral": _accuracy,
             "accuracy_neutral_wrong": _neutral_wrong, "confusion": _confusion,
             **{name: _mean(name) for name in ("average_accuracy", "sensitivity", "specificity")}}


def _svm(figure: Figure, folder: str) -> Optional[Measured]:
    """The untuned machine that is best on the validation part."""
    prefix = svm.run_prefix(Segment(folder)) if figure.experiment else svm.data_prefix(
        folder, figure.column.lower())
    if not os.path.exists(prefix + ".json"):
        return None
    results = [one for one in files.read_json(prefix + ".json")["results"] if one["setting"] == "published"]
    return _count(*max(results, key=lambda one: one["val"][0])["test"])


def _respond_ratio(figure: Figure, folder: str) -> Optional[Measured]:
    """Of folds the mean."""
    runs: list = groups.runs(groups.open_(folder))
    if not all(os.path.exists(run.path(respond_ratio.FILE)) for run in runs):
        return None
    part = figure.column.partition(",")[0].lower()
    found = []
    for run in runs:
        rows = {name[:LETTERS].lower(): row for name, row in respond_ratio.read(run).items()}
        if figure.row[:LETTERS].lower() in rows:
            found.append(rows[figure.row[:LETTERS].lower()][part])
    return Measured(float(np.mean(found))) if found else None


def _count(correct: int, total: int) -> Measured:
    return Measured(100 * correct / total, correct, total)
