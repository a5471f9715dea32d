"""Writes the papers' figures for `./fer reproduce`, each with the numbers that it shows.

    OUT/<figure>.png, .svg
    OUT/<figure>.csv            the numbers; `comparable`: "no" where something departs from the paper
    OUT/<figure>.md             what it shows, of which runs, and in what they depart from the paper
"""
import csv
import io
import itertools
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common import files
from data_prep import prepared_folder
from tools.analysis import respond_ratio
from tools.evaluation import departures, evaluate
from tools.evaluation.departures import Departure
from tools.report import entries, figures, pictures
from tools.report.entries import Entry
from tools.report.paper_report import PaperFigure, Target
from tools.reproduce import results, targets
from tools.reproduce.plan import Cell, Plan
from tools.training import groups
from tools.training.groups import Group
from tools.training.run import Run

PNG_DPI = 200
KINDS = ("png", "svg", "csv", "md")
# Letters of the caption to an inch.
LETTERS = 16
# Inches above it.
CAPTION_GAP = 0.12


@dataclass(frozen=True)
class Drawn:
    """A figure of a plan."""

    name: str
    # Of the files, in the order of KINDS; none where nothing could be drawn.
    paths: list[str]
    # What a reader must know.
    notes: list[str]


def write(plan: Plan, out: str, keep: bool = True) -> Iterator[Drawn]:
    """Draws the figures of a plan into a folder, as far as their runs are trained and evaluated.

    keep: False to draw nothing, and only say what is missing and which files are there.
    """
    for name, cells in plan.drawn.items():
        target = targets.get(name)
        measured, missing = _measured(cells)
        departing = _departing(measured, cells, target)
        notes = departing + missing
        if not keep:
            paths = [f"{os.path.join(out, name)}.{kind}" for kind in KINDS]
            yield Drawn(name, list(filter(os.path.exists, paths)), notes)
            continue
        figure = target.draw(measured) if measured else None
        if not figure:
            yield Drawn(name, [], notes + ["not drawn: the runs do not have what it shows" if measured else
                                           "not drawn: its runs are not there yet"])
            continue
        number = name.rpartition("-fig")[2]
        caption = [f"[{targets.paper_of(name)}] Fig. {number}: {target.title}. {figure.note}"] + notes
        prefix = os.path.join(out, name)
        paths = [*_write_pictures(prefix, figure, caption), _write_table(prefix, figure, not departing),
                 _write_note(prefix, caption, measured)]
        yield Drawn(name, paths, [figure.note] + notes)


def _measured(cells: Sequence[Cell]) -> tuple[list[Entry], list[str]]:
    """The runs and groups that are trained and evaluated, with the experiments' titles, and what is missing."""
    measured, missing = [], []
    for cell in cells:
        figure = cell.figure
        if not figure.experiment:
            continue
        if not cell.folder:
            missing.append(f"without {figure.experiment}: no data")
            continue
        run_or_group = groups.open_(cell.folder)
        if _is_measured(run_or_group, figure.measure, figure.split):
            measured.append(run_or_group)
        else:
            missing.append(f"without {figure.experiment}: not measured")
    return entries.entries(measured), missing


def _is_measured(run_or_group: Union[Run, Group], measure: str, split: str) -> bool:
    runs = groups.runs(run_or_group)
    if not all(os.path.exists(run.path("run.json")) and run.is_finished for run in runs):
        return False
    if measure == "respond_ratio":
        return all(os.path.exists(run.path(respond_ratio.FILE)) for run in runs)
    if measure == "every_snapshot":
        return all(evaluate.saved_snapshots(run, "test") for run in runs)
    return os.path.exists(evaluate.metrics_path(run_or_group, split))


def _departing(measured: Sequence[Entry], cells: Sequence[Cell], target: Target) -> list[str]:
    """In what they depart from the paper, beginning with what all have in common."""
    trainings = {use.experiment: len(use.seeds) or 1 for use in target.uses}
    departing = {entry.title: departures.of_runs(entry.runs, trainings.get(entry.experiment.name)) + [
        departure for cell in cells if cell.folder and cell.figure.experiment == entry.experiment.name
        for departure in results.of_engines(cell.figure, cell.folder)] for entry in measured}
    departing.update({f"the SVM on {cell.figure.column}": departures.of_data(
        prepared_folder.any_note(cell.folder), cell.figure.data, [cell.figure.column]) for cell in cells
        if cell.folder and measured and not cell.figure.experiment})
    shared: dict[tuple[str, ...], list[Departure]] = {}
    for departure in dict.fromkeys(departure for of_title in departing.values() for departure in of_title):
        shared.setdefault(tuple(title for title, of_title in departing.items() if departure in of_title), []).append(
            departure)
    return ["Departures {}from the paper: {}".format(
        "" if len(titles) == len(departing) else "of {} ".format("; ".join(titles)), "; ".join(map(str, common)))
        for titles, common in sorted(shared.items(), key=lambda item: -len(item[0]))]


def _write_pictures(prefix: str, figure: PaperFigure, caption: Sequence[str]) -> Iterator[str]:
    drawn = _composed(figure)
    wrapped = [line for part in caption for line in textwrap.wrap(part, max(40, int(LETTERS * drawn.get_figwidth())))]
    drawn.text(0, _bottom(drawn), "\n".join(wrapped), va="top", fontsize=8)
    for kind, settings in (("png", {"dpi": PNG_DPI, "metadata": {"Software": None}}),
                           ("svg", {"metadata": {"Date": None}})):
        path = f"{prefix}.{kind}"
        pictures.write(drawn, path, bbox_inches="tight", **settings)
        yield path


def _write_table(prefix: str, figure: PaperFigure, comparable: bool) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [*map(_number, row), last] for row, last in zip(figure.table, itertools.chain(
            ["comparable"], itertools.repeat("yes" if comparable else "no"))))
    files.write_text(prefix + ".csv", text.getvalue())
    return prefix + ".csv"


def _write_note(prefix: str, caption: Sequence[str], measured: Sequence[Entry]) -> str:
    lines = ["# " + os.path.basename(prefix), "", caption[0], ""] + ["- " + note for note in caption[1:]]
    lines += [f"- {entry.title}: `{os.path.relpath(entry.folder, os.path.dirname(prefix))}`"
              for entry in measured]
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
        return figures.strips([(row.title, [(face.image, face.text) for face in row.faces]) for row in figure.rows])
    if len(figure.draw) == 1:
        return figure.draw[0]()
    return figures.side_by_side(figure.draw, figure.columns or (2 if len(figure.draw) == 4 else 3), figure.size)
