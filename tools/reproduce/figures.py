"""The papers' figures as `./fer reproduce` draws them: those of the report, of the runs that a figure takes, each with
the numbers that it shows.

    OUT/<figure>.png, .svg
    OUT/<figure>.csv            the numbers; `comparable`: "no" where something departs from the paper
    OUT/<figure>.md             what it shows, of which runs, and in what they depart
"""
import csv
import functools
import io
import itertools
import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common import files
from data_prep import prepared_folder
from tools.analysis import respond_ratio
from tools.evaluation import departures, evaluate
from tools.evaluation.departures import Departure
from tools.report import entries, figures, sections, tables
from tools.report.entries import Entry
from tools.report.papers import comparison, of_papers, xie2019a
from tools.report.papers.of_papers import Face, PaperFigure, Row
from tools.reproduce.plan import Cell, Plan
from tools.reproduce.targets import TARGETS
from tools.training import groups
from tools.training.run import Run

# Of [farzaneh2021] Fig. 3, right and wrong, of each data set.
SAMPLES = 7
PNG_DPI = 200
KINDS = ("png", "svg", "csv", "md")
# Letters of the caption to an inch.
LETTERS = 16
# Inches above it.
CAPTION_GAP = 0.12


class Drawn(NamedTuple):
    """paths: of what was written, in the order of KINDS, none where nothing could be drawn; notes: what a reader must
    know."""

    name: str
    paths: list[str]
    notes: list[str]


def write(made: Plan, out: str, keep: bool = True) -> Iterator[Drawn]:
    """Draws the figures of a plan into a folder, as far as their runs are trained and evaluated. keep: False to say
    only what is missing of them, and which pictures are there."""
    for name, cells in made.drawn.items():
        found, missing = _measured(cells)
        departing = _departing(found, cells, {use.experiment: len(use.seeds) or 1 for use in TARGETS[name].uses})
        notes = departing + missing
        if not keep:
            paths = [f"{os.path.join(out, name)}.{kind}" for kind in KINDS]
            yield Drawn(name, list(filter(os.path.exists, paths)), notes)
            continue
        figure = globals()[TARGETS[name].draw](found) if found else None
        if not figure:
            yield Drawn(name, [], notes + ["not drawn: its runs are not there yet" if not found else
                                           "not drawn: the runs have not what it shows"])
            continue
        paper, _, number = name.partition("-fig")
        caption = [f"[{paper}] Fig. {number}: {TARGETS[name].title}. {figure.note}"] + notes
        prefix = os.path.join(out, name)
        paths = [*_write_pictures(prefix, figure, caption), _write_table(prefix, figure, not departing),
                 _write_note(prefix, caption, found)]
        yield Drawn(name, paths, [figure.note] + notes)


def _measured(cells: Sequence[Cell]) -> tuple[list[Entry], list[str]]:
    """The runs and groups that are trained and evaluated, with the experiments' titles, and what is missing."""
    there, notes = [], []
    for figure, folder in cells:
        if not figure.experiment:
            continue
        if not folder:
            notes.append(f"without {figure.experiment}: no data")
            continue
        one = groups.open_(folder)
        if _is_done(one, figure.measure, figure.split):
            there.append(one)
        else:
            notes.append(f"without {figure.experiment}: not measured")
    return entries.entries(there) if there else [], notes


def _is_done(one, measure: str, split: str) -> bool:
    runs = groups.runs(one)
    if not all(os.path.exists(run.path("run.json")) and of_papers.is_trained(run) for run in runs):
        return False
    if measure == "respond_ratio":
        return all(os.path.exists(run.path(respond_ratio.FILE)) for run in runs)
    if measure == "every_snapshot":
        return all(evaluate.kept_snapshots(run, "test") for run in runs)
    return os.path.exists(evaluate.metrics_path(one, split))


def _departing(given: Sequence[Entry], cells: Sequence[Cell], trainings: dict[str, int]) -> list[str]:
    """In what they depart from the paper: what all have in common first. trainings: of each experiment."""
    found = {entry.title: departures.of_runs(groups.runs(entry.one), trainings.get(entry.run.experiment.name))
             for entry in given}
    found.update({f"the SVM on {figure.column}": departures.of_data(
        prepared_folder.any_note(folder), figure.data, [figure.column]) for figure, folder in cells
        if folder and given and not figure.experiment})
    shared: dict[tuple[str, ...], list[Departure]] = {}
    for one in dict.fromkeys(one for departing in found.values() for one in departing):
        shared.setdefault(tuple(title for title in found if one in found[title]), []).append(one)
    return ["Departures {}from the paper: {}".format(
        "" if len(titles) == len(found) else "of {} ".format("; ".join(titles)), "; ".join(map(str, departing)))
        for titles, departing in sorted(shared.items(), key=lambda item: -len(item[0]))]


def _write_pictures(prefix: str, figure: PaperFigure, caption: Sequence[str]) -> Iterator[str]:
    drawn = _composed(figure)
    wrapped = [line for part in caption for line in textwrap.wrap(part, max(40, int(LETTERS * drawn.get_figwidth())))]
    drawn.text(0, _bottom(drawn), "\n".join(wrapped), va="top", fontsize=8)
    for kind, settings in (("png", {"dpi": PNG_DPI, "metadata": {"Software": None}}),
                           ("svg", {"metadata": {"Date": None}})):
        stream = io.BytesIO()
        # Without the date and random ids the same runs give the same bytes.
        with matplotlib.rc_context({"svg.hashsalt": "caffe-fer"}):
            drawn.savefig(stream, format=kind, bbox_inches="tight", facecolor="white", **settings)
        path = f"{prefix}.{kind}"
        with files.replacing(path) as partial, open(partial, "wb") as target:
            target.write(stream.getvalue())
        yield path


def _write_table(prefix: str, figure: PaperFigure, comparable: bool) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [*map(_number, row), last] for row, last in zip(figure.table, itertools.chain(
            ["comparable"], itertools.repeat("yes" if comparable else "no"))))
    files.write_text(prefix + ".csv", text.getvalue())
    return prefix + ".csv"


def _write_note(prefix: str, caption: Sequence[str], given: Sequence[Entry]) -> str:
    lines = ["# " + os.path.basename(prefix), "", caption[0], ""] + ["- " + note for note in caption[1:]]
    lines += [f"- {entry.title}: `{os.path.relpath(entry.one.folder, os.path.dirname(prefix))}`"
              for entry in given]
    files.write_text(prefix + ".md", "\n".join(lines) + "\n")
    return prefix + ".md"


def _bottom(drawn: Figure) -> float:
    """Below all that is drawn, as a share of the height."""
    box = drawn.get_tightbbox(FigureCanvasAgg(drawn).get_renderer())
    return (box.y0 - CAPTION_GAP) / drawn.get_figheight()


def _number(cell):
    return f"{cell:.6g}" if isinstance(cell, (float, np.floating)) else cell


def _composed(figure: PaperFigure) -> Figure:
    """One figure of all its parts."""
    if figure.rows:
        return figures.strips([(row.title, [(face.image, face.alt) for face in row.faces]) for row in figure.rows])
    if len(figure.draw) == 1:
        return figure.draw[0]()
    return figures.side_by_side(figure.draw, *SHAPES.get(figure.alt, (2 if len(figure.draw) == 4 else 3, (3.3, 3.2))))


# What stands for a part -> columns, and inches of each.
SHAPES = {"loss weights": (5, (1.75, 2.1)), "t-SNE of the features": (2, (4.6, 4.3))}


def _titles(given: Sequence[Entry]) -> dict[Run, str]:
    return {entry.run: entry.title for entry in given}


def _found(given: Sequence[Entry]) -> Optional[xie2019a.Found]:
    found = xie2019a.find(_titles(given)) if len(given) > 1 else None
    return found if found and found.pair else None


def _chosen(found: xie2019a.Found) -> str:
    if found.pair.gained_from_both:
        return "The untuned SVM on GABOR has it wrong too."
    if found.pair.gained:
        return "The untuned SVM on GABOR is not known, or has such faces right."
    return "For want of such, it is one that both get right."


def feature_maps(given: Sequence[Entry]) -> Optional[PaperFigure]:
    found = _found(given)
    if not found:
        return None
    parts = {"Gabor filters": found.gabor}
    for title, maps in found.maps.items():
        parts[title + ", first convolution"] = xie2019a.varied(maps.first)
        parts[title + ", FC1's input"] = xie2019a.varied(maps.z)
    table = [("part", "map", "row", "values")]
    for title, maps in parts.items():
        for number, single in enumerate(maps):
            table += [(title, number, row, " ".join(f"{value:.6g}" for value in values))
                      for row, values in enumerate(_tile(single))]
    return PaperFigure(
        "Feature maps beside Gabor responses ([xie2019a] Fig. 8)",
        f"Of a face that is right with the feature loss alone. {_chosen(found)} Gabor filters: wavelengths 5.7, 8 "
        "and 11.3 pixels "
        "(rows), orientations 0, 45, 67.5, 112.5 and 135 degrees. Nets: which layer is shown is not printed; here the "
        "first convolution and FC1's input, of each the 15 maps that vary most, most first. Each map from its own "
        "least value (black) to its largest (white).", table,
        rows=[Row("", [Face(comparison.grey(found.images[0]), "the face"),
                       Face(xie2019a.mosaic(found.gabor), "Gabor filters")])] + [
            Row(title, [Face(xie2019a.mosaic(xie2019a.varied(blob)), name) for blob, name in (
                (maps.first, "first convolution"), (maps.z, "FC1's input"))]) for title, maps in found.maps.items()])


def _tile(single: np.ndarray) -> np.ndarray:
    """No larger than it is drawn."""
    side = xie2019a.TILE_PIXELS
    return single if max(single.shape) <= side else cv2.resize(single, (side, side), interpolation=cv2.INTER_AREA)


def faces_gained(given: Sequence[Entry]) -> Optional[PaperFigure]:
    found = _found(given)
    if not found:
        return None
    titles, pair = _titles(given), found.pair
    table = [("unit", "manifest row", "true class", titles[pair.ours], titles[pair.baseline], "GABOR, SVM")]
    for one in found.decisions:
        table.append((one.unit, comparison.shown(one), *(found.classes[label] for label in (
            one.label, one.predicted, pair.before[one.unit])),
            found.classes[pair.svm[comparison.shown(one)]] if pair.svm else ""))
    return PaperFigure(
        "Right with the feature loss alone ([xie2019a] Fig. 9)",
        f"{len(pair.gained)} test decisions are right by {titles[pair.ours]} and wrong by {titles[pair.baseline]}, "
        f"{pair.lost} the other way round. Shown are the surest, class by "
        f"class. {_chosen(found)}",
        table,
        rows=[Row("", [Face(comparison.grey(image), "\n".join(
            [found.classes[one.label]] + [textwrap.fill(said, 22) for said in xie2019a.others(one, found, titles)]))
            for image, one in zip(found.images, found.decisions)])])


def heat_maps(given: Sequence[Entry]) -> Optional[PaperFigure]:
    found = _found(given)
    if not found:
        return None
    table, rows = [("run", "unit", "row", "values")], []
    for title, maps in found.maps.items():
        strip = xie2019a.heat(found, maps)
        rows.append(Row(title, [Face(picture, found.classes[one.label])
                                for (picture, _), one in zip(strip, found.decisions)]))
        for (_, response), one in zip(strip, found.decisions):
            table += [(title, one.unit, row, " ".join(f"{value:.6g}" for value in values))
                      for row, values in enumerate(response)]
    return PaperFigure(
        "Where the nets respond ([xie2019a] Fig. 10)",
        "The mean over FC1's input maps, linear between the centres of their receptive fields. In colour the 20% of "
        "the pixels with the largest values, red for the largest. The faces are those of Fig. 9.", table, rows=rows)


def repetitions(given: Sequence[Entry]) -> Optional[PaperFigure]:
    table, found = [("run", "seed", "correct", "total", "accuracy, %")], []
    for entry in given:
        seeds = entry.metrics("test")["seeds"]
        shares = [100 * one["correct"] / one["total"] for one in seeds]
        found.append((entry.title, [share / 100 for share in shares]))
        table += [(entry.title, one["name"], one["correct"], one["total"], share) for one, share in zip(seeds, shares)]
        table += [(entry.title, "mean", "", "", float(np.mean(shares))),
                  (entry.title, "variance", "", "", figures.deviation(shares) ** 2)]
    return PaperFigure(
        "Repetitions with other seeds ([xie2019a] Fig. 11)",
        "A dot is one run; beside it the mean and the standard deviation. Variance in squared points of percent, of a "
        "sample.", table, [functools.partial(figures.repetitions, found)], "test accuracy of repeated runs")


def loss_weights(given: Sequence[Entry]) -> Optional[PaperFigure]:
    table, draw = [("fold", "round", "feature", "loss weight", "objective", "alone correct", "alone total")], []
    for entry in given:
        for name, rounds, alone in sections.adapted(entry):
            draw.append(functools.partial(figures.loss_weights, rounds, name, alone))
            table += [(name, one["round"], feature, weight, one["objective"][feature],
                       *(alone.get(feature, {}).get(key, "") for key in ("correct", "total")))
                      for one in rounds for feature, weight in sorted(one["weights"].items())]
    return PaperFigure(
        "Adaptive loss weights ([xie2019a] Fig. 12)",
        "The two weights sum to 2 (Eq. (9)). Beside a feature's name: what its loss gets right on the fold's test part "
        "by itself, in the last trial.", table, draw, "loss weights") if draw else None


def confusion_matrices(given: Sequence[Entry]) -> Optional[PaperFigure]:
    table, draw = [("run", "data", "true class", "decision", "count", "% of the true class")], []
    for entry in given:
        metrics = entry.metrics("test")
        data, method = _data(entry), entry.run.experiment.title
        title = "{}\n{}, {:.2f}%".format(data, method, 100 * metrics["accuracy"])
        draw.append(functools.partial(figures.confusion_matrix, metrics, title))
        shares = figures.confusion_shares(metrics)
        table += [(method, data, metrics["classes"][row], metrics["classes"][column],
                   count, float(shares[row, column])) for (row, column), count in np.ndenumerate(metrics["confusion"])]
    return PaperFigure("Confusion matrices", "In % of the true class (count); folds are summed.", table, draw,
                       "confusion matrices")


def _data(entry: Entry) -> str:
    """The data that it is tested on, and what they stand in for."""
    here, wanted = entry.metrics("test")["dataset"], entry.run.experiment.data
    return here if here == wanted else f"{here} for {wanted}"


def respond_ratios(given: Sequence[Entry]) -> Optional[PaperFigure]:
    found = {}
    for entry in given:
        rows = [respond_ratio.read(run).get("fear") for run in groups.runs(entry.one)]
        rows = [row for row in rows if row]
        if rows:
            found[entry.title] = {part: float(np.mean([row[part] for row in rows])) for part in rows[0]}
    if not found:
        return None
    return PaperFigure(
        "RespondRatio of fear ([xie2019b] Fig. 7 (b))",
        "Of folds the mean. (a) is a drawing of the net, (c) to (f) are example faces of MMI: neither has results.",
        [("run", "part", "RespondRatio")] + [(title, part, value) for title, row in found.items()
                                             for part, value in row.items()],
        [functools.partial(figures.respond_ratios, found, "fear")], "RespondRatio of fear")


def roc_curves(given: Sequence[Entry]) -> Optional[PaperFigure]:
    found = tables.average_roc(given)
    return PaperFigure(
        "ROC curves on the test part ([xie2019b] Fig. 8)",
        "Each class against the others by its own probability; the mean of the classes.",
        [("run", "AUC", "false positive rate", "true positive rate")] + [
            (title, curve.area, *point) for title, curve in found.items()
            for point in zip(curve.false_positive, curve.true_positive)],
        [functools.partial(figures.roc_curves, found)], "average ROC curves") if found else None


def accuracy_of_snapshots(given: Sequence[Entry]) -> Optional[PaperFigure]:
    table, curves = [("run", "part", "iteration", "correct", "total", "accuracy, %")], []
    for number, entry in enumerate(given):
        for split, part in (("val", "validation"), ("test", "test")):
            kept = evaluate.kept_snapshots(entry.run, split)
            points = [(one["iteration"], 100 * one["correct"] / one["total"]) for one in kept]
            if points:
                curves.append(figures.Curve(f"{entry.title}, {part}", points, number, dashed=split == "val"))
            table += [(entry.title, part, one["iteration"], one["correct"], one["total"], share)
                      for one, (_, share) in zip(kept, points)]
    return PaperFigure(
        "Accuracy of all snapshots ([xie2019b] Fig. 9)",
        "Its axis is read as iterations (\"1K=1000\"). Nothing is chosen by these curves: tables have the last "
        "snapshot.", table, [functools.partial(figures.curves, curves, "accuracy, %")], "accuracy of snapshots")


def training_loss(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.training_loss(given)


def validation_accuracy(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.validation_accuracy(given)


def samples(given: Sequence[Entry]) -> Optional[PaperFigure]:
    rows, table = [], [("data", "unit", "prediction", "true class", "probability")]
    for entry in given:
        classes = prepared_folder.read_note(entry.run.info["data"])["classes"]
        dataset = _data(entry)
        for title, found in zip(("right", "wrong"), sections.surest(entry, "test", SAMPLES)):
            if found:
                rows.append(Row(f"{dataset}, {title}", [
                    Face(_picture(image), f"p: {classes[one.predicted]}\nt: {classes[one.label]}")
                    for image, one in found]))
            table += [(dataset, one.unit, classes[one.predicted], classes[one.label],
                       float(one.probabilities[one.predicted])) for _, one in found]
    return PaperFigure("Right and wrong decisions ([farzaneh2021] Fig. 3)",
                       "The surest decisions, one class after the other; p: prediction, t: true class.", table,
                       rows=rows)


def _picture(image: np.ndarray) -> np.ndarray:
    """(channels, height, width) as it is drawn."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def attention(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.attention(given)


def accuracy_per_pace(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.accuracy_per_pace([entry for entry in given if entry.run.experiment.pacing], given, "test")


def loss_with_paces(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.loss_with_paces([entry for entry in given if entry.run.experiment.pacing], given)


def distribution(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.distribution(given[0])


def excluded(given: Sequence[Entry]) -> Optional[PaperFigure]:
    return of_papers.excluded(given[0])
