"""The file of a study (YAML).

    title: FER2013 with the toy net
    prepare: fer2013 fer2013.csv --protocol public       # the words behind `./fer prepare`, for who has no data yet
    seeds: [1, 2, 3]
    baseline: softmax                                     # the row that the others are compared with
    set: [solver.max_iter=3000]                           # for all rows whose experiments have the setting
    test: true                                            # false: a choice of settings, which never sees the test split
    rows:
      softmax: {experiment: xie2019a/fer2013-toy-softmax}
      center: {experiment: xie2019a/fer2013-toy-softmax, set: ["losses.center={}"]}
      from random weights: {experiment: xie2019a/fer2013-toy-softmax, weights: none, seeds: [1]}
"""
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional

from common import experiment, settings, suggestions
from common.errors import UserError
from common.experiment import Experiment

# A row's name is also that of a folder.
NAME = re.compile(r"[\w+-][\w+. -]*")
# Files beside these folders: row -> seconds in which it was trained, of all calls that ended or were stopped; and what
# `output` writes.
TIMES = "times.json"
MARKDOWN, CSV, PICTURE = "study.md", "study.csv", "study.png"


class _Changes(list):
    """Changes of settings, KEY=VALUE."""

    @classmethod
    def __get_validators__(cls) -> Iterator[Any]:
        yield cls.check

    @classmethod
    def check(cls, value: Any) -> Any:
        if not (isinstance(value, list) and all(isinstance(one, str) and "=" in one[1:] for one in value)):
            raise ValueError(f"is {value!r}, expected {cls.expected()}")
        return value

    @classmethod
    def expected(cls) -> str:
        return "a list of KEY=VALUE"


class _Row(settings.Section):
    experiment: str = settings.setting("Name of the experiment, or the path of a file beside the study's.")
    set: _Changes = settings.setting("Changes of its settings.", optional=True)
    seeds: settings.Rising = settings.setting("Seeds in place of those of the study.", optional=True)
    weights: Literal["given", "none"] = settings.setting("Whether it begins with --weights.", optional=True)


class _Study(settings.Section):
    title: str = settings.setting("What is compared, in words.")
    prepare: str = settings.setting("The words behind `./fer prepare` that make the data.", optional=True)
    seeds: settings.Rising = settings.setting("Seeds of the trainings.")
    baseline: str = settings.setting("Name of the row that the others are compared with.")
    set: _Changes = settings.setting("Changes of the settings of all rows that have them.", optional=True)
    test: bool = settings.setting("Whether the test split is evaluated.", optional=True)
    rows: dict = settings.setting("What is trained, by name.")


@dataclass(frozen=True)
class Row:
    """What is trained with each of some seeds."""

    name: str
    experiment: Experiment
    # Changes of the experiment's settings, of the row and of the study.
    changes: Sequence[str]
    seeds: Sequence[int]
    # Whether it begins with the weights that the command line gives.
    takes_weights: bool


@dataclass(frozen=True)
class Study:
    path: str
    title: str
    prepare: Optional[str]
    baseline: str
    # Whether the test split is evaluated.
    tests: bool
    rows: Sequence[Row]


def read(path: str) -> Study:
    """The study in a file. Raises UserError, which names the file and the key, if something in it is wrong."""
    content = experiment.read_yaml(path, "lines such as `title: TEXT`")
    study = settings.checked(_Study, content, path)
    if not study.rows:
        raise UserError(f"{path}: rows is empty, expected NAME: {{experiment: ...}}")
    for name in study.rows:
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):  # YAML reads `yes` as true
            raise UserError(f"{path}: rows: {name!r}: expected a text; write it in quotes")
    rows = [_row(path, str(name), fields, study) for name, fields in study.rows.items()]
    names = [row.name for row in rows]
    if study.baseline not in names:
        raise UserError(f"{path}: baseline: " + suggestions.unknown("row", study.baseline, names))
    for change in study.set or []:
        if not any(change in row.changes for row in rows):
            raise UserError(f"{path}: set: {change}: no row has an experiment with this setting")
    return Study(path, study.title, study.prepare, study.baseline, study.test is not False, rows)


def _row(path: str, name: str, fields: Any, study: _Study) -> Row:
    where = f"{path}: rows: {name}"
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: expected a name of letters, digits, spaces, and + - . _")
    if name in (TIMES, MARKDOWN, CSV, PICTURE):
        raise UserError(f"{where}: is the name of a file of the study; give another name")
    if not isinstance(fields, dict):
        raise UserError(f"{where} is {fields!r}, expected {{experiment: ...}}")
    row = settings.checked(_Row, fields, where)
    named = row.experiment
    if named.endswith(experiment.ENDINGS):
        named = os.path.join(os.path.dirname(path), named)
    try:
        for_all: Sequence[str] = study.set or []
        changes = [*(for_all if named.endswith(experiment.ENDINGS) else experiment.applicable(named, for_all)),
                   *(row.set or [])]
        chosen = experiment.opened(named, changes)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return Row(name, chosen, changes, row.seeds or study.seeds, row.weights != "none")
