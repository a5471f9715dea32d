"""One self-contained HTML page on one or several runs."""
import os
from collections.abc import Sequence
from typing import Union

import jinja2

from common import files
from tools.analysis import svm
from tools.report import commands, entries, sections, tables, training
from tools.report.papers import of_papers, xie2019a
from tools.training.groups import Group
from tools.training.run import Run, require_same_data


def render(given: Sequence[Union[Run, Group]]) -> str:
    """The page as text; what a run has not yet (no evaluation, no test pass) is left out and named.

    Raises UserError where the data of a run are not those that it was trained with.
    """
    shown = entries.entries(given)
    for entry in shown:
        require_same_data(entry.run)
    titles = {entry.run: entry.title for entry in shown}
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
        autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template("page.html.j2")
    return template.render(
        signature=files.SIGNATURE,
        sections=[sections.section(entry) for entry in shown], titles=titles,
        papers=sorted({entry.paper for entry in shown}), groups=any(entry.kind != "run" for entry in shown),
        curves=training.plots(shown), members=tables.members(shown), repetitions=tables.repetitions(shown),
        kappas=tables.kappas(shown), roc=tables.roc_curves(shown), svms=tables.svms(shown),
        compared=xie2019a.compared(titles), of_papers=of_papers.drawn(shown), command=commands.report(shown),
        **tables.respond_ratios(shown), percent=lambda value: f"{100 * value:.2f}%", counts=svm.percent)
