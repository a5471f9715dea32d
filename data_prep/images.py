"""Image files."""
import os

import cv2
import numpy as np

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


def grey_square(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 (height, width[, 3]) -> uint8 (side, side) grey; averages where it shrinks."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if image.shape == (side, side):
        return image
    shrinks = image.shape[0] > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
