"""The papers that are reproduced. Each is registered once, here; all other code asks this list and names no paper."""
import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Optional

from common.errors import UserError
from common.experiment import FOLDER, ROOT


@dataclass(frozen=True)
class Paper:
    """A paper and the modules that belong to it."""

    # As in the names of its experiments.
    name: str
    # Folder of its experiments' YAMLs.
    experiments: str
    # CSV of the figures that it prints.
    published: str
    # Name of the module that builds its nets.
    builder: str
    # Name of the module with its report sections and figures, "" for none; see tools.report.paper_report.
    report: str = ""


_papers: dict[str, Paper] = {}


def register(paper: Paper) -> None:
    _papers[paper.name] = paper


def names() -> list[str]:
    """In the order in which they were registered."""
    return list(_papers)


def get(name: str) -> Paper:
    """Raises UserError where there is no such paper."""
    if name not in _papers:
        raise UserError("there is no paper {!r}; there are: {}".format(name, ", ".join(_papers)))
    return _papers[name]


def builder(name: str) -> ModuleType:
    return importlib.import_module(get(name).builder)


def report(name: str) -> Optional[ModuleType]:
    """None where the paper has no sections or figures of its own."""
    module = get(name).report
    return importlib.import_module(module) if module else None


for _name in ("xie2019a", "xie2019b", "liu2017", "farzaneh2021", "wu2023"):
    register(Paper(_name, os.path.join(FOLDER, _name), os.path.join(ROOT, "published", _name + ".csv"),
                   "prototxt.builders." + _name, "tools.report.papers." + _name))
