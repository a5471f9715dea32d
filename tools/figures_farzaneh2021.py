"""Figures of [farzaneh2021]: attention weights, confusion matrices side by side, faces right and wrong."""
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from matplotlib.figure import Figure

from data_prep import files, lmdb_io, prepare
from prototxt import build, farzaneh2021, parts
from tools import decisions, forward
from tools.run import Run


class Face(NamedTuple):
    """image: uint8 (height, width, 3) RGB; text: what stands below."""

    image: np.ndarray
    text: str


def attention_weights(run: Run, split: str, records: Sequence[int]) -> np.ndarray:
    """(len(records), D) weights of a DACL run's attention network on records of a split, by their numbers."""
    note = prepare.read_note(run.info["data"])
    images = forward.read(run.info["data"], note, split).images
    net = run.path("attention.prototxt")
    files.write_text(net, build.text(farzaneh2021.attention(run.experiment, parts.prepared(run.info["data"], note))))
    return forward.outputs(net, run.caffemodel(), (lmdb_io.decode(images[record])[0] for record in records),
                           len(records), ["attention"], forward.transform(run.experiment))["attention"].reshape(
                               len(records), -1)


def attention(weights: np.ndarray, names: Sequence[str]) -> Figure:
    """Fig. 5: the weights (samples, D) of each sample over the dimensions, one below the other."""
    figure = Figure(figsize=(8, 1.3 * len(names) + 0.5))
    for axes, values, name in zip(np.atleast_1d(figure.subplots(len(names), 1, sharex=True)), weights, names):
        axes.bar(np.arange(len(values)), values, width=1)
        axes.set(ylim=(0, 1), ylabel=name)
    axes.set_xlabel("dimension of the feature")
    return figure


def confusion_matrices(metrics: Sequence[Dict], titles: Sequence[str]) -> Figure:
    """Fig. 4: one beside the other, in % of the true class."""
    figure = Figure(figsize=(4.2 * len(metrics), 4.4), constrained_layout=True)
    for axes, one, title in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics, titles):
        counts = np.array(one["confusion"])
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            axes.text(column, row, "{:.1f}".format(share), ha="center", va="center", fontsize=6,
                      color="white" if share > 55 else "black")
        axes.set(xticks=range(len(counts)), yticks=range(len(counts)),
                 title="{}\naccuracy {:.2f}%, average {:.2f}%".format(
                     title, 100 * one["accuracy"], 100 * decisions.recalls(counts).mean()))
        axes.set_xticklabels(one["classes"], rotation=60, fontsize=7)
        axes.set_yticklabels(one["classes"], fontsize=7)
    return figure


def right_and_wrong(run: Run, split: str, count: int) -> List[List[Face]]:
    """Fig. 3: some faces that a run gets right, and some that it does not, with p(rediction) and t(rue label)."""
    note = prepare.read_note(run.info["data"])
    part = forward.read(run.info["data"], note, split)
    record_of = {row: record for record, row in enumerate(part.rows)}
    found: List[List[Face]] = [[], []]
    for one in decisions.read(run.path("decisions-{}.csv".format(split))):
        faces = found[not one.right]
        if len(faces) < count:
            image = lmdb_io.decode(part.images[record_of[one.rows[-1]]])[0]
            faces.append(Face(rgb(image), "p: {}\nt: {}".format(
                note["classes"][one.predicted], note["classes"][one.label])))
    return found


def rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (channels, height, width), BGR or grey -> (height, width, 3)."""
    return np.repeat(image, 3, axis=0).transpose(1, 2, 0) if len(image) == 1 else image[::-1].transpose(1, 2, 0)


def faces(rows: Sequence[Sequence[Face]], titles: Sequence[str]) -> Figure:
    """Faces in rows, with their texts below and the rows' titles at the left."""
    columns = max(1, *map(len, rows))
    figure = Figure(figsize=(1.3 * columns + 1, 1.7 * len(rows)))
    for axes_row, row, title in zip(figure.subplots(len(rows), columns, squeeze=False), rows, titles):
        for axes in axes_row:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        axes_row[0].set_ylabel(title, rotation=0, ha="right", va="center")
        for axes, face in zip(axes_row, row):
            axes.imshow(face.image)
            axes.set_xlabel(face.text, fontsize=7)
    return figure
