"""The papers, each registered in one line. Generic code finds here all that it must know about a paper.

A paper has a schema of its settings, a builder of its nets, experiments, printed figures, and a module for the report
if it has its own figures or sections there. By default these are `prototxt/schemas/<paper>.py`,
`prototxt/builders/<paper>.py`, `experiments/<paper>/`, `published/<paper>.csv` and `tools/report/papers/<paper>.py`.
"""
import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Optional

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True)
class Paper:
    """Where the parts of a paper are."""

    # The first part of an experiment's name, "<paper>/<experiment>".
    name: str
    # Folder with the YAML files of its experiments, and defaults.yml.
    experiments: str
    # CSV file of its printed figures; see published/README.md.
    published: str
    # Names of modules. They are imported when they are needed, because some load Caffe, which takes time.
    schema: str
    builder: str
    # None if the report shows nothing of the paper beside what it shows of all papers.
    report: Optional[str]


_papers: dict[str, Paper] = {}


def register(name: str, experiments: Optional[str] = None, published: Optional[str] = None,
             schema: Optional[str] = None, builder: Optional[str] = None, report: Optional[str] = None,
             has_report: bool = True) -> Paper:
    """Adds a paper. The docstring of this module gives the defaults of the arguments. Raises ValueError if a paper of
    this name is registered already."""
    if name in _papers:
        raise ValueError(f"the paper {name} is registered twice")
    _papers[name] = Paper(
        name, experiments or os.path.join(ROOT, "experiments", name),
        published or os.path.join(ROOT, "published", name + ".csv"),
        schema or "prototxt.schemas." + name, builder or "prototxt.builders." + name,
        report or ("tools.report.papers." + name if has_report else None))
    return _papers[name]


def unregister(name: str) -> None:
    """Removes a paper that `register` added."""
    del _papers[name]


def names() -> list[str]:
    """The names of the papers, in the order of registration."""
    return list(_papers)


def get(name: str) -> Paper:
    """A paper by its name. Raises KeyError if there is no such paper."""
    return _papers[name]


def schema(name: str) -> ModuleType:
    """The module whose class `Settings` declares the settings of the paper's experiments."""
    return importlib.import_module(_papers[name].schema)


def builder(name: str) -> ModuleType:
    """The module that builds the paper's nets; see prototxt.nets."""
    return importlib.import_module(_papers[name].builder)


def report(name: str) -> Optional[ModuleType]:
    """The module with the paper's figures and report sections; None if there is none."""
    module = _papers[name].report
    return importlib.import_module(module) if module else None


register("xie2019a")
register("xie2019b")
register("liu2017")
register("farzaneh2021")
register("wu2023")
