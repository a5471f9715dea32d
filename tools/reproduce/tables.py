"""A published table as text, Markdown and CSV: the printed values, and the measured ones below them.

Text and Markdown have the rows and columns of the paper, in its order. The CSV has one value a line.
"""
import csv
import io
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

from published.values import BESIDE, Figure
from tools.evaluation.departures import Departure
from tools.reproduce.results import Entry

WIDTH = 120
# The largest width of a row's heading, of words, and of values (the second one where room is scarce), and the smallest
# width of a column's head, in characters. Longer texts continue in the next line.
HEADING, WORDS, VALUES, HEAD = 32, 16, (24, 17), 8
GAP = 2
PRINTED, HERE, QUOTED = "printed", "here", "quoted"
NOT_COMPARED = "not compared"
LEGEND = ("printed: the value in the paper; here: the measured value, and its difference from the printed one, as a "
          "count if both are counts of the same total, otherwise in percentage points; quoted: a value of other "
          "authors, as the paper quotes it")
COLUMNS = ("row", "column", "system", "data", "trained_on", "split", "printed", "printed_correct", "printed_total",
           "measured", "correct", "total", "difference", "comparable", "departures", "weights") + BESIDE


@dataclass(frozen=True)
class Row:
    heading: str
    # PRINTED or QUOTED.
    kind: str
    # For each column the texts in its cell.
    printed: list[list[str]]
    # The measured texts in the same way; empty for quoted rows.
    here: list[list[str]]


@dataclass(frozen=True)
class Grid:
    """The cells of a table as texts."""

    # Of the columns.
    heads: list[str]
    # How many of the columns, the first ones, hold words beside the values.
    words: int
    rows: list[Row]
    # What the marks in the cells mean.
    notes: list[str]


def grid(entries: Sequence[Entry]) -> Grid:
    # Row -> column -> entries, with what is added to their values.
    placed: dict[str, dict[str, list[tuple[Entry, str]]]] = {}
    heads = {entry.figure.column for entry in entries}
    for entry in entries:
        head, extra = _place(entry.figure.column, heads)
        placed.setdefault(entry.figure.row, {}).setdefault(head, []).append((entry, extra))
    columns = _ordered([list(row) for row in placed.values()])
    beside = [name for name in BESIDE if any(getattr(entry.figure, name) for entry in entries)]
    marks = _marks(entries)
    rows = []
    for heading, row in placed.items():
        first = next(iter(row.values()))[0][0].figure
        quoted = first.system == "other"
        cells = [row.get(column, []) for column in columns]
        rows.append(Row(heading, QUOTED if quoted else PRINTED, [[getattr(first, name)] for name in beside] + [
            [_with(_printed(entry.figure), extra) for entry, extra in cell] for cell in cells],
            [] if quoted else [[] for _ in beside] + [
                [_with(_here(entry, marks), extra) for entry, extra in cell] for cell in cells]))
    return Grid([name.replace("_", " ") for name in beside] + columns, len(beside), rows, [
        f"[{mark}] {NOT_COMPARED}: {'; '.join(map(str, departures))}"
        for departures, mark in marks.items()])


def _place(column: str, heads: Collection[str]) -> tuple[str, str]:
    """The head of the column, and what is added to the value: for two values in one cell of the paper, such as "Recog.
    rate (%), in brackets", and for "CK+ (MMI)", whose column is CK+."""
    for head in heads:
        if column.startswith(head + ", "):
            return head, column[len(head) + 2:]
    bracket = re.fullmatch(r"([^(]+) \(([^()%]+)\)", column)
    return (bracket[1], bracket[2]) if bracket else (column, "")


def _ordered(rows: Sequence[Sequence[str]]) -> list[str]:
    """All columns, each after those that come before it in some row, and otherwise as they come first."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    before = {name: {other for row in rows if name in row for other in row[:row.index(name)]} for name in names}
    ordered: list[str] = []
    while len(ordered) < len(names):
        left = [name for name in names if name not in ordered]
        ordered.append(next((name for name in left if not before[name] & set(left)), left[0]))
    return ordered


def _marks(entries: Sequence[Entry]) -> dict[tuple[Departure, ...], str]:
    """Departures -> a letter, or two."""
    sets = dict.fromkeys(tuple(entry.departures) for entry in entries if entry.departures and entry.measured)
    return {departures: _letters(index) for index, departures in enumerate(sets)}


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _with(text: str, extra: str) -> str:
    return f"{text}, {extra}" if extra else text


def _printed(figure: Figure) -> str:
    return figure.value if figure.correct is None else f"{figure.value} ({figure.correct}/{figure.total})"


def _here(entry: Entry, marks: dict[tuple[Departure, ...], str]) -> str:
    if entry.measured is None:
        return entry.why
    count = "" if entry.measured.correct is None else f" ({entry.measured.correct}/{entry.measured.total})"
    rest = f"[{marks[tuple(entry.departures)]}]" if entry.departures else entry.difference
    return f"{entry.measured.value:.2f}{count} {rest}"


# ---------------------------------------------------------------- text

def as_text(name: str, entries: Sequence[Entry], width: int = WIDTH) -> str:
    """A table of at most `width` characters a line. Long headings and words are wrapped. If the table is too wide,
    marks and differences are put below their values. If it is still too wide, it is cut into parts: first the words,
    then the values, with about as many columns in each part."""
    table = grid(entries)
    headings = Column([], [_wrapped(row.heading, HEADING) for row in table.rows])
    room = width - headings.width - len(PRINTED) - GAP
    for most in VALUES:
        columns = [_column(table, index, WORDS if index < table.words else most) for index in range(len(table.heads))]
        if _fit(columns, room):
            parts = [list(range(len(columns)))]
            break
    else:
        parts = [list(range(table.words))] * bool(table.words) + _parts(columns, table.words, room)
    text = []
    for part in parts:
        title = name if len(parts) == 1 else "{}, column{} {} of {}".format(
            name, "s" if len(part) > 1 else "", " to ".join(dict.fromkeys(
                str(index + 1) for index in (part[0], part[-1]))), len(columns))
        text += [title] + _lines(table, headings, [columns[index] for index in part]) + [""]
    for note in [LEGEND] + table.notes:
        text += textwrap.wrap(note, width, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(text)


@dataclass(frozen=True)
class Column:
    """A column, wrapped into lines."""

    head: list[str]
    # For each row the lines of the printed texts.
    printed: list[list[str]]
    # For each row those of the measured ones, if it has some.
    here: list[list[str]] = field(default_factory=list)

    @property
    def width(self) -> int:
        return max((len(line) for cell in [self.head, *self.printed, *self.here] for line in cell), default=0)


def _column(table: Grid, index: int, most: int) -> Column:
    """A column of at most `most` characters. Its head is wrapped to the width of the cells, or of its longest word."""
    printed, here = ([[line for text in cells[index] for line in _wrapped(text, most)] if cells else []
                      for cells in side] for side in zip(*((row.printed, row.here) for row in table.rows)))
    words = max([HEAD, Column([], printed, here).width, *map(len, table.heads[index].split())])
    return Column(_wrapped(table.heads[index], words), printed, here)


def _wrapped(text: str, most: int) -> list[str]:
    return textwrap.wrap(text, most, break_on_hyphens=False)


def _fit(columns: Sequence[Column], room: int) -> bool:
    return sum(GAP + column.width for column in columns) <= room


def _parts(columns: Sequence[Column], first: int, room: int) -> list[list[int]]:
    """The numbers of the columns, from `first` on, in as few parts as possible, with about as many columns in each."""
    left = list(range(first, len(columns)))
    for count in range(1, len(left) + 1):
        size = -(-len(left) // count)
        parts = [left[at:at + size] for at in range(0, len(left), size)]
        if all(_fit([columns[index] for index in part], room) for part in parts):
            break
    return parts


def _lines(table: Grid, headings: Column, columns: Sequence[Column]) -> list[str]:
    widths = [headings.width, len(PRINTED)] + [column.width for column in columns]
    lines = []

    def add(heading: str, kind: str, cells: Sequence[str]) -> None:
        lines.append((" " * GAP).join(text.ljust(width) for text, width in zip(
            [heading, kind, *cells], widths)).rstrip())
    for line in range(max((len(column.head) for column in columns), default=0)):
        add("", "", [_at(column.head, line) for column in columns])
    for index, row in enumerate(table.rows):
        heading = list(headings.printed[index])
        for kind, cells in ((row.kind, [column.printed[index] for column in columns]),
                            (HERE, [column.here[index] for column in columns])):
            if kind == row.kind or any(cells):
                for line in range(max([1, *map(len, cells)])):
                    add(heading.pop(0) if heading else "", "" if line else kind, [_at(cell, line) for cell in cells])
        for rest in heading:
            add(rest, "", [])
    return lines


def _at(lines: Sequence[str], index: int) -> str:
    return lines[index] if index < len(lines) else ""


# ---------------------------------------------------------------- Markdown, CSV

def as_markdown(name: str, entries: Sequence[Entry], notes: Sequence[str]) -> str:
    table = grid(entries)
    rows = [["", ""] + table.heads, ["---"] * (2 + len(table.heads))]
    for row in table.rows:
        rows += [[heading, kind] + ["<br>".join(cell) for cell in cells] for heading, kind, cells in (
            (row.heading, row.kind, row.printed), ("", HERE, row.here)) if cells]
    text = ["# " + name, ""] + ["| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in row)) for row in rows]
    return "\n".join(text + [""] + ["- " + note for note in [LEGEND, *table.notes, *notes]]) + "\n"


def as_csv(entries: Sequence[Entry]) -> str:
    """The column comparable is empty if nothing was measured; difference is empty unless comparable is yes."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        figure, measured = entry.figure, entry.measured
        numbers = ("", "", "") if measured is None else (
            f"{measured.value:.4f}", *_or_empty(measured.correct, measured.total))
        writer.writerow([
            figure.row, figure.column, figure.system, figure.data, figure.trained_on, figure.split, figure.value,
            *_or_empty(figure.correct, figure.total), *numbers, entry.difference,
            "" if measured is None else "yes" if entry.comparable else "no",
            "; ".join(map(str, entry.departures)) if measured else entry.why, entry.weights,
            *(getattr(figure, name) for name in BESIDE)])
    return stream.getvalue()


def _or_empty(*numbers: Optional[int]) -> list[Union[int, str]]:
    return ["" if number is None else number for number in numbers]
