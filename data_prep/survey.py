"""A look at each image of a data set, before anything is made of it: its landmarks, and a digest of its pixels."""
import hashlib
import os

import numpy as np

from common import children, progress
from data_prep.alignment import Detector
from data_prep.manifest import Dataset, Face

CHUNK = 16


def survey(dataset: Dataset, path: str, landmarks: bool, processes: int, what: str = "images"
           ) -> tuple[list[Face], list[Face]]:
    """The faces with digests and, if `landmarks`, with those that the data set does not bring; and the faces in
    which none were found. path: where results are collected; a later call goes on behind what it holds. what: the
    progress bar's name."""
    done = _complete_lines(path)
    faces = dataset.faces
    with open(path, "a", encoding="utf-8") as stream, progress.bar(what, len(faces), len(done)) as bar:
        chunks = [faces[i:i + CHUNK] for i in range(len(done), len(faces), CHUNK)]
        for lines in children.in_order(processes, _start, (dataset, landmarks), _look, chunks):
            stream.write("".join(line + "\n" for line in lines))
            stream.flush()
            done += lines
            bar.update(len(lines))
    found, lost = [], []
    for face, line in zip(faces, done):
        digest, *points = line.split(",")
        face = face._replace(digest=digest, landmarks=tuple(map(float, points)) or None)
        (lost if landmarks and not face.landmarks else found).append(face)
    return found, lost


def _complete_lines(path: str) -> list[str]:
    if not os.path.exists(path):
        return []
    with open(path, "r+", encoding="utf-8") as stream:
        text = stream.read()
        whole = text[:text.rfind("\n") + 1]
        # A killed survey may have left half a line.
        stream.truncate(len(whole))
    return whole.splitlines()


def _start(dataset: Dataset, landmarks: bool) -> None:
    _look.dataset = dataset
    _look.detector = Detector() if landmarks and any(face.landmarks is None for face in dataset.faces) else None


def _look(faces: list[Face]) -> list[str]:
    lines = []
    for face in faces:
        image = _look.dataset.load(face)
        sha = hashlib.sha1(np.ascontiguousarray(image))
        sha.update(repr(image.shape).encode())
        landmarks = face.landmarks or (_look.detector.find(image) if _look.detector else None) or ()
        lines.append(",".join([sha.hexdigest()[:16]] + [f"{value:g}" for value in landmarks]))
    return lines
