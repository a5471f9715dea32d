"""The first look at each image of a data set: its landmarks and a digest of its pixels."""
import hashlib
import os
from collections.abc import Sequence

import numpy as np

from common import children, progress
from data_prep.alignment import Detector
from data_prep.manifest import Dataset, Face

# Faces that a child process takes at a time.
CHUNK = 16


def survey(dataset: Dataset, path: str, landmarks: bool, processes: int, what: str = "images"
           ) -> tuple[list[Face], list[Face]]:
    """Returns the faces with digests and, if `landmarks`, with landmarks; and the faces in which none were found.

    landmarks: whether to run the detector on images for which the data set has no landmarks.
    path: the file that collects the results; a later call continues after the lines that it holds.
    what: name of the progress bar.
    """
    done = _complete_lines(path)
    faces = dataset.faces
    surveyor = _Surveyor(dataset, landmarks)
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
        digest, *points = line.split(",")
        face = face._replace(digest=digest, landmarks=tuple(map(float, points)) or None)
        (without_face if landmarks and not face.landmarks else with_face).append(face)
    return with_face, without_face


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
    """The work of a child process."""

    def __init__(self, dataset: Dataset, landmarks: bool):
        self._dataset = dataset
        # It loads its nets with the first image, so in each child.
        self._detector = Detector() if landmarks and any(face.landmarks is None for face in dataset.faces) else None

    def lines(self, faces: Sequence[Face]) -> list[str]:
        """One line for each face: the digest of its pixels, then its landmarks where there are any."""
        return [self._line(face) for face in faces]

    def _line(self, face: Face) -> str:
        image = self._dataset.load(face)
        sha = hashlib.sha1(np.ascontiguousarray(image))
        sha.update(repr(image.shape).encode())
        landmarks = face.landmarks or (self._detector.find(image) if self._detector else None) or ()
        return ",".join([sha.hexdigest()[:16]] + [f"{value:g}" for value in landmarks])
