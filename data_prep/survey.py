"""The first look at each image of a data set: its landmarks, its size, and a digest of its pixels."""
import collections
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np

from common import children, progress
from data_prep.alignment import POINTS, SMALLEST_SHARE, Detector
from data_prep.manifest import Dataset, Face
from data_prep.settings import ALL

# Faces that a child process takes at a time.
CHUNK = 16
# An image is square if its longer side is at most SQUARE times its shorter one: detectors' boxes are a little off.
SQUARE = 1.1


def survey(dataset: Dataset, path: str, landmarks: bool, processes: int, what: str = "images",
           faces_of: Optional[str] = None) -> tuple[list[Face], list[Face]]:
    """Returns the faces with digests and, if `landmarks`, with landmarks; and the faces in which none were found.

    landmarks: whether to run the detector on images for which the data set has no landmarks.
    faces_of: in photographs, the faces to take, of settings.FACES; None in other images. With ALL, a photograph becomes
    as many faces as are found, the largest first, with their numbers from 1 as rows.
    path: the file that collects the results; a later call continues after the lines that it holds.
    what: name of the progress bar.
    """
    done = _complete_lines(path)
    faces = dataset.faces
    surveyor = _Surveyor(dataset, landmarks, faces_of)
    with open(path, "a", encoding="utf-8") as stream, progress.bar(what, len(faces), len(done)) as bar:
        chunks = [faces[i:i + CHUNK] for i in range(len(done), len(faces), CHUNK)]
        for lines in children.in_order(processes, lambda: None, (), surveyor.lines, chunks):
            stream.write("".join(line + "\n" for line in lines))
            stream.flush()
            done += lines
            bar.update(len(lines))
    with_face: list[Face] = []
    without_face: list[Face] = []
    for face, line in zip(faces, done):
        digest, _, *points = line.split(",")
        found = list(_landmarks(points))
        if landmarks and not found:
            without_face.append(face._replace(digest=digest))
        elif faces_of == ALL:
            with_face += [face._replace(row=number, digest=_digest_of(digest, number), landmarks=of_face)
                          for number, of_face in enumerate(found, start=1)]
        else:
            with_face.append(face._replace(digest=digest, landmarks=found[0] if found else None))
    return with_face, without_face


def scenes(path: str) -> dict[str, Any]:
    """What a note says of images that look like photographs though they are taken as faces, by the file of a survey:
    "squashed" -> their number and the most frequent size. Empty where the images look like faces: most of them are
    square, or they have one size that is not wider than high."""
    sizes: dict[str, int] = collections.Counter(line.split(",")[1] for line in _complete_lines(path))
    squashed = {size: count for size, count in sizes.items() if not _is_square(size)}
    most = max(squashed, key=lambda size: (squashed[size], size), default="")
    if 2 * sum(squashed.values()) <= sum(sizes.values()) or len(sizes) == 1 and not _is_wide(most):
        return {}
    return {"squashed": {"count": sum(squashed.values()), "example": most}}


def _is_square(size: str) -> bool:
    sides = sorted(map(int, size.split("x")))
    return sides[1] <= SQUARE * sides[0]


def _is_wide(size: str) -> bool:
    width, height = map(int, size.split("x"))
    return width > height


def _landmarks(values: Sequence[str]) -> Iterator[tuple[float, ...]]:
    """The landmarks of each face of a line."""
    for first in range(0, len(values), 2 * len(POINTS)):
        yield tuple(map(float, values[first:first + 2 * len(POINTS)]))


def _digest_of(digest: str, number: int) -> str:
    """The digest of a face of a photograph, by that of the photograph: of copies, the same faces have the same one."""
    return hashlib.sha1(f"{digest} {number}".encode()).hexdigest()[:16]


def _complete_lines(path: str) -> list[str]:
    if not os.path.exists(path):
        return []
    with open(path, "r+", encoding="utf-8") as stream:
        text = stream.read()
        whole = text[:text.rfind("\n") + 1]
        # A killed survey may have left half a line.
        stream.truncate(len(whole))
    return whole.splitlines()


class _Surveyor:
    """The work of a child process. landmarks, faces_of: see `survey`."""

    def __init__(self, dataset: Dataset, landmarks: bool, faces_of: Optional[str]):
        self._dataset, self._faces_of = dataset, faces_of
        # It loads its nets with the first image, so in each child.
        self._detector = Detector(SMALLEST_SHARE if faces_of else 0) if landmarks and any(
            face.landmarks is None for face in dataset.faces) else None

    def lines(self, faces: Sequence[Face]) -> list[str]:
        """One line for each image: the digest of its pixels, WIDTHxHEIGHT, and the landmarks of each of its faces."""
        return [self._line(face) for face in faces]

    def _line(self, face: Face) -> str:
        image = self._dataset.load(face)
        sha = hashlib.sha1(np.ascontiguousarray(image))
        sha.update(repr(image.shape).encode())
        return ",".join([sha.hexdigest()[:16], f"{image.shape[1]}x{image.shape[0]}"]
                        + [f"{value:g}" for landmarks in self._found(face, image) for value in landmarks])

    def _found(self, face: Face, image: np.ndarray) -> list[tuple[float, ...]]:
        """The landmarks of the faces to take of an image, the largest first."""
        if face.landmarks or not self._detector:
            return [face.landmarks] if face.landmarks else []
        if self._faces_of != ALL:
            landmarks = self._detector.find(image)
            return [landmarks] if landmarks else []
        return [detection.landmarks for detection in self._detector.faces(image) if detection.landmarks]
