"""Measuring the template of the alignment on a data set: the average lengths of the lines in the triangle of the two
eyes and the barycenter of the other landmarks, and its average distances from the four borders ([xie2019b] 2.1).

The papers do not say which borders those are in CK+'s pictures, which show head and shoulders. Here the borders are
those of the image where the data set's images are registered faces (protocols without alignment and box). In other
images they are those of the square around MTCNN's box of the face: its centre, and as its side the longer side of the
box. The face, and its square, are turned about the centre until the eyes are level, as the alignment turns them.
"""
import os
import tempfile
from typing import Optional

import numpy as np

from common import children, files, progress
from common.errors import UserError
from data_prep import alignment, datasets
from data_prep.alignment import Detector
from data_prep.manifest import Face

CHUNK = 16
DIGITS = 4
IMAGE, BOX = "the image", "the square around the detector's box of the face"


def measure(dataset: str, source: Optional[str], protocol: Optional[str], processes: int) -> dict:
    """What a template's file holds (`alignment.read_template`): "margins" and "sides" in sides of the region, "faces",
    how many were measured, and "no_face", the images in which MTCNN finds no face, or not the one of the landmarks.

    Of a set with parts of its own the training images are measured, of another one all. The landmarks are those of the
    data set, or MTCNN's. Raises UserError on bad input, where no face is found, and where the faces lie partly outside.
    """
    protocol = datasets.protocol_name(dataset, protocol)
    if source and not os.path.exists(source):
        raise UserError(f"{source}: no such file or folder")
    module = datasets.module(dataset)
    whole = module.PROTOCOLS[protocol].registration == "none"
    with tempfile.TemporaryDirectory() as folder:
        data = module.read(source, protocol, folder, processes)
        faces = [face for face in data.faces if face.split == "train"] or list(data.faces)
        if not faces:
            raise UserError(f"{source or dataset}: no images")
        found: list[Optional[np.ndarray]] = []
        with progress.bar("faces", len(faces)) as bar:
            chunks = [faces[i:i + CHUNK] for i in range(0, len(faces), CHUNK)]
            for measured in children.in_order(processes, _start, (data.load, whole), _measure, chunks):
                found += measured
                bar.update(len(measured))
    triangles = [triangle for triangle in found if triangle is not None]
    if not triangles:
        raise UserError(f"{source or dataset}: no face found in {len(faces)} images")
    template = dict(made_by=files.SIGNATURE, dataset=dataset, protocol=protocol, faces=len(triangles),
                    region=IMAGE if whole else BOX, unit="side of the square region", **mean(triangles),
                    no_face=[face.source for face, triangle in zip(faces, found) if triangle is None])
    if not alignment.is_template(template):
        raise UserError("{}: the faces lie outside of their regions, in the mean {}".format(
            source or dataset, template["margins"]))
    return template


def mean(triangles: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Level triangles, each (3, 2) in sides of the region -> the averages of their "sides" and "margins"."""
    left, right, lower = np.moveaxis(np.array(triangles), 1, 0)
    lengths = {"eyes": right - left, "left_eye_to_lower": lower - left, "right_eye_to_lower": lower - right}
    margins = {"left": left[:, 0], "right": 1 - right[:, 0], "top": left[:, 1], "bottom": 1 - lower[:, 1]}
    return {"sides": {name: _mean(np.linalg.norm(line, axis=1)) for name, line in lengths.items()},
            "margins": {name: _mean(values) for name, values in margins.items()}}


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), DIGITS)


def level(landmarks: tuple[float, ...], region: tuple[float, float, float, float], where: str) -> np.ndarray:
    """The triangle of five landmarks, float64 (3, 2) in sides of the region, turned about its centre until the eyes
    are level. region: x, y, width, height in pixels. Raises UserError that names `where` if the eyes are one point."""
    x, y, width, height = region
    triangle = (alignment.triangle(landmarks) - (x, y)) / (width, height) - 0.5
    cosine, sine = triangle[1] - triangle[0]
    length = np.hypot(cosine, sine)
    if not length:
        raise UserError(f"{where}: landmarks that span no triangle")
    return triangle @ (np.array([[cosine, -sine], [sine, cosine]]) / length) + 0.5


# ---------------------------------------------------------------- in the workers

def _start(load, whole: bool) -> None:
    _measure.load, _measure.whole, _measure.detector = load, whole, Detector()


def _measure(faces: list[Face]) -> list[Optional[np.ndarray]]:
    return [_triangle(face, _measure.load(face), _measure.whole, _measure.detector) for face in faces]


def _triangle(face: Face, image: np.ndarray, whole: bool, detector: Detector) -> Optional[np.ndarray]:
    height, width = image.shape[:2]
    if whole:
        landmarks = face.landmarks or detector.find(image)
        return level(landmarks, (0, 0, width, height), face.source) if landmarks else None
    for found in detector.faces(image):
        if not face.landmarks or _holds(found.box, face.landmarks):
            x, y, width, height = found.box
            side = max(width, height)
            region = (x + (width - side) / 2, y + (height - side) / 2, side, side)
            return level(face.landmarks or found.landmarks, region, face.source)
    return None


def _holds(box: tuple[float, ...], landmarks: tuple[float, ...]) -> bool:
    x, y, width, height = box
    middle = alignment.triangle(landmarks).mean(axis=0)
    return x <= middle[0] <= x + width and y <= middle[1] <= y + height
