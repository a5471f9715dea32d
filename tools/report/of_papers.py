"""Figures that one of the papers has, of those of its runs that are given."""
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from data_prep import prepare
from tools import comparison, figures, figures_farzaneh2021, figures_wu2023, forward, segments
from tools.decisions import Decision
from tools.report import pictures, training
from tools.report.entries import Entry
from tools.run import Run

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


class Row(NamedTuple):
    """faces: a picture with the text below it."""

    title: str
    faces: List[Picture]


class PaperFigure(NamedTuple):
    """title: with the paper's number; note: what it is drawn from."""

    title: str
    note: str
    pictures: Sequence[Picture] = ()
    rows: Sequence[Row] = ()


def drawn(entries: Sequence[Entry]) -> List[PaperFigure]:
    """Those for which the given runs have what they need."""
    liu, farzaneh, wu = ([entry for entry in entries if entry.paper == paper] for paper in (
        "liu2017", "farzaneh2021", "wu2023"))
    paced = [entry for entry in wu if entry.run.experiment.pacing and _is_trained(entry.run)]
    # [wu2023] has Fig. 7 and 8 of disentangled features.
    shown = sorted(paced, key=lambda entry: entry.run.experiment.head["subtracted"] == "none")[:1]
    return list(filter(None, [
        _training_loss(liu), _attention(farzaneh), _accuracy_per_pace(paced, wu), _loss_with_paces(paced, wu),
        *map(_distribution, shown), *map(_excluded, shown)]))


def _is_trained(run: Run) -> bool:
    return run.snapshots()[-1:] == [run.info["iterations"]]


def _named(entry: Entry) -> str:
    return "{}{}".format(entry.title, entry.first and ", {}".format(entry.first))


def _training_loss(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    curves = [figures.Curve(entry.title, training.by_pass(
        training.of(entry, "train softmax_loss"), entry.run.experiment.solver["test_interval"]), number)
        for number, entry in enumerate(entries)]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    return PaperFigure(
        "Training loss ([liu2017] Fig. 5)",
        "The softmax loss, which all variants have, in the mean of each pass (test_interval); from Caffe's logs, of "
        "folds in the mean. The validation accuracy of Fig. 6 is above.",
        [Picture(pictures.svg(figures.curves(curves, "softmax loss of training")), "training loss, pass by pass")])


def _attention(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    entry = next((entry for entry in entries if entry.run.experiment.head["attention"] == "network"
                  and _is_trained(entry.run) and comparison.decided(entry.run, entry.shown_split or "test")), None)
    if not entry:
        return None
    run, split = entry.run, entry.shown_split
    note = prepare.read_note(run.info["data"])
    right: Dict[str, List[Decision]] = {}
    for one in sorted(comparison.decided(run, split), key=lambda one: -one.probabilities[one.predicted]):
        if one.right:
            right.setdefault(note["classes"][one.label], []).append(one)
    if len(right) < 2:
        return None
    chosen, names = [], []
    most = sorted(right, key=lambda name: -len(right[name]))[:2]
    for name, count in zip(ATTENTION if set(ATTENTION) <= set(right) else most, ATTENTION.values()):
        chosen += right[name][:count]
        names += ["{} {}".format(name, number) for number in range(1, len(right[name][:count]) + 1)]
    record_of = {row: record for record, row in enumerate(forward.read(run.info["data"], note, split).rows)}
    weights = figures_farzaneh2021.attention_weights(
        run, split, [record_of[comparison.shown(one)] for one in chosen])
    return PaperFigure(
        "Attention weights of single samples ([farzaneh2021] Fig. 5)",
        "Of {}: the surest right decisions of two classes on the {} part, one weight for each dimension.".format(
            _named(entry), {"test": "test", "val": "validation"}[split]),
        [Picture(pictures.svg(figures_farzaneh2021.attention(weights, names)), "attention weights")])


def _accuracy_per_pace(paced: Sequence[Entry], entries: Sequence[Entry]) -> Optional[PaperFigure]:
    if not paced:
        return None
    split = "val" if "val" in _parts(paced[0]) else "test"
    level = {}
    for entry in entries:
        decided = [] if entry.run.experiment.pacing else comparison.decided(entry.run, split)
        if decided:
            level[_named(entry)] = sum(one.right for one in decided) / len(decided)
    figure = figures_wu2023.accuracy_per_pace({
        _named(entry): figures_wu2023.accuracies(entry.run, split) for entry in paced if split in _parts(entry)}, level)
    part = {"val": "validation part, since nobody should choose by the test part; the paper has it of the test part",
            "test": "test part: there is no validation part"}[split]
    return PaperFigure(
        "Accuracy after each pace ([wu2023] Fig. 5)",
        "On the {}. Without paces: those that are evaluated on it, as levels.".format(part),
        [Picture(pictures.svg(figure), "accuracy after each pace")])


def _parts(entry: Entry) -> Dict[str, int]:
    return prepare.read_note(entry.run.info["data"])["records"]


def _loss_with_paces(paced: Sequence[Entry], entries: Sequence[Entry]) -> Optional[PaperFigure]:
    found = []
    for entry in paced:
        for other in entries:
            same = (other.run.experiment.head, other.run.info["data"]) == (
                entry.run.experiment.head, entry.run.info["data"])
            if same and not other.run.experiment.pacing and segments.chain(other.run):
                figure = figures_wu2023.loss_curves(
                    figures_wu2023.losses(entry.run), figures_wu2023.losses(other.run), entry.run.snapshots(),
                    (_named(entry), _named(other)))
                found.append(Picture(pictures.svg(figure), "training loss with and without self-paced learning"))
                break
    return PaperFigure(
        "Training loss with and without self-paced learning ([wu2023] Fig. 6)",
        "Of runs with the same net and data, from Caffe's logs. A line is the end of a pace, after which more samples "
        "are trained with.", found) if found else None


def _distribution(entry: Entry) -> Optional[PaperFigure]:
    run = entry.run
    names = prepare.read_note(run.info["data"])["classes"]
    last = figures_wu2023.paces(run)
    shown = sorted({min(pace, last) for pace in PACES if last > 1})
    chosen = DISTRIBUTION if set(DISTRIBUTION) <= set(names) else names[:2]
    if not shown:
        return None
    plots = [figures_wu2023.distribution(figures_wu2023.features(run, pace, [names.index(name) for name in chosen]),
                                         "pace {}".format(pace), names) for pace in shown]
    return PaperFigure(
        "Features of two classes at two paces ([wu2023] Fig. 7)",
        "Of {}: t-SNE of the features that are classified, of the training samples, by the weights that the pace "
        "begins with.".format(_named(entry)), [
            Picture(pictures.svg(figure), "t-SNE of the features") for figure in plots])


def _excluded(entry: Entry) -> Optional[PaperFigure]:
    run = entry.run
    rows = []
    for pace in range(1, figures_wu2023.paces(run) + 1):
        found = figures_wu2023.excluded(run, pace, EXCLUDED)
        if found:
            rows.append(Row("pace {}".format(pace), [
                Picture(pictures.jpeg(np.ascontiguousarray(image.transpose(1, 2, 0))), text)
                for image, text in found]))
    return PaperFigure(
        "Training samples that the paces leave out ([wu2023] Fig. 8)",
        "Of {}, drawn at random, each with its label and its loss before the pace.".format(_named(entry)),
        rows=rows) if rows else None
