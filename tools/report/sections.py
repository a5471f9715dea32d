"""What the page says of one run or group."""
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from data_prep.pictures import png
from tools.evaluation.departures import Departure
from tools.evaluation.predictions import Prediction
from tools.report import commands, faces, figures, paper_report, pictures, tables, training
from tools.report.commands import Commands
from tools.report.entries import Entry
from tools.training import chain, snapshots

FACES = 14


@dataclass(frozen=True)
class Sample:
    """A face with its prediction, as it is shown."""

    # PNG as a data URI.
    picture: str
    # Name of what was predicted: an image or a sequence.
    unit: str
    # Names of the true and of the predicted class.
    label: str
    predicted: str
    # Of the predicted class.
    probability: float


@dataclass(frozen=True)
class Section:
    """What the page says of an entry; of a group, files, faces and settings are those of its first run."""

    entry: Entry
    # run.json.
    info: dict[str, Any]
    # "val" and "test" -> metrics, None where they are not evaluated.
    metrics: dict[str, Optional[dict]]
    # What the paper prints of the experiment.
    published: list[str]
    # Why that is not to be compared with.
    departures: list[Departure]
    # What trained and what evaluated it, None where it is not evaluated.
    computed: Optional[str]
    # Which snapshot it is, in words; None for the last one.
    chosen: Optional[str]
    # The best snapshots.
    snapshots: list[tables.BestSnapshot]
    # Split of the confusion matrix and of the samples, None where no split is evaluated.
    split: Optional[str]
    # SVG as a data URI.
    confusion: Optional[str]
    # The surest predictions.
    right: list[Sample]
    wrong: list[Sample]
    # Where the paper prints samples like these, "" where it does not.
    samples_printed_in: str
    # How to run it again.
    again: Commands
    # Text of train_val.prototxt and of solver.prototxt, "" where training has not come so far.
    definition: str
    solver: str
    # Of each run that Caffe tested on the validation split.
    validated: list[training.Validated]
    # Name in Caffe's log -> its last value; of a run alone.
    final: dict[str, float]


def section(entry: Entry) -> Section:
    last = chain.spans(entry.run)[-1].segment
    metrics = {split: entry.metrics(split) for split in ("val", "test")}
    split = entry.shown_split
    shown = metrics[split] if split else None
    printed_in = paper_report.of(entry.paper).printed_in.get("samples")
    return Section(
        entry=entry, info=entry.info, metrics=metrics, published=tables.published(entry),
        departures=tables.departing(entry), computed=tables.computed(entry),
        chosen=snapshots.described(entry.iterations, entry.snapshot), snapshots=tables.best_snapshots(entry),
        split=split, confusion=pictures.svg(figures.confusion_matrix(shown)) if shown else None,
        right=_samples(entry, split, True) if split else [], wrong=_samples(entry, split, False) if split else [],
        samples_printed_in=f" ([{entry.paper}] {printed_in})" if printed_in else "", again=commands.again(entry),
        definition=_text(last.path("train_val.prototxt")), solver=_text(last.path("solver.prototxt")),
        validated=training.validated(entry),
        final={name: points[-1][1] for name, points in chain.curves(entry.run).items()}
        if entry.kind == "run" else {})


def _text(path: str) -> str:
    """"" where there is no such file yet."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _samples(entry: Entry, split: str, right: bool) -> list[Sample]:
    return [_sample(image, prediction, entry.note["classes"])
            for image, prediction in faces.surest(entry, split, right, FACES)]


def _sample(image: np.ndarray, prediction: Prediction, classes: Sequence[str]) -> Sample:
    return Sample(png(image.transpose(1, 2, 0)), prediction.unit, classes[prediction.label],
                  classes[prediction.predicted], faces.probability(prediction))
