"""Drawing: Matplotlib figures and small pictures of what runs and nets have to show."""
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import cv2
import matplotlib.cm
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.evaluation import roc

COLORS = ("#1f77b4", "#d95f02", "#2ca02c", "#7b4fa3", "#8c564b", "#666666")
# Width of a figure that stands beside another one, in inches; a phone shows it at about its own size.
WIDTH = 5.4
# Of a line below a picture of `strips`.
LETTERS = 22


@dataclass(frozen=True)
class Curve:
    """A line of `curves`."""

    label: str
    # (iteration, value).
    points: Sequence[tuple[float, float]]
    # Number of the run, which chooses the colour.
    color: int
    # A noisy one, drawn without markers.
    thin: bool = False
    # To tell two curves of a run apart.
    dashed: bool = False


def curves(drawn: Sequence[Curve], ylabel: str, xlabel: str = "iteration") -> Figure:
    """Values over the iterations, or over what xlabel says."""
    figure, axes = plain(WIDTH, 3.4)
    for curve in drawn:
        style: dict[str, Any] = dict(linewidth=0.9, alpha=0.55) if curve.thin else dict(marker="o", markersize=3)
        axes.plot(*zip(*curve.points), color=COLORS[curve.color % len(COLORS)], label=curve.label,
                  linestyle="--" if curve.dashed else "-", **style)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16),
                ncol=2 if len(drawn) > 4 else 1)
    return figure


def confusion_matrix(metrics: dict, title: str = "", axes: Optional[Axes] = None) -> Figure:
    """Row: true class, in % of it; counts below. axes: to draw on, else those of a figure of its own."""
    counts, shares = np.array(metrics["confusion"]), confusion_shares(metrics)
    sizes = {"cells": 5.5, "ticks": 7, "labels": 8} if axes else {"cells": 7, "ticks": 10, "labels": 10}
    axes = axes or Figure(figsize=(4.8, 4.4)).subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, f"{shares[row, column]:.0f}\n({count})", ha="center", va="center",
                      fontsize=sizes["cells"], color="white" if shares[row, column] > 55 else "black")
    ticks = range(len(metrics["classes"]))
    axes.set(xticks=ticks, yticks=ticks)
    axes.set_xlabel("prediction", fontsize=sizes["labels"])
    axes.set_ylabel("true class", fontsize=sizes["labels"])
    axes.set_xticklabels(metrics["classes"], rotation=40, ha="right")
    axes.set_yticklabels(metrics["classes"])
    axes.tick_params(length=0, labelsize=sizes["ticks"])
    axes.set_title(title, fontsize=sizes["labels"])
    return axes.figure


def confusion_shares(metrics: dict) -> np.ndarray:
    """(classes, classes): in % of the true class, which is the row."""
    counts = np.array(metrics["confusion"])
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def repetitions(groups: Sequence[tuple[str, Sequence[float]]]) -> Figure:
    """Each run's accuracy (a fraction) as a dot; mean and standard deviation of each group."""
    figure, axes = plain(WIDTH, 3.4)
    for place, values in enumerate(100 * np.array(accuracies) for _, accuracies in groups):
        color = COLORS[place % len(COLORS)]
        axes.plot(place + np.linspace(-0.2, -0.08, len(values)), values, "o", markersize=3, alpha=0.6, color=color)
        axes.errorbar(place + 0.08, values.mean(), deviation(values), marker="D", markersize=6, capsize=5,
                      linewidth=1.5, color=color)
        axes.annotate(f"{values.mean():.2f}\nvariance {deviation(values) ** 2:.2f}",
                      (place + 0.08, values.mean()), (8, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set(xlim=(-0.5, len(groups) - 0.3), ylabel="test accuracy, %")
    axes.set_xticks(range(len(groups)))
    axes.set_xticklabels([title.replace(" + ", "\n+ ") for title, _ in groups], fontsize=8)
    return figure


def accuracies(groups: Sequence[tuple[str, Sequence[float]]], label: str) -> Figure:
    """A line for each group of values, the first one on top: a dot for each value, the mean, the standard deviation."""
    figure, axes = plain(WIDTH, 0.8 + 0.32 * len(groups))
    for place, (_, values) in enumerate(groups):
        axes.plot(values, [place + 0.18] * len(values), "o", markersize=3, alpha=0.6, color=COLORS[0])
        axes.errorbar(np.mean(values), place, xerr=deviation(values), marker="D", markersize=5, capsize=4,
                      color=COLORS[0])
        axes.annotate(f"{np.mean(values):.2f}", (np.mean(values), place), (0, 6), textcoords="offset points",
                      ha="center", fontsize=7)
    axes.set(ylim=(len(groups) - 0.5, -0.6), xlabel=label)
    axes.margins(x=0.1)
    axes.set_yticks(range(len(groups)))
    axes.set_yticklabels([name for name, _ in groups])
    return figure


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def roc_curves(averages: dict[str, roc.Curve]) -> Figure:
    """averages: title -> average ROC curve; the legend has the areas."""
    figure, axes = plain(4.8, 4.4)
    # The first one is wide, so that it is seen behind one that coincides with it.
    for (title, curve), color, width in zip(averages.items(), itertools.cycle(COLORS), itertools.chain(
            (2.4,), itertools.repeat(1.2))):
        axes.plot(curve.false_positive, curve.true_positive, linewidth=width, color=color,
                  label=f"{title}, AUC {curve.area:.4f}")
    axes.plot((0, 1), (0, 1), color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def respond_ratios(ratios: dict[str, dict[str, float]], expression: str) -> Figure:
    """Of one expression. ratios: title -> part of the face -> RespondRatio."""
    parts = list(next(iter(ratios.values())))
    figure, axes = plain(WIDTH, 3.4)
    width = 0.8 / len(ratios)
    for number, (title, row) in enumerate(ratios.items()):
        axes.bar(np.arange(len(parts)) + (number - (len(ratios) - 1) / 2) * width, [row[part] for part in parts],
                 width, color=COLORS[number % len(COLORS)], label=title)
    axes.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xticks=range(len(parts)), ylabel="RespondRatio, " + expression)
    axes.set_xticklabels(parts)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return figure


def plain(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a size in inches, with a grid and without a frame."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
    return figure, axes


def over_time(times: Sequence[float], shares: np.ndarray, names: Sequence[str], title: str, axes: Axes) -> Figure:
    """Probabilities over seconds, a line for each column of `shares` (times, names); NaN interrupts a line."""
    for number, (name, column) in enumerate(zip(names, shares.T)):
        axes.plot(times, 100 * column, color=COLORS[number % len(COLORS)], linewidth=1.2, marker=".", markersize=3,
                  linestyle="-" if number < len(COLORS) else "--", label=name)
    axes.set_title(title, fontsize=8, loc="left")
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("probability, %", fontsize=8)
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return axes.figure


def side_by_side(draw: Sequence[Callable[..., Figure]], columns: int, size: tuple[float, float]) -> Figure:
    """One figure of what several functions draw on the axes that they are given, row by row; size: of each one's
    place, in inches."""
    columns = min(columns, len(draw))
    rows = -(-len(draw) // columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, draw_on in zip(places, draw):
        draw_on(axes=axes)
    for axes in places[len(draw):]:
        axes.set_visible(False)
    tighten(figure)
    return figure


def strips(rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]]) -> Figure:
    """Rows of pictures, uint8 grey (H, W) or BGR (H, W, 3), each with its text below it. A row's title stands above
    its first picture."""
    rows = [(title, [(image, "\n".join(textwrap.fill(line, LETTERS) for line in text.split("\n")))
                     for image, text in pictures]) for title, pictures in rows]
    columns = max(len(pictures) for _, pictures in rows)
    size = 1.3 if columns > 4 else 2.0
    lines = max(text.count("\n") + 1 for _, pictures in rows for _, text in pictures)
    figure = Figure(figsize=(columns * size, len(rows) * (size + 0.2 + 0.13 * lines)))
    places = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, pictures) in zip(places, rows):
        for axes in line:
            axes.set_axis_off()
        for axes, (image, text) in zip(line, pictures):
            axes.imshow(image if image.ndim == 2 else image[:, :, ::-1], cmap="gray", vmin=0, vmax=255,
                        interpolation="nearest")
            axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=7)
        line[0].set_title(title, fontsize=8, loc="left")
    tighten(figure, h_pad=0.3 + 0.6 * lines, w_pad=0.4)
    return figure


def tighten(figure: Figure, **pads) -> None:
    """Room for all texts. pads: as of `tight_layout`."""
    FigureCanvasAgg(figure)  # which knows how large texts are
    figure.tight_layout(**pads)


def mosaic(maps: np.ndarray, columns: int, tile: int, gap: int = 3) -> np.ndarray:
    """Maps (n, h, w) as tiles of `tile` pixels, row by row, each from its own least value (black) to its largest
    (white); uint8 on a white ground."""
    rows = -(-len(maps) // columns)
    ground = np.full((rows * (tile + gap) - gap, columns * (tile + gap) - gap), 255, np.uint8)
    for number, single in enumerate(maps):
        method = cv2.INTER_AREA if max(single.shape) > tile else cv2.INTER_NEAREST
        top, left = (place * (tile + gap) for place in divmod(number, columns))
        ground[top:top + tile, left:left + tile] = cv2.resize(_grey(single), (tile, tile), interpolation=method)
    return ground


def _grey(single: np.ndarray) -> np.ndarray:
    least, span = single.min(), np.ptp(single)
    return ((single - least) * (255 / span if span else 0)).astype(np.uint8)


def heat_map(face: np.ndarray, response: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A face, uint8 (H, W) grey, in colour where the mask is set: yellow for the least response there, red for the
    largest. Returns uint8 (H, W, 3), BGR."""
    colored = np.repeat(face[:, :, None], 3, axis=2)
    if mask.any():
        inside = response[mask]
        span = np.ptp(inside)
        heat = matplotlib.cm.get_cmap("autumn_r")((inside - inside.min()) / span if span else np.ones(len(inside)))
        colored[mask] = np.rint(0.45 * colored[mask] + 0.55 * 255 * heat[:, 2::-1])
    return colored
