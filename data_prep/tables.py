"""Tables that people write: CSV files that are read by the names of their columns."""
import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import TextIO

from common.errors import UserError

# What else programs write between columns.
OTHER_SEPARATORS = {";": "';'", "\t": "a tab"}


def rows(path: str, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """The line of each row of a CSV (also .csv.gz), and its fields by column, without blanks around them.

    columns, optional: the columns that it must have and may have, in any order, in upper or lower case. A byte order
    mark and empty lines are skipped. Raises UserError with file and line on other columns, other separators and a row
    with another number of fields, and with the file on what is no CSV.
    """
    opener = gzip.open if path.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8-sig") as stream:
            yield from _rows(stream, path, columns, optional)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a readable CSV: expected text in UTF-8") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV: {error}") from None


def _rows(stream: TextIO, path: str, columns: Sequence[str], optional: Sequence[str]
          ) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(stream, skipinitialspace=True)
    header = next(reader, [])
    names = _columns(header, columns, optional)
    if not names:
        raise UserError(f"{path}:1: {_wrong(header, columns, optional)}")
    for row in reader:
        if row and len(row) != len(names):
            raise UserError(f"{path}:{reader.line_num}: {len(row)} fields, expected {len(names)} ({','.join(names)})")
        if row:
            yield reader.line_num, dict(zip(names, map(str.strip, row)))


def _columns(header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The names of the columns in the order of the header; none if it is not one of such a table."""
    spelled = {name.lower(): name for name in (*columns, *optional)}
    names = [spelled.get(text.strip().lower(), "") for text in header]
    return names if "" not in names and len(set(names)) == len(names) and set(columns) <= set(names) else []


def _wrong(header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> str:
    text = ",".join(header)
    for separator, name in OTHER_SEPARATORS.items():
        if _columns(text.split(separator), columns, optional):
            return f"the columns are separated by {name}, expected ','"
    return "the columns are {!r}, expected {}{}".format(
        text[:60], ",".join(columns), "".join(f"[,{name}]" for name in optional))
