"""A page with some faces of each class and the crops of one face, to look at before a training.

It shows records of the LMDBs, so what a net gets.
"""
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np

from common import files
from data_prep import lmdb_io, manifest, pictures, prepared_folder, records
from data_prep.crops import CropSet, Window
from data_prep.manifest import Face
from data_prep.records import Record
from data_prep.settings import of_note

FILE = "faces.html"
# Faces of a class; of all classes together where there are many; their side in pixels; and JPEG's quality.
EACH, MOST, SIDE, QUALITY = 30, 300, 56, 80
REGISTERED = {"none": "The images were taken as faces.", "box": "Each face is cut by the box around its landmarks.",
              "template": "Each face is aligned to the template by its landmarks."}


class Shown(NamedTuple):
    """A picture and its text."""

    # As an address.
    picture: str
    text: str


class Row(NamedTuple):
    """Pictures under one heading."""

    name: str
    # The number of faces that could be shown.
    total: int
    faces: list[Shown]


def write(folder: str, note: dict[str, Any], crop_set: CropSet) -> None:
    """Writes the page of a folder whose LMDBs are complete; `note` is the one that it will have. Of several folds, the
    first one is shown."""
    of_fold = os.path.join(folder, *note["folds"][:1])
    splits = [split for split in manifest.SPLITS if os.path.exists(os.path.join(of_fold, split))]
    faces = manifest.read(os.path.join(of_fold, prepared_folder.MANIFEST))
    shown = [_Split(of_fold, split, faces, crop_set) for split in splits[:2]]
    # Validation and test have the same windows; often training has them too.
    different = [split for split in shown if split is shown[0] or split.windows != shown[0].windows]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True)
    fold = note["folds"][0] + ", " if note["folds"] else ""
    files.write_text(os.path.join(folder, FILE), environment.get_template("faces.html.j2").render(
        signature=files.SIGNATURE, data=prepared_folder.data_set(note), split=fold + splits[0],
        registered=REGISTERED[of_note(note).registration], groups=list(shown[0].classes(note["classes"])),
        crops=[split.crops() for split in different]))


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 ... count - 1, evenly spread, with the first and the last one."""
    return np.rint(np.linspace(0, count - 1, min(count, most))).astype(int).tolist()


class _Split:
    """The records of a split, by the rows of the manifest."""

    def __init__(self, folder: str, split: str, faces: Sequence[Face], crop_set: CropSet):
        self._folder, self._split, self._faces, self._crop_set = os.path.join(folder, split), split, faces, crop_set
        self.windows = crop_set.windows(split, "")
        self._records: dict[int, dict[int, Record]] = {}
        for record in records.read(folder, split):
            self._records.setdefault(record.row, {})[record.crop] = record

    def classes(self, names: Sequence[str]) -> Iterator[Row]:
        """Of each class, faces by the crop that is nearest to the middle."""
        side = self._crop_set.region
        middle = min(range(len(self.windows)), key=lambda crop: _off_centre(self.windows[crop], side))
        reader = lmdb_io.Reader(os.path.join(self._folder, "images"))
        each = max(1, min(EACH, MOST // len(names)))
        for label, name in enumerate(names):
            rows = sorted(row for row in self._records if self._faces[row].label == label)
            yield Row(name, len(rows), [
                Shown(_jpeg(reader, self._records[row][middle], SIDE), self._faces[row].source)
                for row in (rows[index] for index in spread(len(rows), each))])
        reader.close()

    def crops(self) -> Row:
        """The crops of the first face, each once; in data of pairs, the neutral face's behind them."""
        row = min(self._records)
        faces = []
        for name, text in (("images", ""), ("references", "neutral, ")):
            if os.path.exists(os.path.join(self._folder, name)):
                reader = lmdb_io.Reader(os.path.join(self._folder, name))
                faces += [Shown(_jpeg(reader, self._records[row][crop], pictures.FACE_PIXELS),
                                text + _described(window, self._crop_set.region))
                          for crop, window in enumerate(self.windows)]
                reader.close()
        return Row(f"{self._split} split, {self._faces[row].source}", 1, faces)


def _jpeg(reader: lmdb_io.Reader, record: Record, side: int) -> str:
    return pictures.jpeg(pictures.as_picture(lmdb_io.decode(reader[record.key])[0]), side, QUALITY)


def _off_centre(window: Window, region: int) -> tuple[bool, int]:
    twice = 2 * window.x + window.side - region, 2 * window.y + window.side - region
    return window.mirrored, sum(value * value for value in twice)


def _described(window: Window, region: int) -> str:
    return "{0}x{0}{1}{2}".format(window.side, "" if window.side == region else f" at {window.x},{window.y}",
                                  ", mirrored" * window.mirrored)
