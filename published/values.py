"""The papers' printed figures, read from `<paper>.csv`; README.md says what the columns mean."""
import csv
import re
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Optional

from common import papers, suggestions
from common.errors import UserError

WORDS = {"system": ("own", "baseline", "other"), "split": ("val", "test"), "unit": ("", "image", "sequence"),
         "kind": ("count", "fold_mean", "class_mean", "rate", "ratio", "unexplained"),
         "measure": ("", "accuracy", "accuracy_without_neutral", "accuracy_neutral_wrong", "average_accuracy",
                     "sensitivity", "specificity", "confusion", "svm", "respond_ratio")}
NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Figure:
    """One printed figure: a line of the CSV file. README.md describes the columns; text that may be missing is ""."""

    # Where the figure is, in the paper's own words: the key.
    table: str
    row: str
    column: str
    # "own", "baseline" or "other".
    system: str
    # "<data set>-<protocol>"; for other people's systems only the data set.
    data: str
    # For a test on another data set: the data that the net was trained on. Else "".
    trained_on: str = ""
    # "val" or "test".
    split: str = ""
    # The digits as they are printed, without a per cent sign.
    value: str = ""
    # What the figure is, such as "count" or "fold_mean".
    kind: str = ""
    # For a count, its unit: "image" or "sequence". Else "".
    unit: str = ""
    # For a count, the number of correct units. Else None.
    correct: Optional[int] = None
    # For a count, the number of all units. Else None.
    total: Optional[int] = None
    # What is measured for the comparison, such as "accuracy".
    measure: str = ""
    # Name of the experiment that reproduces the figure.
    experiment: str = ""
    # From here on: what a comparison with other people's systems prints beside the figure, in the paper's words.
    images: str = ""
    classes: str = ""
    subjects: str = ""
    sequences: str = ""
    protocol: str = ""
    network: str = ""
    external_data: str = ""
    fine_tuning: str = ""
    setting: str = ""


COLUMNS = tuple(field.name for field in fields(Figure))
# The columns that a comparison with other people's systems prints beside their figures.
BESIDE = COLUMNS[COLUMNS.index("images"):]
MAY_BE_EMPTY = {"trained_on", "unit", "correct", "total", "measure", "experiment", *BESIDE}
OF_A_COUNT = ("unit", "correct", "total")


def read(paper: str, path: Optional[str] = None) -> list[Figure]:
    """The figures of a paper, in the order of the paper. path: the CSV file; None for the paper's own.

    Raises UserError, with file and line, for an unknown or missing column or word, for a value that is not a number,
    and for a count without unit, correct and total, or with more correct than total.
    """
    if paper not in papers.names():
        raise UserError(suggestions.unknown("paper", paper, papers.names()))
    path = path or papers.get(paper).published
    with open(path, newline="", encoding="utf-8") as stream:
        lines = csv.reader(stream)
        header = next(lines, [])
        if header != list(COLUMNS):
            raise UserError(f"{path}:1: columns {','.join(header)}, expected {','.join(COLUMNS)}")
        return [_figure(f"{path}:{lines.line_num}", cells) for cells in lines]


def of_experiment(name: str, split: str, tested: Optional[str] = None) -> Optional[Figure]:
    """The first printed accuracy of an experiment on a split of its data, or of the data `tested`; None if there is
    none."""
    return next((figure for figure in read(name.split("/")[0])
                 if (figure.experiment, figure.split) == (name, split) and figure.measure.startswith("accuracy")
                 and (figure.data == tested if tested else not figure.trained_on)), None)


def tables() -> dict[str, tuple[str, str]]:
    """The tables with figures of the authors' own systems: name, such as "xie2019a-table7" -> paper, and the table's
    number as it is printed there."""
    return {f"{paper}-table{_arabic(figure.table)}": (paper, figure.table)
            for paper in papers.names() for figure in read(paper) if figure.system != "other"}


def _arabic(number: str) -> int:
    """The value of a Roman number up to 39, or of an Arabic one."""
    if number.isdigit():
        return int(number)
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in number]
    return sum(-value if value < max(values[at:]) else value for at, value in enumerate(values))


def counts(value: str, total: int) -> list[int]:
    """All k in 0..total for which 100 k / total, rounded or truncated to the digits of `value`, is the printed
    value."""
    scale = 10 ** len(value.partition(".")[2])
    digits = int(value.replace(".", ""))
    # Solves digits - 1/2 <= 100 scale k / total < digits + 1 with integers; -(-a // b) rounds up.
    first = -(-(2 * digits - 1) * total // (200 * scale))
    end = -(-2 * (digits + 1) * total // (200 * scale))
    return list(range(max(first, 0), min(end, total + 1)))


def nearest(value: str, total: int) -> tuple[int, float]:
    """The k whose 100 k / total is nearest to the value, and 100 k / total - value in percentage points."""
    printed = Fraction(value)
    k = round(printed * total / 100)
    return k, float(Fraction(100 * k, total) - printed)


def _figure(where: str, cells: list[str]) -> Figure:
    if len(cells) != len(COLUMNS):
        raise UserError(f"{where}: {len(cells)} cells, expected {len(COLUMNS)}")
    row = dict(zip(COLUMNS, cells))
    for key, text in row.items():
        if not text and key not in MAY_BE_EMPTY:
            raise UserError(f"{where}: {key} is missing")
        if key in WORDS and text not in WORDS[key]:
            raise UserError(f"{where}: {key} is {text!r}, expected one of {', '.join(WORDS[key])}")
    if not NUMBER.fullmatch(row["value"]):
        raise UserError(f"{where}: value is {row['value']!r}, expected a number")
    for key in OF_A_COUNT:
        if bool(row[key]) != (row["kind"] == "count"):
            raise UserError(f"{where}: {key} is {row[key]!r}; a count has {', '.join(OF_A_COUNT)}, other kinds have "
                            "none")
    texts = {key: text for key, text in row.items() if key not in ("correct", "total")}
    correct, total = (_whole(where, key, row[key]) for key in ("correct", "total"))
    if correct is not None and total is not None and correct > total:
        raise UserError(f"{where}: {correct} correct of {total}")
    return Figure(**texts, correct=correct, total=total)


def _whole(where: str, key: str, text: str) -> Optional[int]:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{where}: {key} is {text!r}, expected a whole number")
    return int(text)
