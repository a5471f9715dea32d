"""The manifest: the one table that every data set becomes (one row a face)."""
import csv
from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple, Optional

import numpy as np

from common.errors import UserError
from common.files import replacing

SPLITS = ("train", "val", "test")
ROLES = ("neutral", "peak", "")
LANDMARKS = tuple(f"{point}_{axis}"
                  for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
                  for axis in "xy")
COLUMNS = ("path", "row", "label", "class_name", "subject", "sequence", "frame", "role", "split", "fold",
           "digest", "copy_of") + LANDMARKS


class Face(NamedTuple):
    """One row of the manifest.

    path: image file, or the CSV file or video that holds the image, relative to the data set's root.
    row: line of a CSV source that holds the image (the header is line 1), or frame of a video (from 1); None for an
    image file.
    label: class index from 0; class_name: its name. A frame that only serves as a neutral reference carries
    those of its sequence.
    subject, sequence: empty where the data set has none. A sequence is one unit of evaluation.
    frame: position in the sequence; role: "neutral", "peak" or "" (neither, or not known).
    split: "train", "val", "test", or "" (no sample of its own, or not decided because the set has folds).
    fold: from 1 in a set that is cross-validated, else None.
    digest: of the image's pixels: equal digests are copies.
    copy_of: source of the first training image with the same pixels, where this one is in another split.
    landmarks: x1, y1, ..., x5, y5 in pixels, in MTCNN's order (left eye, right eye, nose, left and right
    corner of the mouth; left as one sees it), or None where not known.
    """

    path: str
    row: Optional[int]
    label: int
    class_name: str
    subject: str = ""
    sequence: str = ""
    frame: Optional[int] = None
    role: str = ""
    split: str = ""
    fold: Optional[int] = None
    digest: str = ""
    copy_of: str = ""
    landmarks: Optional[tuple[float, ...]] = None

    @property
    def unit(self) -> str:
        """What one decision of Eq. (12) of [xie2019a] is about: the sequence, or the image itself."""
        return self.sequence or self.source

    @property
    def source(self) -> str:
        """The image's name for people: a path, with the line for a CSV source."""
        return self.path if self.row is None else f"{self.path}:{self.row}"


class Dataset(NamedTuple):
    """A data set as read: its rows and the way to an image.

    load: Face -> uint8 image, (height, width) grey or (height, width, 3) BGR.
    """

    name: str
    classes: Sequence[str]
    faces: list[Face]
    load: Callable[[Face], np.ndarray]


def write(path: str, faces: Iterable[Face]) -> None:
    """Writes the manifest atomically."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(COLUMNS)
        for face in faces:
            landmarks = face.landmarks or ("",) * len(LANDMARKS)
            fields = ["" if value is None else value for value in face[:-1]]
            out.writerow(fields + list(landmarks))


def read(path: str) -> list[Face]:
    """Reads and checks a manifest.

    Raises UserError with file and line on a missing column, a value that does not parse, an unknown split
    or role, a label with two class names, or a subject that is in two splits.
    """
    faces = []
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise UserError("{}:1: the columns are {}, expected {}".format(
                path, ",".join(header), ",".join(COLUMNS)))
        for row in rows:
            faces.append(_parse(row, f"{path}:{rows.line_num}"))
    check(faces, path)
    return faces


def _parse(row: list[str], where: str) -> Face:
    if len(row) != len(COLUMNS):
        raise UserError(f"{where}: {len(row)} fields, expected {len(COLUMNS)}")
    text = dict(zip(COLUMNS, row))
    try:
        points = [text[name] for name in LANDMARKS]
        landmarks = tuple(float(value) for value in points) if any(points) else None
        face = Face(text["path"], int(text["row"]) if text["row"] else None, int(text["label"]),
                    text["class_name"], text["subject"], text["sequence"],
                    int(text["frame"]) if text["frame"] else None, text["role"], text["split"],
                    int(text["fold"]) if text["fold"] else None, text["digest"], text["copy_of"], landmarks)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if face.split not in SPLITS + ("",):
        raise UserError("{}: split {!r}, expected one of {}, or nothing".format(
            where, face.split, ", ".join(SPLITS)))
    if face.role not in ROLES:
        raise UserError(f"{where}: role {face.role!r}, expected neutral, peak or nothing")
    if face.label < 0:
        raise UserError(f"{where}: label {face.label}, expected 0 or more")
    return face


def check(faces: Sequence[Face], where: str) -> None:
    """Checks what concerns several rows: one name for each label, no subject in two splits or folds."""
    names, splits, folds = {}, {}, {}
    for line, face in enumerate(faces, start=2):
        name = names.setdefault(face.label, face.class_name)
        if name != face.class_name:
            raise UserError(f"{where}:{line}: label {face.label} is {face.class_name!r} here and {name!r} above")
        if face.subject and face.split:
            split = splits.setdefault(face.subject, face.split)
            if split != face.split:
                raise UserError(f"{where}:{line}: subject {face.subject} is in {face.split} here and in {split} "
                                "above; a subject must be in one "
                                "split only")
        if face.subject and face.fold is not None:
            fold = folds.setdefault(face.subject, face.fold)
            if fold != face.fold:
                raise UserError(f"{where}:{line}: subject {face.subject} is in fold {face.fold} here and in fold "
                                f"{fold} above; a subject must be in "
                                "one fold only")
