"""Who is on which image, for a data set that does not say: a table of one's own."""
import csv
from collections.abc import Sequence

from common.errors import UserError
from data_prep.manifest import Face

COLUMNS = ("path", "subject")


def assign(faces: Sequence[Face], path: str) -> list[Face]:
    """Faces with the subjects of a CSV `path,subject`; path: an image as the manifest names it, relative to the data
    set's root, with `:line` where the images are lines of a CSV.

    Raises UserError with file and line on a table of another form, an image that is not there or named twice, and
    where an image has no subject.
    """
    subjects = _read(path, {face.source for face in faces})
    without = [face.source for face in faces if face.source not in subjects]
    if without:
        raise UserError(f"{path}: no subject for {len(without)} of {len(faces)} images, e.g. {without[0]}")
    return [face._replace(subject=subjects[face.source]) for face in faces]


def _read(path: str, known) -> dict[str, str]:
    subjects: dict[str, str] = {}
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise UserError(f"{path}:1: the columns are {','.join(header)}, expected {','.join(COLUMNS)}")
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if len(row) != len(COLUMNS) or not all(row):
                raise UserError(f"{where}: {','.join(row)!r}, expected a path and a subject")
            if row[0] not in known:
                raise UserError(f"{where}: no image {row[0]!r} in the data set")
            if row[0] in subjects:
                raise UserError(f"{where}: {row[0]!r} is there twice")
            subjects[row[0]] = row[1]
    return subjects
