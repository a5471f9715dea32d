"""One self-contained HTML page on one or several runs."""
import os
from collections.abc import Iterable, Sequence
from typing import Optional, Union

import jinja2

from common import files, papers
from data_prep import pictures
from tools.analysis import svm
from tools.report import commands, entries, paper_report, sections, tables, training
from tools.report.paper_report import PARTS, PaperFigure
from tools.report.pictures import svg
from tools.training.groups import Group
from tools.training.run import Run, require_same_data
from tools.training.snapshots import Snapshot


def render(runs_and_groups: Sequence[Union[Run, Group]], chosen: Sequence[Snapshot] = (), out: Optional[str] = None
           ) -> str:
    """The page as text. It leaves out what a run does not have yet, such as an evaluation, and says so.

    chosen: see `entries.entries`. What is not measured of a snapshot, and what the papers show of their nets, is left
    out for another one than the last. out: the page's path, if it is not the one that `./fer report` chooses.
    Raises UserError as `entries.entries`, and where the data of a run are not those that it was trained with.
    """
    page = entries.entries(runs_and_groups, chosen)
    for entry in page:
        require_same_data(entry.run)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=lambda value: f"{100 * value:.2f}%", counts=svm.percent, svg=lambda draw: svg(draw()),
        face=lambda face: (pictures.encoded if face.full else pictures.jpeg)(face.image))
    names = [name for name in papers.names() if name in {entry.paper for entry in page}]
    return environment.get_template("page.html.j2").render(
        signature=files.SIGNATURE, titles=[entry.title for entry in page], command=commands.report(page, out),
        groups=any(entry.kind != "run" for entry in page), sections=[sections.section(entry) for entry in page],
        printed_in={part: _printed_in(names, part) for part in PARTS}, curves=training.plots(page),
        members=tables.members(page), repetitions=tables.repetitions(page), roc=tables.roc_curves(page),
        svms=tables.svms(page), paper_figures=[figure for name in names for figure in _of_paper(name, page)],
        **tables.respond_ratios(page))


def _of_paper(name: str, page: Sequence[entries.Entry]) -> Sequence[PaperFigure]:
    return paper_report.of(name).sections([entry for entry in entries.of_last(page) if entry.paper == name])


def _printed_in(names: Iterable[str], part: str) -> str:
    """Where papers print a part of the page, as its heading has it: " ([paper] Fig. 4)"; "" where none does."""
    return "".join(f" ([{name}] {paper_report.of(name).printed_in[part]})" for name in names
                   if part in paper_report.of(name).printed_in)
