"""Who is on which image, for a data set that does not say: a table of one's own, or the names of the files."""
import os
import re
from collections.abc import Collection, Sequence

from common.errors import UserError
from data_prep import tables
from data_prep.manifest import Face

COLUMNS = ("path", "subject")


def assign(faces: Sequence[Face], path: str) -> list[Face]:
    """Faces with the subjects of a CSV with the columns path and subject; path: an image as the manifest names it,
    relative to the data set's root, with `:line` where the images are lines of a CSV.

    Raises UserError with file and line on a table of another form, an image that is not there or named twice, and
    where an image has no subject.
    """
    subjects = _read(path, {face.source for face in faces})
    without = [face.source for face in faces if face.source not in subjects]
    if without:
        raise UserError(f"{path}: no subject for {len(without)} of {len(faces)} images, e.g. {without[0]}")
    return [face._replace(subject=subjects[face.source]) for face in faces]


def _read(path: str, known: Collection[str]) -> dict[str, str]:
    subjects: dict[str, str] = {}
    for line, row in tables.rows(path, COLUMNS):
        where, image = f"{path}:{line}", row["path"]
        if not all(row.values()):
            raise UserError(f"{where}: {','.join(row.values())!r}, expected a path and a subject")
        if image not in known:
            raise UserError(f"{where}: no image {image!r} in the data set")
        if image in subjects:
            raise UserError(f"{where}: {image!r} is there twice")
        subjects[image] = row["subject"]
    return subjects


def match(faces: Sequence[Face], pattern: str) -> list[Face]:
    """Faces with the subjects that a regular expression with one group finds in the names of the files, or in the paths
    below the data set's root if it has a slash.

    Raises UserError where it finds none.
    """
    expression = compiled(pattern)
    found = [expression.search(face.path if "/" in pattern else os.path.basename(face.path)) for face in faces]
    names = [match[1] if match else None for match in found]
    without = [face.source for face, name in zip(faces, names) if not name]
    if without:
        raise UserError(f"--subject-pattern {pattern}: finds no subject in the names of {len(without)} of {len(faces)} "
                        f"images, e.g. {without[0]}")
    return [face._replace(subject=name) for face, name in zip(faces, names) if name]


def compiled(pattern: str) -> "re.Pattern[str]":
    """The regular expression of `match`. Raises UserError if it is none, or has not one group."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--subject-pattern {pattern}: not a regular expression: {error}") from None
    if expression.groups != 1:
        raise UserError(f"--subject-pattern {pattern}: has {expression.groups} groups (...), expected one, around the "
                        "subject")
    return expression
