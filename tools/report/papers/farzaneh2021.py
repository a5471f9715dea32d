"""[farzaneh2021]: right and wrong predictions (Fig. 3) and attention weights of single samples (Fig. 5)."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from data_prep import prepared_folder
from tools.report.paper_report import (
    Face,
    PaperFigure,
    Report,
    Row,
    Table,
    Target,
    confusion_matrices,
    uses,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from tools.evaluation.predictions import Prediction
    from tools.report.entries import Entry
    from tools.training.run import Run

# Of Fig. 3, right and wrong, of each data set.
SAMPLES = 7
# Fig. 5: samples of two classes; where one has no right prediction, the two classes that have most.
ATTENTION = {"neutral": 2, "surprise": 3}


def sections(entries: Sequence[Entry]) -> list[PaperFigure]:
    figure = attention(entries)
    return [figure] if figure else []


def samples(entries: Sequence[Entry]) -> PaperFigure:
    from data_prep.pictures import as_picture
    from tools.report import faces
    table: Table = [("data", "unit", "prediction", "true class", "probability")]
    rows = []
    for entry in entries:
        classes = entry.note["classes"]
        for title, right in (("right", True), ("wrong", False)):
            surest = faces.surest(entry, "test", right, SAMPLES)
            if surest:
                rows.append(Row(f"{entry.tested_on}, {title}", [
                    Face(as_picture(image), f"p: {classes[sample.predicted]}\nt: {classes[sample.label]}")
                    for image, sample in surest]))
            table += [(entry.tested_on, sample.unit, classes[sample.predicted], classes[sample.label],
                       faces.probability(sample)) for _, sample in surest]
    return PaperFigure("Right and wrong predictions ([farzaneh2021] Fig. 3)",
                       "The surest predictions, one class after the other; p: prediction, t: true class.", table,
                       rows=rows)


def attention(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    """Of the first entry that has an attention network and right predictions of two classes."""
    from tools.evaluation import forward
    from tools.report import faces
    entry = next((entry for entry in entries if entry.experiment.head["attention"] == "network"
                  and entry.run.is_finished and faces.predicted(entry.run, entry.shown_split or "test")), None)
    if not entry:
        return None
    run, split = entry.run, entry.shown_split or "test"
    right: dict[str, list[Prediction]] = {}
    for prediction in sorted(faces.predicted(run, split), key=faces.probability, reverse=True):
        if prediction.right:
            right.setdefault(entry.note["classes"][prediction.label], []).append(prediction)
    if len(right) < 2:
        return None
    most = sorted(right, key=lambda name: -len(right[name]))[:2]
    shown: dict[str, Prediction] = {}
    for name, count in zip(ATTENTION if set(ATTENTION) <= set(right) else most, ATTENTION.values()):
        shown.update({f"{name} {number}": prediction for number, prediction in enumerate(right[name][:count], start=1)})
    record_of = {row: record for record, row in enumerate(forward.read(run.info["data"], entry.note, split).rows)}
    weights = attention_weights(run, split, [record_of[faces.row_of(prediction)] for prediction in shown.values()])
    table: Table = [("sample", "unit", "dimension", "weight")]
    table += [(name, prediction.unit, dimension, value) for (name, prediction), row in zip(shown.items(), weights)
              for dimension, value in enumerate(row)]
    return PaperFigure(
        "Attention weights of single samples ([farzaneh2021] Fig. 5)",
        f"Of {entry.label}: the surest right predictions of two classes on the "
        f"{ {'test': 'test', 'val': 'validation'}[split]} split, one weight for each dimension.", table,
        [functools.partial(draw_attention, weights, list(shown))], "attention weights")


def attention_weights(run: Run, split: str, records: Sequence[int]) -> np.ndarray:
    """(len(records), D) weights of a DACL run's attention network on records of a split, by their numbers."""
    from common import files
    from prototxt import build
    from prototxt.builders import farzaneh2021, parts
    from tools.evaluation import forward
    note = prepared_folder.read_note(run.info["data"])
    images = forward.read(run.info["data"], note, split).images
    net = run.path("attention.prototxt")
    files.write_text(net, build.text(farzaneh2021.attention(run.experiment, parts.prepared(run.info["data"], note))))
    weights = forward.outputs(net, run.caffemodel(), forward.Images(images, records), ["attention"],
                              forward.transform(run.experiment))["attention"]
    return weights.reshape(len(records), -1)


def draw_attention(weights: np.ndarray, names: Sequence[str]) -> Figure:
    """The weights (samples, D) of each sample over the dimensions, one sample below the other."""
    import numpy as np
    from matplotlib.figure import Figure

    from tools.report import figures
    figure = Figure(figsize=(figures.WIDTH, 1.2 * len(names) + 0.5))
    for axes, values, name in zip(np.atleast_1d(figure.subplots(len(names), 1, sharex=True)), weights, names):
        axes.bar(np.arange(len(values)), values, width=1)
        axes.set(xlim=(-1, len(values)), ylim=(0, 1))
        axes.set_ylabel("weight", fontsize=8)
        axes.set_title(name, fontsize=8, loc="left", pad=3)
        axes.tick_params(labelsize=8)
        axes.spines["top"].set_visible(False)
        axes.spines["right"].set_visible(False)
    axes.set_xlabel("dimension of the feature", fontsize=8)
    figures.tighten(figure)
    return figure


REPORT = Report(
    targets={
        "farzaneh2021-fig3": Target("Right and wrong decisions of DACL on RAF-DB and AffectNet",
                                    uses("farzaneh2021", "raf_db-dacl affectnet-dacl"), samples),
        "farzaneh2021-fig4": Target(
            "Confusion matrices on RAF-DB and AffectNet",
            uses("farzaneh2021", "raf_db-softmax raf_db-center raf_db-dacl affectnet-softmax affectnet-center "
                                 "affectnet-dacl"), confusion_matrices),
        "farzaneh2021-fig5": Target("Attention weights of five samples", uses("farzaneh2021", "raf_db-dacl"),
                                    attention)},
    sections=sections,
    printed_in={"confusion": "Fig. 4", "samples": "Fig. 3"},
    # Its main.py.
    best_on_test=True)
