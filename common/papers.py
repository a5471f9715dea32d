"""The papers, each registered in one line: all that generic code must know of a paper it asks here.

A paper has a schema of its settings, a builder of its nets, experiments, printed figures, and, where it has figures or
sections of its own, a module for the report. By default these are `prototxt/schemas/<paper>.py`,
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
    # As in an experiment's name, "<paper>/<experiment>".
    name: str
    # Folder of its experiments' YAML files, with defaults.yml.
    experiments: str
    # CSV file of its printed figures; see published/README.md.
    published: str
    # Modules, which are imported when they are needed: each takes time, and some load Caffe.
    schema: str
    builder: str
    # None where the report shows of the paper what it shows of all.
    report: Optional[str]


_papers: dict[str, Paper] = {}


def register(name: str, experiments: Optional[str] = None, published: Optional[str] = None,
             schema: Optional[str] = None, builder: Optional[str] = None, report: Optional[str] = None,
             has_report: bool = True) -> Paper:
    """Adds a paper. Each argument but the name has the default that the module's docstring says. Raises ValueError
    where a paper of this name is there."""
    if name in _papers:
        raise ValueError(f"the paper {name} is registered twice")
    _papers[name] = Paper(
        name, experiments or os.path.join(ROOT, "experiments", name),
        published or os.path.join(ROOT, "published", name + ".csv"),
        schema or "prototxt.schemas." + name, builder or "prototxt.builders." + name,
        report or ("tools.report.papers." + name if has_report else None))
    return _papers[name]


def unregister(name: str) -> None:
    del _papers[name]


def names() -> list[str]:
    """In the order in which they were registered."""
    return list(_papers)


def get(name: str) -> Paper:
    """Raises KeyError where there is no such paper."""
    return _papers[name]


def schema(name: str) -> ModuleType:
    """The module whose `Settings` says which settings the paper's experiments have."""
    return importlib.import_module(_papers[name].schema)


def builder(name: str) -> ModuleType:
    """The module that builds the paper's nets; see prototxt.nets."""
    return importlib.import_module(_papers[name].builder)


def report(name: str) -> Optional[ModuleType]:
    """The module of the paper's figures and report sections; None where it has none."""
    module = _papers[name].report
    return importlib.import_module(module) if module else None


register("xie2019a")
register("xie2019b")
register("liu2017")
register("farzaneh2021")
register("wu2023")
