"""What a paper's own module adds to the report page and to `./fer reproduce`.

The module is named in the paper's registration (`common.papers`) and has one object of this kind, `REPORT`. A paper
without one gets the page that all runs get. The command line's help lists the figures, so these modules import Caffe
and Matplotlib, and what needs them, only inside the functions that draw.
"""
from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Optional

from common import papers

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from tools.report.entries import Entry

Table = list[Sequence[object]]


@dataclass(frozen=True)
class Face:
    """A small picture with a text below it."""

    # uint8, (height, width) grey or (height, width, 3) BGR.
    image: np.ndarray
    # May have several lines.
    text: str
    # Whether the page shows all its pixels, as those of a mosaic, and not the size of a face.
    full: bool = False


@dataclass(frozen=True)
class Row:
    """Pictures side by side."""

    # "" for none.
    title: str
    faces: Sequence[Face]


@dataclass(frozen=True)
class PaperFigure:
    """A figure or a table of a paper, drawn from runs."""

    # With the number that it has in the paper.
    title: str
    # What it is drawn from and how to read it.
    note: str
    # The numbers that it shows, below a row of names.
    table: Sequence[Sequence[object]]
    # Functions that return a Matplotlib figure; where there are several, each takes `axes` to draw on.
    draw: Sequence[Callable[..., Figure]] = ()
    # Text that stands for what `draw` draws.
    alt: str = ""
    # Pictures, where nothing is plotted.
    rows: Sequence[Row] = ()
    # Of several plots in one picture: how many stand side by side, 0 for the usual number.
    columns: int = 0
    # Width and height of each of several plots, in inches.
    size: tuple[float, float] = (3.3, 3.2)
    # Whether the page shows the table; a figure's numbers stand in its CSV alone.
    is_table: bool = False


@dataclass(frozen=True)
class Use:
    """What a figure takes of one experiment, which is trained for it."""

    # Its name, "" for handcrafted features.
    experiment: str
    # As a published figure has it, or "every_snapshot": the accuracy of all snapshots on val and test.
    measure: str = "accuracy"
    # "val" or "test".
    split: str = "test"
    # Seeds to train with, one after the other; empty for the experiment's own.
    seeds: tuple[int, ...] = ()
    # Data set and feature, of handcrafted features.
    data: str = ""
    column: str = ""


@dataclass(frozen=True)
class Target:
    """A figure of a paper that `./fer reproduce` draws."""

    # In the paper's words.
    title: str
    uses: Sequence[Use]
    # Takes the entries of `uses` that are trained and evaluated; None where they do not have what it shows.
    draw: Callable[[Sequence[Entry]], Optional[PaperFigure]]


@dataclass(frozen=True)
class Report:
    """What the page and `./fer reproduce` show of one paper alone."""

    # Name, "<paper>-fig<number>" -> figure.
    targets: Mapping[str, Target] = field(default_factory=dict)
    # Takes the entries of the paper and returns their sections of the page, without those that they lack data for.
    sections: Callable[[Sequence[Entry]], Sequence[PaperFigure]] = lambda entries: ()
    # Where the paper prints what the page shows of runs of any paper: a part of PARTS -> "Fig. 4".
    printed_in: Mapping[str, str] = field(default_factory=dict)
    # Whether the authors' code keeps the epoch that is best on the test data.
    best_on_test: bool = False


# Parts of the page that are the same for all papers.
PARTS = ("confusion", "samples", "repetitions", "roc", "respond_ratio", "svm")


def of(paper: str) -> Report:
    """Raises UserError where there is no such paper."""
    module = papers.report(paper)
    return module.REPORT if module else Report()


def uses(paper: str, experiments: str, **settings) -> list[Use]:
    """Of several experiments of a paper. experiments: their names without the paper's, separated by spaces."""
    return [Use(f"{paper}/{name}", **settings) for name in experiments.split()]


def confusion_matrices(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    """Of the test split."""
    import numpy as np

    from tools.report import figures
    table: Table = [("run", "data", "true class", "prediction", "count", "% of the true class")]
    draw = []
    for entry in entries:
        metrics, method = entry.test_metrics, entry.experiment.title
        title = f"{entry.tested_on}\n{method}, {100 * metrics['accuracy']:.2f}%"
        draw.append(functools.partial(figures.confusion_matrix, metrics, title))
        shares = figures.confusion_shares(metrics)
        table += [(method, entry.tested_on, metrics["classes"][row], metrics["classes"][column], count,
                   float(shares[row, column])) for (row, column), count in np.ndenumerate(metrics["confusion"])]
    return PaperFigure("Confusion matrices", "In % of the true class, with the count in brackets. Folds are summed.",
                       table, draw, "confusion matrices")
