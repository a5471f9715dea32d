"""Gabor features per second, compared with scikit-image's `gabor` filters with the same filter bank.

Each way uses one process and one thread, on faces of 114x114 pixels. scikit-image only computes the 32 magnitude maps.
Our extractor also computes the codes, the histograms and the vector of 12800 values. The third row is all three
features in the literal geometry (227x227). The fourth row is all three features of the ten crops of [xie2019a], which
share one filtering.
"""
from collections.abc import Sequence
from typing import Callable

import cv2
import numpy as np
from skimage.filters import gabor as skimage_gabor
from threadpoolctl import threadpool_limits

from bench import timing
from data_prep import crops, features
from data_prep.features import gabor


def measure(options) -> list[dict]:
    count, repeats = (10, 1) if options.quick else (60, 3)
    cv2.setNumThreads(1)
    random = np.random.RandomState(0)
    faces = [cv2.GaussianBlur(random.randint(0, 256, (256, 256)).astype(np.uint8), (0, 0), 4) for _ in range(count)]
    small = [cv2.resize(face, (114, 114)) for face in faces[:2]]
    whole = features.Extractor(("gabor",), "compact", 256)
    literal = features.Extractor(features.NAMES, "literal", 256)
    ten = features.Extractor(features.NAMES, "compact", 227)
    windows = crops.SETS["xie2019a"].train

    def each(work: Callable, images: Sequence[np.ndarray], amount: int = 1) -> int:
        for image in images:
            work(image)
        return amount * len(images)
    with threadpool_limits(1):
        whole.describe(faces[0], [crops.Window(0, 0, 256)])
        literal.describe(faces[0], [crops.Window(0, 0, 256)])
        ten.describe(faces[0], windows)
        return timing.rows(timing.in_turn({
            "scikit-image": lambda: each(by_skimage, small),
            "ours": lambda: each(lambda face: whole.describe(face, [crops.Window(0, 0, 256)]), faces),
            "ours, literal": lambda: each(lambda face: literal.describe(face, [crops.Window(0, 0, 256)]), faces),
            "ours, ten crops": lambda: each(lambda face: ten.describe(face, windows), faces, len(windows))},
            repeats), "faces")


def by_skimage(face: np.ndarray) -> np.ndarray:
    """float (32, height, width): the magnitude maps of a face, uint8 (height, width)."""
    magnitudes = []
    for orientation in range(gabor.ORIENTATIONS):
        for scale in range(gabor.SCALES):
            wavelength = gabor.SHORTEST_WAVELENGTH * np.sqrt(2) ** scale
            # The frequency is in waves per pixel. sigma is in pixels: pi radians are half a wavelength.
            real, imaginary = skimage_gabor(face.astype(float), 1 / wavelength,
                                            theta=np.pi * orientation / gabor.ORIENTATIONS,
                                            sigma_x=wavelength / 2, sigma_y=wavelength / 2)
            magnitudes.append(np.hypot(real, imaginary))
    return np.stack(magnitudes)

