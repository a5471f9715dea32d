"""Gabor features per second against scikit-image's `gabor` filters on the same bank, in one run.

One process and one thread each, on faces of 114x114 pixels. scikit-image gives the 32 magnitude maps alone; ours
goes on to codes, histograms and the vector of 12800 values. The third line is for all three features in literal
geometry (227x227), the fourth for the ten crops of [xie2019a], of one filtering, all three features.
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
    images, repeats = (10, 1) if options.quick else (60, 3)
    cv2.setNumThreads(1)
    random = np.random.RandomState(0)
    faces = [cv2.GaussianBlur(random.randint(0, 256, (256, 256)).astype(np.uint8), (0, 0), 4) for _ in range(images)]
    small = [cv2.resize(face, (114, 114)) for face in faces[:2]]
    whole = features.Extractor(("gabor",), "compact", 256)
    literal = features.Extractor(features.NAMES, "literal", 256)
    ten = features.Extractor(features.NAMES, "compact", 227)
    windows = crops.SETS["xie2019a"].train

    def each(work: Callable, things: Sequence[np.ndarray], amount: int = 1) -> int:
        for thing in things:
            work(thing)
        return amount * len(things)
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
    """float (32, height, width): magnitudes; frequency in waves a pixel, sigma in pixels."""
    found = []
    for orientation in range(gabor.ORIENTATIONS):
        for scale in range(gabor.SCALES):
            wavelength = gabor.SHORTEST_WAVELENGTH * np.sqrt(2) ** scale
            # sigma = pi in waves of 2 pi is half a wavelength.
            real, imaginary = skimage_gabor(face.astype(float), 1 / wavelength,
                                            theta=np.pi * orientation / gabor.ORIENTATIONS,
                                            sigma_x=wavelength / 2, sigma_y=wavelength / 2)
            found.append(np.hypot(real, imaginary))
    return np.stack(found)

