"""The papers' figures as targets of `./fer reproduce`. Each paper's report module declares its own.

The command line reads the names for its help: this module loads neither Caffe nor Matplotlib.
"""
import functools

from common import experiment, papers
from published.values import Figure
from tools.report import paper_report
from tools.report.paper_report import Target


def names() -> list[str]:
    """"xie2019a-fig8" and so on, in the order of the papers."""
    return [target for paper in papers.names() for target in paper_report.of(paper).targets]


def get(name: str) -> Target:
    """Raises KeyError where there is no such figure."""
    return paper_report.of(paper_of(name)).targets[name]


def paper_of(name: str) -> str:
    return name.rpartition("-")[0]


@functools.cache
def cells(name: str) -> tuple[tuple[Figure, tuple[int, ...]], ...]:
    """What the planner is asked for, as for a table's cells, with the seeds: published figures without a value."""
    return tuple((Figure(
        table=name, row=use.experiment or use.column, column=use.column, system="own", kind="rate",
        data=use.data or experiment.load(use.experiment).data, split=use.split, measure=use.measure,
        experiment=use.experiment), use.seeds) for use in get(name).uses)
