"""The figure that [farzaneh2021] alone has: attention weights."""
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from common import files
from data_prep import prepared_folder
from prototxt import build
from prototxt.builders import farzaneh2021, parts
from tools.evaluation import forward
from tools.report import figures
from tools.training.run import Run


def attention_weights(run: Run, split: str, records: Sequence[int]) -> np.ndarray:
    """(len(records), D) weights of a DACL run's attention network on records of a split, by their numbers."""
    note = prepared_folder.read_note(run.info["data"])
    images = forward.read(run.info["data"], note, split).images
    net = run.path("attention.prototxt")
    files.write_text(net, build.text(farzaneh2021.attention(run.experiment, parts.prepared(run.info["data"], note))))
    weights = forward.outputs(net, run.caffemodel(), forward.Images(images, records), ["attention"],
                              forward.transform(run.experiment))["attention"]
    return weights.reshape(len(records), -1)


def attention(weights: np.ndarray, names: Sequence[str]) -> Figure:
    """Fig. 5: the weights (samples, D) of each sample over the dimensions, one below the other."""
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
