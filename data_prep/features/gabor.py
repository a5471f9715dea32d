"""Gabor magnitudes, their 4-bit codes and block histograms ([xie2019a] Eq. (3)): the ground of GABOR and of GSF."""
import functools
from typing import NamedTuple, Sequence, Tuple

import cv2
import numpy as np
from scipy import fft

from data_prep.features import blocks

ORIENTATIONS = 8
SCALES = 4
MAPS = ORIENTATIONS * SCALES
BINS = 16
SHORTEST_WAVELENGTH = 4.0


class Geometry(NamedTuple):
    """face: side that a crop is scaled to before it is filtered, in pixels; sigma: of the filters, in waves of
    2 pi."""

    face: int
    sigma: float

    @property
    def padding(self) -> int:
        """Three standard deviations of the widest filter, in pixels."""
        return int(np.ceil(3 * self.sigma * SHORTEST_WAVELENGTH * np.sqrt(2) ** (SCALES - 1) / (2 * np.pi)))


@functools.lru_cache(maxsize=None)
def filter_bank(size: int, sigma: float) -> np.ndarray:
    """DC-free Gabor filters in the frequency domain, float32 (32, size, size), orientation-major.

    Orientations u pi / 8; wave numbers pi/2, each next one divided by sqrt(2) (wavelengths 4 to 11.3 pixels).
    """
    frequency = 2 * np.pi * np.fft.fftfreq(size)
    fx, fy = frequency[None, :], frequency[:, None]
    bank = np.empty((ORIENTATIONS, SCALES, size, size), np.float32)
    for orientation in range(ORIENTATIONS):
        angle = np.pi * orientation / ORIENTATIONS
        for scale in range(SCALES):
            k = 2 * np.pi / (SHORTEST_WAVELENGTH * np.sqrt(2) ** scale)
            width = sigma ** 2 / (2 * k ** 2)
            squared_distance = (fx - k * np.cos(angle)) ** 2 + (fy - k * np.sin(angle)) ** 2
            bank[orientation, scale] = (np.exp(-width * squared_distance)
                                        - np.exp(-width * (fx ** 2 + fy ** 2 + k ** 2)))
    # Far from a filter's centre it falls to denormal numbers, which double the time of all that is done with them.
    bank[np.abs(bank) < np.finfo(np.float32).eps] = 0
    return bank.reshape(MAPS, size, size)


def magnitudes(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Of an image (height = width, grey) that has its final size. Returns float32 (32, height, width)."""
    side, padding = len(image), geometry.padding
    size = fft.next_fast_len(side + 2 * padding)
    padded = cv2.copyMakeBorder(image.astype(np.float32), padding, size - side - padding, padding,
                                size - side - padding, cv2.BORDER_REFLECT_101)
    spectrum = fft.fft2(padded)
    found = np.empty((MAPS, side, side), np.float32)
    # One after the other, since 32 at once do not fit into a processor's cache.
    for bank, magnitude in zip(filter_bank(size, geometry.sigma), found):
        response = fft.ifft2(spectrum * bank, overwrite_x=True)
        np.abs(response[padding:padding + side, padding:padding + side], out=magnitude)
    return found


def codes(maps: np.ndarray) -> np.ndarray:
    """The 4-bit code of each pixel of each map, uint8 of the maps' shape (maps, height, width).

    Bits: magnitude above its median over the map, then horizontal and vertical difference and Laplacian above
    zero (Gabor surface feature, Yan et al., ACPR 2011; that the fourth is the Laplacian is an assumption).
    """
    found = np.empty(maps.shape, np.uint8)
    for magnitude, code in zip(maps, found):
        padded = cv2.copyMakeBorder(magnitude, 1, 1, 1, 1, cv2.BORDER_REFLECT_101)
        left, right, above, below = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
        np.greater(magnitude, _median(magnitude), out=code.view(bool))
        code |= (right > left).view(np.uint8) << 1
        code |= (below > above).view(np.uint8) << 2
        code |= (left + right + above + below > 4 * magnitude).view(np.uint8) << 3
    return found


def _median(values: np.ndarray) -> float:
    """Of an even number of values any between the two middle ones parts them alike: the lower one."""
    flat = values.ravel()
    middle = (flat.size - 1) // 2
    return np.partition(flat, middle)[middle]


def histograms(code: np.ndarray, face: int, corners: Sequence[Tuple[int, int]], grids: Tuple[int, ...]
               ) -> Tuple[np.ndarray, ...]:
    """Block histograms of the square windows of `face` pixels with the upper left corners (x, y).

    code: uint8 (32, height, width). Returns for each grid float32 (windows, 32 * 16, grid, grid), counts.
    """
    cells = blocks.cells(face, grids)
    number = cells.count ** 2
    # Bin = (map, code, cell): the first two are added once, the last for each window.
    base = (code + BINS * np.arange(MAPS)[:, None, None]) * number
    found = []
    for x, y in corners:
        bins = base[:, y:y + face, x:x + face] + cells.of_pixel
        counts = np.bincount(bins.ravel(), minlength=MAPS * BINS * number).reshape(MAPS * BINS, number)
        found.append([cells.sums(counts, grid) for grid in grids])
    return tuple(np.stack(same_grid) for same_grid in zip(*found))


def mirrored(histogram: np.ndarray) -> np.ndarray:
    """The histograms (..., 32 * 16, grid, grid) of the mirrored image: orientation u becomes (8 - u) mod 8, the
    horizontal difference changes sign, and the blocks' columns change places."""
    shape = histogram.shape
    split = histogram.reshape(shape[:-3] + (ORIENTATIONS, SCALES, BINS) + shape[-2:])
    split = split[..., (-np.arange(ORIENTATIONS)) % ORIENTATIONS, :, :, :, :]
    split = split[..., np.arange(BINS) ^ 2, :, ::-1]
    return np.ascontiguousarray(split.reshape(shape))
