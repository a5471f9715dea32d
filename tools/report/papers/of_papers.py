"""Figures that one of the papers has, of those of its runs that are given."""
import functools
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

import numpy as np
from matplotlib.figure import Figure

from data_prep import prepared_folder
from tools.evaluation import forward
from tools.evaluation.predictions import Decision
from tools.report import figures, pictures, training
from tools.report.entries import Entry
from tools.report.papers import comparison, farzaneh2021, wu2023
from tools.training import chain
from tools.training.run import Run

# As many as [wu2023] Fig. 8 has of each pace.
EXCLUDED = 8
# [farzaneh2021] Fig. 5: samples of two classes; where one has no right decision, the two that have most.
ATTENTION = {"neutral": 2, "surprise": 3}
# [wu2023] Fig. 7; of data without these classes the first two.
DISTRIBUTION = ("fear", "disgust")
PACES = (2, 5)


class Picture(NamedTuple):
    """uri: of data; alt: what stands for it."""

    uri: str
    alt: str


class Face(NamedTuple):
    """image: uint8 (H, W, 3) BGR, or grey (H, W); text: below it."""

    image: np.ndarray
    alt: str

    @property
    def uri(self) -> str:
        return pictures.jpeg(self.image)


class Row(NamedTuple):
    title: str
    faces: list[Face]


class PaperFigure(NamedTuple):
    """title: with the paper's number; note: what it is drawn from; draw: functions that draw a figure of their own, or
    onto given `axes` where there are several; alt: what stands for them; table: the numbers that are shown, below a
    row of names."""

    title: str
    note: str
    table: Sequence[Sequence]
    draw: Sequence[Callable[..., Figure]] = ()
    alt: str = ""
    rows: Sequence[Row] = ()

    @property
    def pictures(self) -> list[Picture]:
        return [Picture(pictures.svg(draw()), self.alt) for draw in self.draw]


def drawn(entries: Sequence[Entry]) -> list[PaperFigure]:
    """Those for which the given runs have what they need."""
    liu, farzaneh, wu = ([entry for entry in entries if entry.paper == paper] for paper in (
        "liu2017", "farzaneh2021", "wu2023"))
    paced = [entry for entry in wu if entry.run.experiment.pacing and is_trained(entry.run)]
    # [wu2023] has Fig. 7 and 8 of disentangled features.
    shown = sorted(paced, key=lambda entry: entry.run.experiment.head["subtracted"] == "none")[:1]
    return list(filter(None, [
        training_loss(liu), validation_accuracy(liu), attention(farzaneh), accuracy_per_pace(paced, wu),
        loss_with_paces(paced, wu), *map(distribution, shown), *map(excluded, shown)]))


def is_trained(run: Run) -> bool:
    return run.snapshots()[-1:] == [run.info["iterations"]]


def _named(entry: Entry) -> str:
    return "{}{}".format(entry.title, entry.first and f", {entry.first}")


def training_loss(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    return _by_epoch(entries, "train softmax_loss", 1, "softmax loss of training", "Training loss ([liu2017] Fig. 5)",
                     "The softmax loss, which all variants have, in the mean of each pass (test_interval); from "
                     "Caffe's logs, of folds in the mean.")


def validation_accuracy(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    return _by_epoch(entries, "val accuracy", 100, "validation accuracy of single images, %",
                     "Validation accuracy ([liu2017] Fig. 6)",
                     "After each pass (test_interval), of single images as Caffe measures it; of folds in the mean.")


def _by_epoch(entries: Sequence[Entry], name: str, factor: float, ylabel: str, title: str, note: str
              ) -> Optional[PaperFigure]:
    """An output of the nets, pass by pass; a loss in the mean of each."""
    curves = []
    for number, entry in enumerate(entries):
        length = entry.run.experiment.solver["test_interval"]
        points = training.of(entry, name)
        if name.startswith("train"):
            points = training.by_pass(points, length)
        curves.append(figures.Curve(entry.title, [(at / length, factor * value) for at, value in points], number))
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    return PaperFigure(
        title, note, [("run", "epoch", ylabel)] + [(curve.label, *point) for curve in curves for point in curve.points],
        [functools.partial(figures.curves, curves, ylabel, "epoch")], ylabel + ", pass by pass")


def attention(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    entry = next((entry for entry in entries if entry.run.experiment.head["attention"] == "network"
                  and is_trained(entry.run) and comparison.decided(entry.run, entry.shown_split or "test")), None)
    if not entry:
        return None
    run, split = entry.run, entry.shown_split
    note = prepared_folder.read_note(run.info["data"])
    right: dict[str, list[Decision]] = {}
    for one in sorted(comparison.decided(run, split), key=lambda one: -one.probabilities[one.predicted]):
        if one.right:
            right.setdefault(note["classes"][one.label], []).append(one)
    if len(right) < 2:
        return None
    chosen, names = [], []
    most = sorted(right, key=lambda name: -len(right[name]))[:2]
    for name, count in zip(ATTENTION if set(ATTENTION) <= set(right) else most, ATTENTION.values()):
        chosen += right[name][:count]
        names += [f"{name} {number}" for number in range(1, len(right[name][:count]) + 1)]
    record_of = {row: record for record, row in enumerate(forward.read(run.info["data"], note, split).rows)}
    weights = farzaneh2021.attention_weights(
        run, split, [record_of[comparison.shown(one)] for one in chosen])
    return PaperFigure(
        "Attention weights of single samples ([farzaneh2021] Fig. 5)",
        "Of {}: the surest right decisions of two classes on the {} part, one weight for each dimension.".format(
            _named(entry), {"test": "test", "val": "validation"}[split]),
        [("sample", "unit", "dimension", "weight")] + [
            (name, one.unit, dimension, value) for name, one, row in zip(names, chosen, weights)
            for dimension, value in enumerate(row)],
        [functools.partial(farzaneh2021.attention, weights, names)], "attention weights")


def accuracy_per_pace(paced: Sequence[Entry], entries: Sequence[Entry], split: Optional[str] = None
                      ) -> Optional[PaperFigure]:
    """split: None for the validation part where there is one."""
    if not paced:
        return None
    part = {"val": "validation part, since nobody should choose by the test part; the paper has it of the test part",
            "test": "test part: there is no validation part"}
    if split:
        part[split] = {"val": "validation part", "test": "test part"}[split]
    split = split or ("val" if "val" in _parts(paced[0]) else "test")
    level = {}
    for entry in entries:
        decided = [] if entry.run.experiment.pacing else comparison.decided(entry.run, split)
        if decided:
            level[_named(entry)] = sum(one.right for one in decided) / len(decided)
    found = {_named(entry): wu2023.accuracies(entry.run, split) for entry in paced if split in _parts(entry)}
    return PaperFigure(
        "Accuracy after each pace ([wu2023] Fig. 5)",
        f"On the {part[split]}. Without paces: those that are evaluated on it, as levels.",
        [("run", "pace", "accuracy, %")] + [(name, pace, 100 * value) for name, values in found.items()
                                            for pace, value in enumerate(values, start=1)]
        + [(name, "", 100 * value) for name, value in level.items()],
        [functools.partial(wu2023.accuracy_per_pace, found, level)], "accuracy after each pace")


def _parts(entry: Entry) -> dict[str, int]:
    return prepared_folder.read_note(entry.run.info["data"])["records"]


def loss_with_paces(paced: Sequence[Entry], entries: Sequence[Entry]) -> Optional[PaperFigure]:
    draw, table = [], [("run", "epoch", "training loss")]
    for entry in paced:
        for other in entries:
            same = (other.run.experiment.head, other.run.info["data"]) == (
                entry.run.experiment.head, entry.run.info["data"])
            if same and not other.run.experiment.pacing and chain.spans(other.run):
                points = [wu2023.by_epoch(one.run, wu2023.losses(one.run)) for one in (entry, other)]
                names = (_named(entry), _named(other))
                draw.append(functools.partial(wu2023.loss_curves, *points,
                                              wu2023.pace_epochs(entry.run), names))
                table += [(name, *point) for name, curve in zip(names, points) for point in curve]
                break
    return PaperFigure(
        "Training loss with and without self-paced learning ([wu2023] Fig. 6)",
        "Of runs with the same net and data, from Caffe's logs. A line is the end of a pace, after which more samples "
        "are trained with. An epoch of a pace has the pace's own samples.", table, draw,
        "training loss with and without self-paced learning") if draw else None


def distribution(entry: Entry) -> Optional[PaperFigure]:
    run = entry.run
    names = prepared_folder.read_note(run.info["data"])["classes"]
    last = wu2023.paces(run)
    shown = sorted({min(pace, last) for pace in PACES if last > 1})
    chosen = DISTRIBUTION if set(DISTRIBUTION) <= set(names) else names[:2]
    if not shown:
        return None
    found = {pace: wu2023.features(run, pace, [names.index(name) for name in chosen]) for pace in shown}
    return PaperFigure(
        "Features of two classes at two paces ([wu2023] Fig. 7)",
        f"Of {_named(entry)}: t-SNE of the features that are classified, of the training samples, by the weights "
        "that the pace "
        "begins with. Its settings are not printed: perplexity 30, scikit-learn's others, from the first two principal "
        "components.",
        [("pace", "class", "x", "y", "left out")] + [
            (pace, names[label], *place, int(not selected)) for pace, one in found.items()
            for place, label, selected in zip(one.places, one.labels, one.selected)],
        [functools.partial(wu2023.distribution, one, f"pace {pace}", names)
         for pace, one in found.items()], "t-SNE of the features")


def excluded(entry: Entry) -> Optional[PaperFigure]:
    run = entry.run
    found = {pace: wu2023.excluded(run, pace, EXCLUDED) for pace in range(1, wu2023.paces(run) + 1)}
    rows = [Row(f"pace {pace}", [Face(np.ascontiguousarray(one.image.transpose(1, 2, 0)), one.text)
                                         for one in left_out]) for pace, left_out in found.items() if left_out]
    return PaperFigure(
        "Training samples that the paces leave out ([wu2023] Fig. 8)",
        f"Of {_named(entry)}, drawn at random, each with its label and its loss before the pace.",
        [("pace", "training record", "class", "loss")] + [
            (pace, one.record, one.label, one.loss) for pace, left_out in found.items() for one in left_out],
        rows=rows) if rows else None
