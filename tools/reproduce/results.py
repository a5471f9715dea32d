"""Measured values, beside those that the papers print: k of N where a value is a count."""
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

from common import files
from data_prep import prepared_folder
from published.values import Figure
from tools.analysis import respond_ratio, svm
from tools.evaluation import cross_dataset, departures, evaluate
from tools.evaluation.departures import Departure
from tools.reproduce.plan import Cell, Request
from tools.training import groups, pretrained
from tools.training.run import Run

# The papers shorten the names of classes in several ways, but all keep the first two letters.
LETTERS = 2
NO_DATA, NOT_MEASURED, NOT_FINITE = "no data", "not measured", "NaN weights"


@dataclass(frozen=True)
class Measured:
    """A measured value."""

    # In the unit of the printed value, mostly %.
    value: float
    # Of a count, else None.
    correct: Optional[int] = None
    total: Optional[int] = None


@dataclass(frozen=True)
class Entry:
    """A printed value beside the measured one."""

    figure: Figure
    measured: Optional[Measured] = None
    # The reason if nothing is measured.
    why: str = ""
    # How the measurement departs from the paper.
    departures: Sequence[Departure] = ()
    # SHA-256 of the caffemodel that the training began with; "" for random weights.
    weights: str = ""

    @property
    def comparable(self) -> bool:
        return self.measured is not None and not self.departures

    @property
    def difference(self) -> str:
        """Of the measured value from the printed one, as text; "" if something departs from the paper."""
        figure, measured = self.figure, self.measured
        if measured is None or self.departures:
            return ""
        if measured.correct is not None and figure.correct is not None and measured.total == figure.total:
            return "equal" if measured.correct == figure.correct else f"{measured.correct - figure.correct:+d}"
        return f"{measured.value - float(figure.value):+.2f}" + (" points" if figure.kind != "ratio" else "")


def entry(cell: Cell, request: Request) -> Entry:
    """What is measured of a cell, and how it departs from the paper."""
    figure, folder = cell.figure, cell.folder
    if figure.system == "other":
        return Entry(figure)
    if not folder:
        return Entry(figure, why=NO_DATA)
    tested = request.data[figure.data] if figure.trained_on else ""
    fault = figure.experiment and problem(folder)
    measured = None if fault else of_figure(figure, folder, tested)
    if not measured:
        return Entry(figure, why=fault or NOT_MEASURED)
    if not figure.experiment:
        note = prepared_folder.any_note(folder)
        return Entry(figure, measured, departures=departures.of_data(
            note, figure.data, [figure.column]) + departures.of_count(figure, measured.total))
    trained = groups.runs(groups.open_(folder))
    return Entry(figure, measured, "", departures.of_figure(
        figure, trained, measured.total, prepared_folder.any_note(tested) if tested else None)
        + of_engines(figure, folder, tested), trained[0].info["weights"] or "")


def of_figure(figure: Figure, folder: str, tested: str = "") -> Optional[Measured]:
    """What the results in a folder say for a printed value; None if it is not measured yet.

    folder: of a run or group, or a prepared folder for handcrafted features; tested: prepared folder, for a test on
    other data.
    """
    if figure.measure == "svm":
        return _svm(figure, folder)
    if figure.measure == "respond_ratio":
        return _respond_ratio(figure, folder)
    metrics = _metrics(figure, folder, tested)
    return _READINGS[figure.measure](figure, metrics) if metrics else None


def of_engines(figure: Figure, folder: str, tested: str = "") -> list[Departure]:
    """The departures of what computed the nets that were measured. The arguments are those of `of_figure`."""
    runs = groups.runs(groups.open_(folder))
    paths = {"svm": [svm.run_prefix(Run(folder)) + ".json"],
             "respond_ratio": [run.path(respond_ratio.FILE) for run in runs],
             "every_snapshot": [evaluate.snapshots_path(run, split) for run in runs for split in ("val", "test")],
             }.get(figure.measure)
    notes = [_metrics(figure, folder, tested)] if paths is None else map(files.read_json, filter(os.path.exists, paths))
    return list(dict.fromkeys(departure for note in notes for departure in departures.of_engine(note or {})))


def _metrics(figure: Figure, folder: str, tested: str) -> Optional[dict]:
    """The metrics of a run or group that has some for a printed value."""
    path = evaluate.metrics_path(Run(folder), figure.split)
    if tested:
        path = cross_dataset.metrics_path(Run(folder), prepared_folder.data_set(prepared_folder.any_note(tested)))
    return files.read_json(path) if figure.measure in _READINGS and os.path.exists(path) else None


def problem(folder: str) -> Optional[str]:
    """Why the metrics of a run or group are no result: a part of it is not trained, or its weights are not finite."""
    for run in groups.runs(groups.open_(folder)):
        path = run.path("run.json")
        if not os.path.exists(path) or run.info["iterations"] not in run.snapshots():
            return NOT_MEASURED
        weights = run.caffemodel()
        if not _is_finite(weights, os.stat(weights).st_mtime_ns):
            return NOT_FINITE
    return None


@functools.cache
def _is_finite(path: str, changed: int) -> bool:
    """changed: the time of the last change, in ns."""
    return pretrained.not_finite(path) is None


def _accuracy(figure: Figure, metrics: dict) -> Measured:
    if figure.kind == "fold_mean" and metrics["folds"]:
        return Measured(100 * float(np.mean([fold["correct"] / fold["total"] for fold in metrics["folds"]])))
    return _count(metrics["correct"], metrics["total"])


def _neutral_wrong(figure: Figure, metrics: dict) -> Measured:
    """Of all units, with those of classes that the net was not trained on counted as wrong."""
    return _count(metrics["correct"], metrics["total"] + metrics["left_out"])


def _share(figure: Figure, metrics: dict) -> Optional[Measured]:
    """Of a metric that is a share, not a count."""
    return Measured(100 * metrics[figure.measure]) if figure.measure in metrics else None


def _confusion(figure: Figure, metrics: dict) -> Optional[Measured]:
    classes = [name[:LETTERS].lower() for name in metrics["classes"]]
    cell = [label[:LETTERS].lower() for label in (figure.row, figure.column)]
    if not set(cell) <= set(classes):
        return None
    row, column = map(classes.index, cell)
    counts = metrics["confusion"][row]
    return _count(counts[column], sum(counts)) if sum(counts) else None


# Measure -> what reads it from metrics.json.
_READINGS: dict[str, Callable[[Figure, dict], Optional[Measured]]] = {
    "accuracy": _accuracy, "accuracy_without_neutral": _accuracy, "accuracy_neutral_wrong": _neutral_wrong,
    "confusion": _confusion, **dict.fromkeys(("average_accuracy", "sensitivity", "specificity"), _share)}


def _svm(figure: Figure, folder: str) -> Optional[Measured]:
    """Of the untuned machine that is best on the validation split."""
    prefix = svm.run_prefix(Run(folder)) if figure.experiment else svm.data_prefix(
        folder, figure.column.lower())
    if not os.path.exists(prefix + ".json"):
        return None
    results = [result for result in files.read_json(prefix + ".json")["results"] if result["setting"] == "published"]
    return _count(*max(results, key=lambda result: result["val"][0])["test"])


def _respond_ratio(figure: Figure, folder: str) -> Optional[Measured]:
    """The mean over folds."""
    runs = groups.runs(groups.open_(folder))
    if not all(os.path.exists(run.path(respond_ratio.FILE)) for run in runs):
        return None
    label, part = figure.row[:LETTERS].lower(), figure.column.partition(",")[0].lower()
    ratios = [ratios_of_parts[part] for run in runs for name, ratios_of_parts in respond_ratio.read(run).items()
              if name[:LETTERS].lower() == label]
    return Measured(float(np.mean(ratios))) if ratios else None


def _count(correct: int, total: int) -> Measured:
    return Measured(100 * correct / total, correct, total)
