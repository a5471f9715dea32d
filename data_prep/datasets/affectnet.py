"""AffectNet (Mollahosseini, Hasani & Mahoor, 2019), the manually annotated part, in both of its releases.

The first release has lists with the box of the face and 68 landmarks for each image. In the second release the faces
are cut out already, and each label is in a NumPy file of its own.
"""
import csv
import os
from dataclasses import replace
from typing import Optional

import numpy as np

from common.errors import UserError
from common.expressions import SEVEN
from data_prep.datasets import Protocol, trees
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

# From the authors' table of manual annotations, without contempt; [farzaneh2021] writes 280,000. The validation images
# are our test split, since the authors do not publish their test images.
PROTOCOLS = {"farzaneh2021": Protocol(SEVEN, {"train": 283901, "test": 3500}, crops="farzaneh2021",
                                      subjects=False)}
# By the data set's own numbers, from 0; contempt, none, uncertain and no face (7 to 10) are left out.
EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
CODES = range(11)
COLUMNS = ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
           "valence", "arousal"]
LISTS = (("training.csv", "train"), ("validation.csv", "test"))
PARTS = (("train_set", "train"), ("val_set", "test"))
LIST_FOLDERS = ("Manually_Annotated_file_lists", "Manually_Annotated/Manually_Annotated_file_lists", ".")
IMAGE_FOLDERS = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images")

Box = tuple[int, int, int, int]


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: of the first release, the folder with training.csv, validation.csv (or their folder
    Manually_Annotated_file_lists) and Manually_Annotated_Images; of the second release, the folder with train_set and
    val_set, each with images/0.jpg and annotations/0_exp.npy.

    Images of the first release are cut to the box of the face. Raises UserError with file and line on a malformed row,
    an unknown label, and an image that is missing or empty.
    """
    if os.path.isdir(os.path.join(source, PARTS[0][0])):
        faces = [face for part, split in PARTS for face in _read_part(source, part, split)]
        return trees.dataset("affectnet", SEVEN, source, faces, "train_set/annotations/0_exp.npy")
    lists, images = trees.find(source, *LIST_FOLDERS), trees.find(source, *IMAGE_FOLDERS)
    boxes: dict[str, Box] = {}
    faces = [face for name, split in LISTS
             for face in _read_list(source, os.path.normpath(os.path.join(lists, name)), images, split, boxes)]
    dataset = trees.dataset("affectnet", SEVEN, source, faces, "rows in training.csv")
    return replace(dataset, load=lambda face: _load(os.path.join(source, face.path), boxes[face.path]))


def _load(path: str, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    part = read_image(path)[top:bottom, left:right]
    if not part.size:
        raise UserError(f"{path}: the face box {box} of the list is outside of the image")
    return part


def _read_list(source: str, name: str, images: str, split: str, boxes: dict[str, Box]) -> list[Face]:
    path = os.path.join(source, name)
    faces = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            for row in rows:
                if rows.line_num == 1 and row[:1] == COLUMNS[:1]:
                    continue
                face = _read_row(source, row, images, split, boxes, f"{path}:{rows.line_num}")
                faces += [face] if face else []
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a readable CSV: expected text in UTF-8") from None
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV: {error}") from None
    return faces


def _read_row(source: str, row: list[str], images: str, split: str, boxes: dict[str, Box],
              where: str) -> Optional[Face]:
    if len(row) != len(COLUMNS):
        raise UserError(f"{where}: {len(row)} fields, expected {len(COLUMNS)} ({','.join(COLUMNS)})")
    label = _label(row[6], where)
    if label is None:
        return None
    try:
        x, y, width, height = map(int, row[1:5])
        points = np.array(row[5].split(";"), dtype=float).reshape(68, 2)
    except ValueError:
        raise UserError(f"{where}: expected a box of four integers and 68 landmarks x;y;x;y...") from None
    left, top = max(x, 0), max(y, 0)
    if x + width <= left or y + height <= top:
        raise UserError(f"{where}: empty face box {','.join(row[1:5])}")
    path = os.path.join(images, row[0])
    _require_image(source, path, where)
    boxes[path] = left, top, x + width, y + height
    return Face(path, None, label, SEVEN[label], split=split, landmarks=_five(points - (left, top)))


def _five(points: np.ndarray) -> tuple[float, ...]:
    """The five points of the manifest, from the usual 68 landmarks: points 37 to 42 are the eye on the left."""
    five = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])
    return tuple(round(float(value), 2) for value in five.ravel())


def _read_part(source: str, part: str, split: str) -> list[Face]:
    annotations = os.path.join(part, "annotations")
    numbers = sorted(int(name[:-len("_exp.npy")]) for name in trees.entries(source, annotations)
                     if name.endswith("_exp.npy") and name[:-len("_exp.npy")].isdigit())
    faces = []
    for number in numbers:
        path = os.path.join(source, annotations, f"{number}_exp.npy")
        try:
            code = str(np.load(path, allow_pickle=False).item())
        except (OSError, ValueError, EOFError):
            raise UserError(f"{path}: not a readable label, expected an array of one number") from None
        label = _label(code, path)
        if label is not None:
            image = os.path.join(part, "images", f"{number}.jpg")
            _require_image(source, image, path)
            faces.append(Face(image, None, label, SEVEN[label], split=split))
    return faces


def _label(code: str, where: str) -> Optional[int]:
    """The label of one of the data set's numbers; None where it is left out."""
    if code not in map(str, CODES):
        raise UserError(f"{where}: unknown expression {code!r}, expected 0 to {CODES[-1]}")
    return SEVEN.index(EXPRESSIONS[int(code)]) if int(code) < len(EXPRESSIONS) else None


def _require_image(source: str, path: str, where: str) -> None:
    path = os.path.join(source, path)
    if not os.path.isfile(path):
        raise UserError(f"{where}: {path}: no such file")
    if not os.path.getsize(path):
        raise UserError(f"{where}: {path}: empty file")
