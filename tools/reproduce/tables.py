"""A published table as text, Markdown and CSV: what the paper prints, and under it what was measured.

Text and Markdown have the paper's rows and columns, in its order. The CSV has one figure a line.
"""
import collections
import csv
import io
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple, Optional

from published.values import BESIDE, Figure
from tools.evaluation.departures import Departure
from tools.reproduce.results import Measured

WIDTH = 120
# Most characters of a row's heading, of words, and of figures where there is room and where there is little; least of a
# column's head. Longer ones go on in the next line.
HEADING, WORDS, FIGURES, HEAD = 32, 16, (24, 17), 8
GAP = 2
PRINTED, HERE, QUOTED = "printed", "here", "quoted"
NOT_COMPARED = "not compared"
LEGEND = ("printed: what the paper prints; here: what was measured, and what it differs by, in units where both are "
          "counts of as many, else in percentage points; quoted: other people's figures, as the paper quotes them")
COLUMNS = ("row", "column", "system", "data", "trained_on", "split", "printed", "printed_correct", "printed_total",
           "measured", "correct", "total", "difference", "comparable", "departures", "weights") + BESIDE


class Entry(NamedTuple):
    """A printed figure beside the measured one. found: None where there is none; why: then the reason; departures:
    of what was measured; weights: digest of those that it begins with."""

    figure: Figure
    found: Optional[Measured] = None
    why: str = ""
    departures: Sequence[Departure] = ()
    weights: str = ""

    @property
    def comparable(self) -> bool:
        return self.found is not None and not self.departures

    @property
    def difference(self) -> str:
        """Only where nothing departs."""
        if not self.comparable:
            return ""
        figure, found = self.figure, self.found
        if figure.kind == "count" and found.total == figure.total:
            return "equal" if found.correct == figure.correct else f"{found.correct - figure.correct:+d}"
        difference = found.value - float(figure.value)
        return f"{difference:+.2f}" + (" points" if figure.kind != "ratio" else "")


class Row(NamedTuple):
    """kind: PRINTED or QUOTED; printed, here: for each column what stands in its cell; here: [] of quoted rows."""

    heading: str
    kind: str
    printed: list[list[str]]
    here: list[list[str]]


class Grid(NamedTuple):
    """What a table shows. head: of the columns; words: how many of them, the first ones, have no figures; notes: what
    the marks in the cells stand for."""

    head: list[str]
    words: int
    rows: list[Row]
    notes: list[str]


def grid(entries: Sequence[Entry]) -> Grid:
    placed: dict[str, dict[str, list[tuple[Entry, str]]]] = collections.OrderedDict()
    heads = {entry.figure.column for entry in entries}
    for entry in entries:
        head, extra = _place(entry.figure.column, heads)
        placed.setdefault(entry.figure.row, collections.OrderedDict()).setdefault(head, []).append((entry, extra))
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
        "[{}] {}: {}".format(mark, NOT_COMPARED, "; ".join(map(str, found))) for found, mark in marks.items()])


def _place(column: str, heads: Sequence[str]) -> tuple[str, str]:
    """Head, and what is added to the figure: of two figures in one cell of the paper, "Recog. rate (%), in brackets",
    and of "CK+ (MMI)", whose column is CK+."""
    for head in heads:
        if column.startswith(head + ", "):
            return head, column[len(head) + 2:]
    bracket = re.fullmatch(r"([^(]+) \(([^()%]+)\)", column)
    return (bracket[1], bracket[2]) if bracket else (column, "")


def _ordered(rows: Sequence[Sequence[str]]) -> list[str]:
    """All columns, each after those that stand before it in some row; among others the one that comes first."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    before = {name: {one for row in rows if name in row for one in row[:row.index(name)]} for name in names}
    found: list[str] = []
    while len(found) < len(names):
        left = [name for name in names if name not in found]
        found.append(next((name for name in left if not before[name] & set(left)), left[0]))
    return found


def _marks(entries: Sequence[Entry]) -> dict[tuple[Departure, ...], str]:
    """Departures -> a letter, or two."""
    sets = list(dict.fromkeys(tuple(entry.departures) for entry in entries if entry.departures and entry.found))
    return {found: _letters(index) for index, found in enumerate(sets)}


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _with(text: str, extra: str) -> str:
    return f"{text}, {extra}" if extra else text


def _printed(figure: Figure) -> str:
    return figure.value if figure.correct is None else f"{figure.value} ({figure.correct}/{figure.total})"


def _here(entry: Entry, marks: dict[tuple[Departure, ...], str]) -> str:
    if entry.found is None:
        return entry.why
    share = "" if entry.found.correct is None else f" ({entry.found.correct}/{entry.found.total})"
    return "{:.2f}{} {}".format(entry.found.value, share, f"[{marks[tuple(entry.departures)]}]"
                                if entry.departures else entry.difference)


# ---------------------------------------------------------------- text

def as_text(name: str, entries: Sequence[Entry], width: int = WIDTH) -> str:
    """Of at most `width` characters a line. Long headings and words are wrapped. Of a table that is wider, marks and
    differences stand under their figures; where that is not enough, it comes in parts: what stands beside the figures
    first, then the figures, as many columns in each part."""
    made = grid(entries)
    headings = _Column([], [_wrapped(row.heading, HEADING) for row in made.rows])
    room = width - headings.width - len(PRINTED) - GAP
    for most in FIGURES:
        columns = [_column(made, index, WORDS if index < made.words else most) for index in range(len(made.head))]
        if _fit(columns, room):
            parts = [list(range(len(columns)))]
            break
    else:
        parts = [list(range(made.words))] * bool(made.words) + _parts(columns, made.words, room)
    text = []
    for part in parts:
        title = name if len(parts) == 1 else "{}, column{} {} of {}".format(
            name, "s" if len(part) > 1 else "", " to ".join(dict.fromkeys(
                str(index + 1) for index in (part[0], part[-1]))), len(columns))
        text += [title] + _lines(made, headings, [columns[index] for index in part]) + [""]
    for note in [LEGEND] + made.notes:
        text += textwrap.wrap(note, width, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(text)


class _Column(NamedTuple):
    """Lines: of the head, and of each row, printed and, where the row has it, measured."""

    head: list[str]
    printed: list[list[str]]
    here: list[list[str]] = []

    @property
    def width(self) -> int:
        return max((len(line) for cell in [self.head, *self.printed, *self.here] for line in cell), default=0)


def _column(made: Grid, index: int, most: int) -> _Column:
    """The head is wrapped so that it makes the column no wider than its cells and its longest word are."""
    printed, here = ([[line for text in cells[index] for line in _wrapped(text, most)] if cells else []
                      for cells in side] for side in zip(*((row.printed, row.here) for row in made.rows)))
    words = max([HEAD, _Column([], printed, here).width, *map(len, made.head[index].split())])
    return _Column(_wrapped(made.head[index], words), printed, here)


def _wrapped(text: str, most: int) -> list[str]:
    return textwrap.wrap(text, most, break_on_hyphens=False)


def _fit(columns: Sequence[_Column], room: int) -> bool:
    return sum(GAP + column.width for column in columns) <= room


def _parts(columns: Sequence[_Column], first: int, room: int) -> list[list[int]]:
    """The columns from the first one on, in as few parts of about as many columns as fit."""
    left = list(range(first, len(columns)))
    for count in range(1, len(left) + 1):
        size = -(-len(left) // count)
        parts = [left[at:at + size] for at in range(0, len(left), size)]
        if all(_fit([columns[index] for index in part], room) for part in parts):
            break
    return parts


def _lines(made: Grid, headings: _Column, columns: Sequence[_Column]) -> list[str]:
    widths = [headings.width, len(PRINTED)] + [column.width for column in columns]
    found = []

    def add(heading, kind, cells):
        found.append((" " * GAP).join(text.ljust(width) for text, width in zip(
            [heading, kind, *cells], widths)).rstrip())
    for line in range(max((len(column.head) for column in columns), default=0)):
        add("", "", [_at(column.head, line) for column in columns])
    for index, row in enumerate(made.rows):
        heading = list(headings.printed[index])
        for kind, cells in ((row.kind, [column.printed[index] for column in columns]),
                            (HERE, [column.here[index] for column in columns])):
            if kind == row.kind or any(cells):
                for line in range(max([1, *map(len, cells)])):
                    add(heading.pop(0) if heading else "", "" if line else kind, [_at(cell, line) for cell in cells])
        for rest in heading:
            add(rest, "", [])
    return found


def _at(lines: Sequence[str], index: int) -> str:
    return lines[index] if index < len(lines) else ""


# ---------------------------------------------------------------- Markdown, CSV

def as_markdown(name: str, entries: Sequence[Entry], notes: Sequence[str]) -> str:
    made = grid(entries)
    rows = [["", ""] + made.head, ["---"] * (2 + len(made.head))]
    for row in made.rows:
        rows += [[heading, kind] + ["<br>".join(cell) for cell in cells] for heading, kind, cells in (
            (row.heading, row.kind, row.printed), ("", HERE, row.here)) if cells]
    text = ["# " + name, ""] + ["| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in row)) for row in rows]
    return "\n".join(text + [""] + ["- " + note for note in [LEGEND, *made.notes, *notes]]) + "\n"


def as_csv(entries: Sequence[Entry]) -> str:
    """difference: only where comparable is yes; comparable: empty where nothing was measured."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        figure, found = entry.figure, entry.found
        measured = ("", "", "") if found is None else (
            f"{found.value:.4f}", *("" if one is None else one for one in (found.correct, found.total)))
        writer.writerow([
            figure.row, figure.column, figure.system, figure.data, figure.trained_on, figure.split, figure.value,
            *("" if one is None else one for one in (figure.correct, figure.total)), *measured, entry.difference,
            "" if found is None else "yes" if entry.comparable else "no",
            "; ".join(map(str, entry.departures)) if found else entry.why, entry.weights,
            *(getattr(figure, name) for name in BESIDE)])
    return stream.getvalue()
