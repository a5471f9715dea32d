"""Gabor features per second against scikit-image's `gabor` filters on the same bank, in one run.

    ./fer python -m bench.gabor [--images 60]

One process and one thread each, on faces of 114x114 pixels. scikit-image gives the 32 magnitude maps alone; ours
goes on to codes, histograms and the vector of 12800 values. The third line is for the ten crops of [xie2019a], of
one filtering, all three features.
"""
import argparse
import time

import cv2
import numpy as np
from skimage.filters import gabor as skimage_gabor
from threadpoolctl import threadpool_limits

from data_prep import crops, features
from data_prep.features import gabor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    random = np.random.RandomState(0)
    faces = [cv2.GaussianBlur(random.randint(0, 256, (256, 256)).astype(np.uint8), (0, 0), 4)
             for _ in range(options.images)]
    whole = features.Extractor(("gabor",), "compact", 256)
    ten = features.Extractor(features.NAMES, "compact", 227)
    windows = crops.SETS["xie2019a"].train
    rates = {"scikit-image": [], "ours": [], "ours, ten crops": []}
    with threadpool_limits(1):
        whole.describe(faces[0], [crops.Window(0, 0, 256)])
        ten.describe(faces[0], windows)
        for _ in range(options.repeats):
            rates["scikit-image"].append(2 / seconds(lambda face: by_skimage(cv2.resize(face, (114, 114))), faces[:2]))
            rates["ours"].append(len(faces) / seconds(
                lambda face: whole.describe(face, [crops.Window(0, 0, 256)]), faces))
            rates["ours, ten crops"].append(10 * len(faces) / seconds(lambda face: ten.describe(face, windows), faces))
    base = np.median(rates["scikit-image"])
    for name, values in rates.items():
        print("{:<18}{:>8.1f} a second (from {:.1f} to {:.1f}), {:.0f} times scikit-image".format(
            name, np.median(values), min(values), max(values), np.median(values) / base))


def seconds(work, things) -> float:
    began = time.time()
    for thing in things:
        work(thing)
    return time.time() - began


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


if __name__ == "__main__":
    main()
