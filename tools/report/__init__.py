"""One self-contained HTML page on one or several runs."""
import os
from typing import Sequence, Union

import jinja2

from data_prep import files
from tools import features
from tools.groups import Group
from tools.report import commands, compared, entries, of_papers, sections, tables, training
from tools.run import Run, require_same_data


def page(given: Sequence[Union[Run, Group]]) -> str:
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
        compared=compared.compared(titles), of_papers=of_papers.drawn(shown), command=commands.report(shown),
        **tables.respond_ratios(shown), percent=lambda value: "{:.2f}%".format(100 * value), counts=features.percent)
