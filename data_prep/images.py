"""Image files."""
import os

import cv2
import numpy as np

from data_prep import files
from data_prep.errors import UserError


def read_image(path: str) -> np.ndarray:
    """uint8 (height, width, 3) BGR. Raises UserError that names the file where it can't be decoded."""
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        if not os.path.exists(path):
            problem = "no such file"
        else:
            problem = "not a readable image" if os.path.getsize(path) else "empty file"
        raise UserError("{}: {}".format(path, problem))
    return image


def write_image(path: str, image: np.ndarray) -> None:
    """Writes a picture as JPEG; makes its folder."""
    with files.replacing(path) as partial, open(partial, "wb") as stream:
        stream.write(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 93])[1].tobytes())


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey or BGR image -> grey (1) or BGR (3)."""
    if channels == 1 and image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if channels == 3 and image.ndim == 2 else image


def square(image: np.ndarray, side: int) -> np.ndarray:
    """(height, width[, 3]) -> (side, side[, 3]); averages where it shrinks."""
    if image.shape[:2] == (side, side):
        return image
    shrinks = image.shape[0] > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
