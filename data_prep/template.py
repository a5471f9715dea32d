"""Measures the template of the alignment on a data set ([xie2019b] 2.1).

The template is the average of a triangle: the two eyes and the barycenter of the other landmarks. Its margins are the
average distances of the triangle from the four borders of the region.

The papers do not say which borders those are in CK+'s pictures, which show head and shoulders. Here, the region is the
whole image where the data set's images are registered faces (protocols without alignment and box). In other images,
the region is the square around MTCNN's box of the face: it has the centre of the box, and the longer side of the box as
its side. The region is turned about its centre until the eyes are level, as the alignment turns the face.
"""
import os
import tempfile
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from common import children, files, progress
from common.errors import UserError
from data_prep import alignment, datasets
from data_prep.alignment import Detector
from data_prep.manifest import Dataset, Face

# Faces that a child process takes at a time.
CHUNK = 16
# Decimals of the template's numbers.
DIGITS = 4
IMAGE, BOX = "the image", "the square around the detector's box of the face"


def measure(dataset: str, source: Optional[str], protocol: Optional[str], processes: int) -> dict[str, Any]:
    """Returns the content of a template's file (`alignment.read_template`).

    "margins" and "sides" are in sides of the region. "faces" is the number of faces that were measured. "no_face" lists
    the images in which MTCNN finds no face, or only other faces than the one of the landmarks.

    Measures the training images of a data set that has splits, and all images of other data sets. The landmarks are
    those of the data set, or MTCNN's. Raises UserError on bad input, where no face is found, and where the average
    triangle lies outside of the region.
    """
    protocol = datasets.protocol_name(dataset, protocol)
    if source and not os.path.exists(source):
        raise UserError(f"{source}: no such file or folder")
    module = datasets.module(dataset)
    registered = module.PROTOCOLS[protocol].registration == "none"
    with tempfile.TemporaryDirectory() as folder:
        data = module.read(source, protocol, folder, processes)
        faces = [face for face in data.faces if face.split == "train"] or list(data.faces)
        if not faces:
            raise UserError(f"{source or dataset}: no images")
        measurer = _Measurer(data, registered)
        triangles: list[Optional[np.ndarray]] = []
        with progress.bar("faces", len(faces)) as bar:
            chunks = [faces[i:i + CHUNK] for i in range(0, len(faces), CHUNK)]
            for measured in children.in_order(processes, lambda: None, (), measurer.triangles, chunks):
                triangles += measured
                bar.update(len(measured))
    present = [triangle for triangle in triangles if triangle is not None]
    if not present:
        raise UserError(f"{source or dataset}: no face found in {len(faces)} images")
    template = dict(made_by=files.SIGNATURE, dataset=dataset, protocol=protocol, faces=len(present),
                    region=IMAGE if registered else BOX, unit="side of the square region", **mean(present),
                    no_face=[face.source for face, triangle in zip(faces, triangles) if triangle is None])
    if not alignment.is_template(template):
        raise UserError("{}: on average the faces lie outside of their regions: {}".format(
            source or dataset, template["margins"]))
    return template


def mean(triangles: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """The average "sides" and "margins" of level triangles, each float64 (3, 2) in sides of the region."""
    left, right, lower = np.moveaxis(np.array(triangles), 1, 0)
    lengths = {"eyes": right - left, "left_eye_to_lower": lower - left, "right_eye_to_lower": lower - right}
    margins = {"left": left[:, 0], "right": 1 - right[:, 0], "top": left[:, 1], "bottom": 1 - lower[:, 1]}
    return {"sides": {name: _mean(np.linalg.norm(line, axis=1)) for name, line in lengths.items()},
            "margins": {name: _mean(values) for name, values in margins.items()}}


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), DIGITS)


def level(landmarks: tuple[float, ...], region: tuple[float, float, float, float], where: str) -> np.ndarray:
    """The triangle of five landmarks, float64 (3, 2) in sides of the region, turned about the region's centre until the
    eyes are level.

    region: x, y, width, height in pixels. Raises UserError that names `where` if both eyes lie on one point.
    """
    x, y, width, height = region
    triangle = (alignment.triangle(landmarks) - (x, y)) / (width, height) - 0.5
    cosine, sine = triangle[1] - triangle[0]
    length = np.hypot(cosine, sine)
    if not length:
        raise UserError(f"{where}: the landmarks span no triangle")
    return triangle @ (np.array([[cosine, -sine], [sine, cosine]]) / length) + 0.5


class _Measurer:
    """The work of a child process. registered: whether the images are registered faces."""

    def __init__(self, dataset: Dataset, registered: bool):
        self._dataset, self._registered = dataset, registered
        # It loads its nets with the first image, so in each child.
        self._detector = Detector()

    def triangles(self, faces: Sequence[Face]) -> list[Optional[np.ndarray]]:
        """The level triangle of each face; None where the face is not found."""
        return [self._triangle(face, self._dataset.load(face)) for face in faces]

    def _triangle(self, face: Face, image: np.ndarray) -> Optional[np.ndarray]:
        if self._registered:
            landmarks = face.landmarks or self._detector.find(image)
            return level(landmarks, (0, 0, image.shape[1], image.shape[0]), face.source) if landmarks else None
        for detection in self._detector.faces(image):
            landmarks = face.landmarks or detection.landmarks
            if landmarks and (not face.landmarks or _contains(detection.box, face.landmarks)):
                x, y, width, height = detection.box
                side = max(width, height)
                region = (x + (width - side) / 2, y + (height - side) / 2, side, side)
                return level(landmarks, region, face.source)
        return None


def _contains(box: tuple[float, ...], landmarks: tuple[float, ...]) -> bool:
    x, y, width, height = box
    middle = alignment.triangle(landmarks).mean(axis=0)
    return x <= middle[0] <= x + width and y <= middle[1] <= y + height
