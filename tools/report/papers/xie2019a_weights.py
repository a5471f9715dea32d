"""Adaptive loss weights of [xie2019a] over the rounds of Algorithm 1: Fig. 12, and the objectives behind it."""
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.report import figures
from tools.report.entries import Entry
from tools.training.schedules import adaptive_weights


@dataclass(frozen=True)
class Adapted:
    """How the loss weights of a run went."""

    # "loss weights", or of a group the run's name in it.
    name: str
    # As `adaptive_weights.history` has them.
    rounds: list[dict]
    # Feature -> "correct" and "total" on the test split by its loss alone; empty where that is not measured.
    alone: dict[str, dict]


def adapted(entry: Entry) -> Iterator[Adapted]:
    """Each run that adapted its loss weights."""
    for run in entry.runs:
        rounds = adaptive_weights.history(run)
        if rounds:
            name = "loss weights" if entry.kind == "run" else os.path.relpath(run.folder, entry.folder)
            metrics = (entry if entry.kind == "run" else Entry(run, name)).metrics("test") or {}
            yield Adapted(name, rounds, metrics.get("alone", {}))


def loss_weights(rounds: Sequence[dict], title: str, alone: dict[str, dict], axes: Optional[Axes] = None) -> Figure:
    """lambda_1 (GSF) and lambda_2 (SIFT) over the rounds.

    alone: see `Adapted`. axes: to draw on, else those of a figure of its own.
    """
    axes = axes or figures.plain(2.6, 2.0)[1]
    _over_rounds(axes, rounds, "weights", title, {
        feature: "{}, test {:.2f}%".format(
            feature.upper(), 100 * count["correct"] / count["total"]) for feature, count in alone.items()})
    axes.axhline(1, color="#999999", linewidth=0.6, linestyle=":")
    # Markers at 0 and 2 are whole.
    axes.set(ylim=(-0.08, 2.08), yticks=(0, 0.5, 1, 1.5, 2))
    axes.set_ylabel("loss weight", fontsize=8)
    return axes.figure


def objectives(rounds: Sequence[dict], title: str) -> Figure:
    """The objectives of Eq. (11) that the weights follow."""
    figure, axes = figures.plain(2.6, 2.0)
    _over_rounds(axes, rounds, "objective", title, {})
    axes.set_ylabel("objective", fontsize=8)
    return figure


def _over_rounds(axes: Axes, rounds: Sequence[dict], quantity: str, title: str, labels: dict[str, str]) -> None:
    """With the legend between the title and the curves, which are anywhere in so small a plot."""
    numbers = [values["round"] for values in rounds]
    features = sorted(rounds[0][quantity])
    for feature, color in zip(features, figures.COLORS):
        axes.plot(numbers, [values[quantity][feature] for values in rounds], marker="o", markersize=2.5, color=color,
                  label=labels.get(feature, feature.upper()))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axes.set_xlabel("round", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(-0.05, 0.98), borderpad=0,
                labelspacing=0.2, handlelength=1.2)
    axes.set_title(title, fontsize=9, loc="left", pad=6 + 9 * len(features))
