"""[xie2019a]: its figures of `./fer reproduce`, and its sections of the page: the faces that tell runs apart (Fig. 8 to
10), adaptive loss weights (Fig. 12) and the choice of kappa (Table VIII)."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tools.report.paper_report import (
    Face,
    PaperFigure,
    Report,
    Row,
    Table,
    Target,
    Use,
    confusion_matrices,
    uses,
)

if TYPE_CHECKING:
    import numpy as np

    from tools.report.entries import Entry
    from tools.report.papers.xie2019a_faces import Comparison

# Plots of loss weights of an entry on the page: ten folds.
SHOWN_WEIGHTS = 10
# III-B: the runs of Fig. 8 to 11.
TOY = "fer2013-toy-norm fer2013-toy-center-norm-gabor"
GABOR_SVM = Use("", "svm", data="fer2013", column="GABOR")
TEN_SEEDS = tuple(range(1, 11))


def sections(entries: Sequence[Entry]) -> list[PaperFigure]:
    from tools.report.papers import xie2019a_faces
    compared = xie2019a_faces.compare(entries)
    shown = [kappas(entries)]
    if compared:
        shown += [_faces(compared), _heat_maps(compared), _feature_maps(compared)]
    shown += [_weights_of(entry) for entry in entries]
    return [figure for figure in shown if figure]


def kappas(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    """Table VIII of entries that differ in kappa, the largest first; None where there are not several."""
    from published import values
    from tools.report import tables
    from tools.training import schedules
    of_entries = [(schedules.of(entry.experiment), entry) for entry in entries]
    by_kappa = [(schedule.settings["kappa"], entry) for schedule, entry in of_entries
                if isinstance(schedule, schedules.AdaptiveWeights)]
    by_kappa.sort(key=lambda pair: -pair[0])
    if len({kappa for kappa, _ in by_kappa}) < 2:
        return None
    table: Table = [("kappa", "validation", "test", "published", "run")]
    notes: list[str] = []
    for kappa, entry in by_kappa:
        printed = {figure.split: figure.value for figure in values.read("xie2019a")
                   if (figure.table, figure.experiment) == ("VIII", entry.experiment.name)}
        departing = tables.departing(entry) if printed else []
        published = "{val}, {test}".format(**printed) if printed else ""
        if departing:
            why = "not compared: " + "; ".join(map(str, departing))
            notes += [] if why in notes else [why]
            published += f" [{notes.index(why) + 1}]"
        table.append((f"{kappa:g}", *(tables.accuracy(entry.metrics(split)) for split in ("val", "test")), published,
                      entry.title))
    note = " ".join(f"[{number}] {why}." for number, why in enumerate(notes, start=1))
    return PaperFigure("Kappa of Eq. (11) ([xie2019a] Table VIII)", note, table, is_table=True)


def _compare(entries: Sequence[Entry]) -> Optional[Comparison]:
    """None where there are no two runs to compare."""
    from tools.report.papers import xie2019a_faces
    compared = xie2019a_faces.compare(entries) if len(entries) > 1 else None
    return compared if compared and compared.pair else None


def feature_maps(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    compared = _compare(entries)
    return _feature_maps(compared) if compared else None


def faces_gained(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    compared = _compare(entries)
    return _faces(compared) if compared else None


def heat_maps(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    compared = _compare(entries)
    return _heat_maps(compared) if compared else None


def _feature_maps(compared: Comparison) -> PaperFigure:
    from tools.report import faces
    from tools.report.papers import xie2019a_faces
    maps_of = {"Gabor filters": compared.gabor}
    rows = [Row("", [Face(faces.grey(compared.images[0]), "the face"),
                     Face(xie2019a_faces.mosaic(compared.gabor), "Gabor filters", full=True)])]
    for title, maps in compared.maps.items():
        layers = {"first convolution": xie2019a_faces.most_varied(maps.first),
                  maps.name: xie2019a_faces.most_varied(maps.last)}
        maps_of.update({f"{title}, {layer}": blob for layer, blob in layers.items()})
        rows.append(Row(title, [Face(xie2019a_faces.mosaic(blob), layer, full=True)
                                for layer, blob in layers.items()]))
    table: Table = [("part", "map", "row", "values")]
    for title, blob in maps_of.items():
        for number, single in enumerate(blob):
            table += [(title, number, row, _text(values)) for row, values in enumerate(xie2019a_faces.tile(single))]
    return PaperFigure(
        "Feature maps beside Gabor responses ([xie2019a] Fig. 8)",
        f"Of the first face {_whose(compared)}. Gabor filters: the rows are wavelengths of 5.7, 8 and 11.3 pixels, "
        "the columns orientations of 0, 45, 67.5, 112.5 and 135 degrees. Nets: the paper does not say which layer it "
        f"shows; here are the first convolution and {_last_of(compared)}, of each the 15 maps that vary most, the "
        "most varied first. Each map goes from its least value (black) to its largest (white).", table, rows=rows)


def _faces(compared: Comparison) -> PaperFigure:
    from tools.report import faces
    from tools.report.papers import xie2019a_faces
    pair, classes = compared.pair, compared.classes
    rows = [Row("", [Face(faces.grey(image), "\n".join([classes[prediction.label]] + xie2019a_faces.other_classes(
        prediction, compared))) for image, prediction in zip(compared.images, compared.predictions)])]
    if not pair:
        return PaperFigure("Faces", "The surest right predictions of the first run.", [], rows=rows)
    ours, baseline = compared.titles[pair.ours], compared.titles[pair.baseline]
    table: Table = [("unit", "manifest row", "true class", ours, baseline, "GABOR, SVM")]
    for prediction in compared.predictions:
        row = faces.row_of(prediction)
        table.append((prediction.unit, row, classes[prediction.label], classes[prediction.predicted],
                      classes[pair.before[prediction.unit]], classes[pair.svm[row]] if pair.svm else ""))
    by_svm = ("The untuned SVM on GABOR was not measured." if pair.svm is None else
              f"The untuned SVM on GABOR gets {len(pair.gained_from_both)} of the former wrong too.")
    shown = ("those that the SVM gets wrong too" if pair.gained_from_both else "the former" if pair.gained else
             "faces that both runs get right, since there is no other")
    return PaperFigure(
        "Right with the feature loss alone ([xie2019a] Fig. 9)",
        f"{len(pair.gained)} test predictions are right with {ours} and wrong with {baseline}, {pair.lost} are the "
        f"other way round. {by_svm} Shown are the surest of {shown}, one class after the other.", table, rows=rows)


def _heat_maps(compared: Comparison) -> PaperFigure:
    from tools.report.papers import xie2019a_faces
    table: Table = [("run", "unit", "row", "values")]
    rows = []
    for title, maps in compared.maps.items():
        pictures = xie2019a_faces.heat_maps(compared, maps)
        rows.append(Row(title, [Face(picture, compared.classes[prediction.label])
                                for (picture, _), prediction in zip(pictures, compared.predictions)]))
        for (_, response), prediction in zip(pictures, compared.predictions):
            table += [(title, prediction.unit, row, _text(values)) for row, values in enumerate(response)]
    return PaperFigure(
        "Where the nets respond ([xie2019a] Fig. 10)",
        f"The mean over the maps of {_last_of(compared)}, linear between the centres of their receptive fields. The "
        "20% of the pixels with the largest values are in colour, the largest in red. The faces are those "
        f"{_whose(compared)}.", table, rows=rows)


def _last_of(compared: Comparison) -> str:
    """The layers whose maps are shown, besides the first convolution."""
    from tools.report.papers import xie2019a_faces
    others = sorted({maps.name for maps in compared.maps.values()} - {xie2019a_faces.Z})
    return xie2019a_faces.Z + (f" or, where its maps have one cell, the last larger maps before it "
                               f"({', '.join(others)})" if others else "")


def _whose(compared: Comparison) -> str:
    """Without two runs to compare, the page shows faces that are not those of Fig. 9."""
    return "of Fig. 9" if compared.pair else "above"


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def repetitions(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    import numpy as np

    from tools.report import figures
    table: Table = [("run", "seed", "correct", "total", "accuracy, %")]
    accuracies = []
    for entry in entries:
        seeds = entry.test_metrics["seeds"]
        percents = [100 * seed["correct"] / seed["total"] for seed in seeds]
        accuracies.append((entry.title, [percent / 100 for percent in percents]))
        table += [(entry.title, seed["name"], seed["correct"], seed["total"], percent)
                  for seed, percent in zip(seeds, percents)]
        table += [(entry.title, "mean", "", "", float(np.mean(percents))),
                  (entry.title, "variance", "", "", figures.deviation(percents) ** 2)]
    return PaperFigure(
        "Repetitions with other seeds ([xie2019a] Fig. 11)",
        "A dot is one run. Beside the dots are their mean and standard deviation. The variance is that of a sample, in "
        "squared percentage points.", table, [functools.partial(figures.repetitions, accuracies)],
        "test accuracy of repeated runs")


def loss_weights(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    from tools.report.papers import xie2019a_weights
    table: Table = [("fold", "round", "feature", "loss weight", "objective", "alone correct", "alone total")]
    draw = []
    for entry in entries:
        for run in xie2019a_weights.adapted(entry):
            draw.append(functools.partial(xie2019a_weights.loss_weights, run.rounds, run.name, run.alone))
            table += [(run.name, values["round"], feature, weight, values["objective"][feature],
                       *(run.alone.get(feature, {}).get(key, "") for key in ("correct", "total")))
                      for values in run.rounds for feature, weight in sorted(values["weights"].items())]
    return PaperFigure(
        "Adaptive loss weights ([xie2019a] Fig. 12)",
        "The two weights sum to 2 (Eq. (9)). Beside a feature's name is the test accuracy of its loss alone, in the "
        "last trial.", table, draw, "loss weights", columns=5, size=(1.75, 2.1)) if draw else None


def _weights_of(entry: Entry) -> Optional[PaperFigure]:
    """As the page has it: of a single run with its objectives."""
    from tools.report.papers import xie2019a_weights
    figure = loss_weights([entry])
    if not figure:
        return None
    draw = list(figure.draw)
    if entry.kind == "run":
        draw += [functools.partial(xie2019a_weights.objectives, run.rounds, "objectives, Eq. (11)")
                 for run in xie2019a_weights.adapted(entry)]
    return PaperFigure(f"Adaptive loss weights of {entry.title} ([xie2019a] Fig. 12)", figure.note, figure.table,
                       draw[:SHOWN_WEIGHTS], "loss weights over the rounds")


REPORT = Report(
    targets={
        "xie2019a-fig8": Target("Gabor filtered images, and feature maps learned with the softmax and the feature loss",
                                uses("xie2019a", TOY) + [GABOR_SVM], feature_maps),
        "xie2019a-fig9": Target("Faces that are right with the feature loss, and wrong with GABOR and with softmax",
                                uses("xie2019a", TOY) + [GABOR_SVM], faces_gained),
        "xie2019a-fig10": Target("Heat maps of the average feature maps with and without the feature loss",
                                 uses("xie2019a", TOY) + [GABOR_SVM], heat_maps),
        "xie2019a-fig11": Target("Means and variances of ten runs with the softmax and the feature loss",
                                 uses("xie2019a", TOY, seeds=TEN_SEEDS), repetitions),
        "xie2019a-fig12": Target("Loss weights of the alternative loss, fold by fold, on Oulu-CASIA",
                                 uses("xie2019a", "oulu_casia-alaw"), loss_weights),
        "xie2019a-fig13": Target("Confusion matrices of the alternative loss on the four databases",
                                 uses("xie2019a", "fer2013-alaw oulu_casia-alaw ckplus-alaw mmi-alaw"),
                                 confusion_matrices)},
    sections=sections,
    printed_in={"confusion": "Fig. 13", "repetitions": "Fig. 11", "svm": "Table II"})
