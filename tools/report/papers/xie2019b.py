"""[xie2019b]: its figures of `./fer reproduce`."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tools.report.paper_report import PaperFigure, Report, Table, Target, uses

if TYPE_CHECKING:
    from tools.report.entries import Entry

# Of Fig. 7 (b).
EXPRESSION = "fear"


def respond_ratios(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    import numpy as np

    from tools.analysis import respond_ratio
    from tools.report import figures
    ratios: dict[str, dict[str, float]] = {}
    for entry in entries:
        rows = [row for row in (respond_ratio.read(run).get(EXPRESSION) for run in entry.runs) if row]
        if rows:
            ratios[entry.title] = {part: float(np.mean([row[part] for row in rows])) for part in rows[0]}
    if not ratios:
        return None
    table: Table = [("run", "part", "RespondRatio")]
    table += [(title, part, value) for title, row in ratios.items() for part, value in row.items()]
    return PaperFigure(
        "RespondRatio of fear ([xie2019b] Fig. 7 (b))",
        "The mean over folds. Fig. 7 (a) is a drawing of the net and (c) to (f) are example faces of MMI: they show no "
        "results.", table, [functools.partial(figures.respond_ratios, ratios, EXPRESSION)], "RespondRatio of fear")


def roc_curves(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    from tools.report import figures, tables
    curves = tables.average_roc(entries)
    if not curves:
        return None
    table: Table = [("run", "AUC", "false positive rate", "true positive rate")]
    table += [(title, curve.area, *point) for title, curve in curves.items()
              for point in zip(curve.false_positive, curve.true_positive)]
    return PaperFigure(
        "ROC curves on the test split ([xie2019b] Fig. 8)",
        "Each class is set against the others by its own probability. Shown is the mean of the classes.", table,
        [functools.partial(figures.roc_curves, curves)], "average ROC curves")


def accuracy_of_snapshots(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    from tools.evaluation import evaluate
    from tools.report import figures
    table: Table = [("run", "part", "iteration", "correct", "total", "accuracy, %")]
    curves = []
    for number, entry in enumerate(entries):
        for split, name in (("val", "validation"), ("test", "test")):
            snapshots = evaluate.saved_snapshots(entry.run, split)
            points = [(snapshot["iteration"], 100 * snapshot["correct"] / snapshot["total"])
                      for snapshot in snapshots]
            if points:
                curves.append(figures.Curve(f"{entry.title}, {name}", points, number, dashed=split == "val"))
            table += [(entry.title, name, snapshot["iteration"], snapshot["correct"], snapshot["total"], percent)
                      for snapshot, (_, percent) in zip(snapshots, points)]
    return PaperFigure(
        "Accuracy of all snapshots ([xie2019b] Fig. 9)",
        "The paper's axis is read as iterations (\"1K=1000\"). These curves choose nothing: tables have the last "
        "snapshot.", table, [functools.partial(figures.curves, curves, "accuracy, %")], "accuracy of snapshots")


REPORT = Report(
    targets={
        "xie2019b-fig7": Target(
            "L2-norm regularization against L2 sparseness: the importance of parts of the face",
            uses("xie2019b", "mmi-one_map-norm mmi-one_map-l2", measure="respond_ratio"), respond_ratios),
        "xie2019b-fig8": Target("Average ROC curves and their AUC", uses("xie2019b", "fer2013-softmax fer2013-l2"),
                                roc_curves),
        "xie2019b-fig9": Target(
            "Validation and test accuracies of L2-norm regularization and L2 sparseness",
            uses("xie2019b", "fer2013-norm-2 fer2013-norm-0.5 fer2013-norm-learned fer2013-l2",
                 measure="every_snapshot"), accuracy_of_snapshots)},
    printed_in={"roc": "Fig. 8", "respond_ratio": "Table 2, Fig. 7 (b)"})
