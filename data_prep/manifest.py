"""The manifest: one table with a row for each face. Every data set becomes one."""
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

    A tuple: of a data set of hundred thousands of images, a frozen dataclass would lengthen the preparation by 3 %.
    """

    # Image file, or the CSV file or video that holds the image, relative to the root of the data set.
    path: str
    # Line of the CSV file (the header is line 1), or frame of the video (from 1); None for an image file.
    row: Optional[int]
    # Class index from 0. A frame that is only a neutral reference has the label and class name of its sequence.
    label: int
    class_name: str
    # Empty where the data set does not tell who is on the image.
    subject: str = ""
    # Empty for a single image. A sequence is one unit of evaluation.
    sequence: str = ""
    # Number in the sequence; None for a single image.
    frame: Optional[int] = None
    # "neutral", "peak", or "" for neither or unknown.
    role: str = ""
    # "train", "val" or "test"; "" for what is no sample, and in a data set with folds.
    split: str = ""
    # From 1 in a data set with folds, else None.
    fold: Optional[int] = None
    # Digest of the pixels: copies have the same one.
    digest: str = ""
    # Source of the first training image with the same pixels, for images of other splits.
    copy_of: str = ""
    # x1, y1, ..., x5, y5 in pixels: left eye, right eye, nose, left and right corner of the mouth, left and right as
    # they are in the image. None where unknown.
    landmarks: Optional[tuple[float, ...]] = None

    @property
    def unit(self) -> str:
        """What one prediction is about ([xie2019a] Eq. (12)): the sequence, or the image itself."""
        return self.sequence or self.source

    @property
    def source(self) -> str:
        """The name of the image in messages: a path, followed by the line or frame where there is one."""
        return self.path if self.row is None else f"{self.path}:{self.row}"


@dataclass(frozen=True)
class Dataset:
    """A data set as its reader returns it."""

    # As in datasets.NAMES.
    name: str
    # Class names in the order of the labels.
    classes: Sequence[str]
    faces: list[Face]
    # Returns the image of a face, uint8, (height, width) grey or (height, width, 3) BGR.
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
    or role, a label with two class names, and a subject that is in two splits or folds.
    """
    faces = []
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise UserError(f"{path}:1: the columns are {','.join(header)}, expected {','.join(COLUMNS)}")
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
        raise UserError(f"{where}: split {face.split!r}, expected one of {', '.join(SPLITS)}, or nothing")
    if face.role not in ROLES:
        raise UserError(f"{where}: role {face.role!r}, expected neutral, peak or nothing")
    if face.label < 0:
        raise UserError(f"{where}: label {face.label}, expected 0 or more")
    return face


def check(faces: Sequence[Face], where: str) -> None:
    """Raises UserError, with `where` and the row, if a label has two class names, or a subject two splits or folds."""
    names: dict[int, str] = {}
    splits: dict[str, str] = {}
    folds: dict[str, int] = {}
    for line, face in enumerate(faces, start=2):
        name = names.setdefault(face.label, face.class_name)
        if name != face.class_name:
            raise UserError(f"{where}:{line}: label {face.label} is {face.class_name!r} here and {name!r} above")
        if face.subject and face.split:
            split = splits.setdefault(face.subject, face.split)
            if split != face.split:
                raise UserError(f"{where}:{line}: subject {face.subject} is in {face.split} here and in {split} "
                                "above; a subject must be in one split only")
        if face.subject and face.fold is not None:
            fold = folds.setdefault(face.subject, face.fold)
            if fold != face.fold:
                raise UserError(f"{where}:{line}: subject {face.subject} is in fold {face.fold} here and in fold "
                                f"{fold} above; a subject must be in one fold only")
