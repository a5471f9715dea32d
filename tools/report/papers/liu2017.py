"""[liu2017]: training loss and validation accuracy epoch by epoch (Fig. 5 and 6)."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tools.report.paper_report import PaperFigure, Report, Table, Target, uses

if TYPE_CHECKING:
    from tools.report.entries import Entry
    from tools.report.training import Points


def sections(entries: Sequence[Entry]) -> list[PaperFigure]:
    return [figure for figure in (training_loss(entries), validation_accuracy(entries)) if figure]


def training_loss(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    from tools.report import training
    curves = []
    for entry in entries:
        length = entry.experiment.solver["test_interval"]
        curves.append([(iteration / length, loss) for iteration, loss in training.by_epoch(
            training.of(entry, "train softmax_loss"), length)])
    return _by_epoch(entries, curves, "softmax loss of training", "Training loss ([liu2017] Fig. 5)",
                     "The softmax loss, which all variants have: the mean of each epoch (test_interval) and of the "
                     "folds, from Caffe's logs.")


def validation_accuracy(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    from tools.report import training
    curves = [[(iteration / entry.experiment.solver["test_interval"], 100 * accuracy)
               for iteration, accuracy in training.of(entry, "val accuracy")] for entry in entries]
    return _by_epoch(entries, curves, "validation accuracy of single images, %",
                     "Validation accuracy ([liu2017] Fig. 6)",
                     "After each epoch (test_interval), of single images, as Caffe measures it: the mean of the folds.")


def _by_epoch(entries: Sequence[Entry], curves: Sequence[Points], ylabel: str, title: str, note: str
              ) -> Optional[PaperFigure]:
    """curves: (epoch, value) of each entry."""
    from tools.report import figures
    shown = [figures.Curve(entry.title, points, number)
             for number, (entry, points) in enumerate(zip(entries, curves)) if points]
    table: Table = [("run", "epoch", ylabel)]
    table += [(curve.label, *point) for curve in shown for point in curve.points]
    return PaperFigure(title, note, table, [functools.partial(figures.curves, shown, ylabel, "epoch")],
                       ylabel + ", epoch by epoch") if shown else None


VARIANTS = uses("liu2017", "sfew-1b-n1 sfew-2b-n1 sfew-1b-nm sfew-2b-nm", split="val")
REPORT = Report(
    targets={"liu2017-fig5": Target("Training loss of the variants on SFEW", VARIANTS, training_loss),
             "liu2017-fig6": Target("Validation accuracy of the variants on SFEW", VARIANTS, validation_accuracy)},
    sections=sections)
