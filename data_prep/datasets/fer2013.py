"""FER2013 (Goodfellow et al., 2013): the challenge's CSV, or a folder of images."""
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

import numpy as np

from common import expressions
from common.errors import UserError
from common.expressions import SEVEN
from data_prep import tables
from data_prep.datasets import Protocol, trees
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

COUNTS = {"train": 28709, "val": 3589, "test": 3589}
PLAIN = Protocol(SEVEN, COUNTS, features=("gabor",), subjects=False)
PROTOCOLS = {"plain": PLAIN,
             "xie2019a": replace(PLAIN, crops="xie2019a", features=("gabor", "gsf", "sift"), geometry="literal"),
             "liu2017": replace(PLAIN, crops="liu2017", features=()),
             # For who chooses settings and has no PrivateTest, or keeps it for later: PublicTest is the test split, and
             # a part of Training the validation split.
             "public": replace(PLAIN, counts={}, hold_out=0.1, features=())}
COLUMNS = ("emotion", "pixels", "Usage")
USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
# Of the protocol "public"; it leaves out PrivateTest.
USAGE_PUBLIC = {"Training": "train", "PublicTest": "test", "PrivateTest": ""}
SIDE = 48


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the CSV file with COLUMNS in any order (also .csv.gz), or a folder <split>/<emotion>/<image>.

    Raises UserError with file and line, or with the path, on anything else.
    """
    usage = USAGE_PUBLIC if protocol == "public" else USAGE
    return _read_folder(source, usage) if os.path.isdir(source) else _read_csv(source, folder, usage)


def _read_csv(path: str, folder: str, usage: Mapping[str, str]) -> Dataset:
    name = os.path.basename(path)
    faces: list[Face] = []
    position: dict[Optional[int], int] = {}
    images = np.empty((0, SIDE, SIDE), np.uint8)
    # The pixels go into a file without a name: this needs little memory, and nothing remains of it in any case.
    with tempfile.TemporaryFile(dir=folder or None) as pixels:
        for line, row in tables.rows(path, COLUMNS):
            face = _face(row, name, line, f"{path}:{line}", usage)
            values = _pixels(row["pixels"], f"{path}:{line}")
            if face.split:
                pixels.write(values)
                position[line] = len(faces)
                faces.append(face)
        pixels.flush()
        if faces:
            images = np.memmap(pixels, np.uint8, "r", shape=(len(faces), SIDE, SIDE))
    if not faces:
        raise UserError(f"{path}: no rows" + " of Training and PublicTest" * (usage is USAGE_PUBLIC))
    return Dataset("fer2013", SEVEN, faces, lambda face: np.asarray(images[position[face.row]]))


def _face(row: Mapping[str, str], name: str, line: int, where: str, usage: Mapping[str, str]) -> Face:
    if row["emotion"] not in map(str, range(len(SEVEN))):
        raise UserError(f"{where}: unknown label {row['emotion']!r}, expected 0 to {len(SEVEN) - 1}")
    if row["Usage"] not in USAGE:
        raise UserError(f"{where}: unknown Usage {row['Usage']!r}, expected {', '.join(USAGE)}")
    label = int(row["emotion"])
    return Face(name, line, label, SEVEN[label], split=usage[row["Usage"]])


def _pixels(text: str, where: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # NumPy only warns if the text ends in something that is not a number.
            warnings.simplefilter("error", DeprecationWarning)
            pixels = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        raise UserError(f"{where}: the pixels are not integers") from None
    if len(pixels) != SIDE * SIDE:
        raise UserError(f"{where}: {len(pixels)} pixels, expected {SIDE * SIDE} (48x48)")
    if pixels.min() < 0 or pixels.max() > 255:
        raise UserError(f"{where}: pixel {pixels[(pixels < 0) | (pixels > 255)][0]}, expected 0 to 255")
    return pixels.astype(np.uint8).reshape(SIDE, SIDE)


def _read_folder(root: str, usage: Mapping[str, str]) -> Dataset:
    faces: list[Face] = []
    for name in trees.folders(root):
        split = trees.SPLITS.get(name.lower())
        if not split:
            raise UserError(f"{os.path.join(root, name)}: unknown split, expected one of {', '.join(trees.SPLITS)}")
        for emotion in trees.folders(root, name):
            faces += _read_class(root, os.path.join(name, emotion), split, usage)
    if not faces:
        raise UserError(f"{root}: no images, expected {os.path.join(root, 'train')}/<emotion>/*.jpg")
    return Dataset("fer2013", SEVEN, faces, lambda face: read_image(os.path.join(root, face.path)))


def _read_class(root: str, folder: str, split: str, usage: Mapping[str, str]) -> list[Face]:
    """The faces in root/folder, a class of a split."""
    label = expressions.label(os.path.basename(folder))
    if label is None:
        raise UserError(f"{os.path.join(root, folder)}: unknown label, expected one of {', '.join(SEVEN)}")
    # The common folder version merges both test splits; the file name still tells the split.
    of_usage = {split: part for part, split in USAGE.items()}
    splits = [(path, usage[part if part in usage else of_usage[split]]) for path in trees.images(root, folder)
              for part in [os.path.basename(path).split("_")[0]]]
    return [Face(path, None, label, SEVEN[label], split=split) for path, split in splits if split]
