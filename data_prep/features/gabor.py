"""Gabor magnitudes, their 4-bit codes and block histograms ([xie2019a] Eq. (3)): the ground of GABOR and of GSF."""
import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy import fft

from data_prep.features import blocks

ORIENTATIONS = 8
SCALES = 4
MAPS = ORIENTATIONS * SCALES
BINS = 16
SHORTEST_WAVELENGTH = 4.0
# Of the 256 levels by which a map's median is narrowed down, so many are below the mean.
LEVELS_TO_MEAN = 100


class Geometry(NamedTuple):
    """face: side that a crop is scaled to before it is filtered, in pixels; sigma: of the filters, in waves of
    2 pi."""

    face: int
    sigma: float

    @property
    def padding(self) -> int:
        """Three standard deviations of the widest filter, in pixels."""
        return int(np.ceil(3 * self.sigma * SHORTEST_WAVELENGTH * np.sqrt(2) ** (SCALES - 1) / (2 * np.pi)))


def frequency_response(size: int, sigma: float, orientation: int, scale: int) -> np.ndarray:
    """Of a DC-free Gabor filter, float64 (size, size), the frequencies ordered from -pi to pi.

    Orientations u pi / 8; wave numbers pi/2, each next one divided by sqrt(2) (wavelengths 4 to 11.3 pixels).
    """
    frequency = 2 * np.pi * (np.arange(size) - size // 2) / size
    fx, fy = frequency[None, :], frequency[:, None]
    angle = np.pi * orientation / ORIENTATIONS
    k = 2 * np.pi / (SHORTEST_WAVELENGTH * np.sqrt(2) ** scale)
    width = sigma ** 2 / (2 * k ** 2)
    squared_distance = (fx - k * np.cos(angle)) ** 2 + (fy - k * np.sin(angle)) ** 2
    return np.exp(-width * squared_distance) - np.exp(-width * (fx ** 2 + fy ** 2 + k ** 2))


class _Band(NamedTuple):
    """The part of a filter's response that is not zero. top, left: where it begins in the whole one; gains: float32
    (h, w); turned: their right half from right to left."""

    top: int
    left: int
    gains: np.ndarray
    turned: np.ndarray


@functools.cache
def _bands(size: int, sigma: float) -> list[_Band]:
    """Of the 32 filters, orientation-major. What float32 can't tell from zero beside the largest gain, 1, is zero."""
    found = []
    for number in range(MAPS):
        whole = frequency_response(size, sigma, *divmod(number, SCALES))
        rows, columns = (np.flatnonzero((np.abs(whole) >= np.finfo(np.float32).eps).any(axis)) for axis in (1, 0))
        top, left = rows[0], columns[0]
        gains = (whole[top:rows[-1] + 1, left:columns[-1] + 1] / size ** 2).astype(np.float32)
        turned = np.ascontiguousarray(gains[:, ::-1][:, :gains.shape[1] // 2])
        found.append(_Band(top, left, gains, turned))
    return found


@functools.cache
def _waves(count: int, size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the `count` frequencies next to zero, at the first half of `side` pixels, counted from
    their centre: float32 (half of side, half of count), both halves rounded up; of sines the count's half is rounded
    down."""
    frequency = 2 * np.pi / size * ((count - 1) / 2 - np.arange((count + 1) // 2))
    angle = (np.arange((side + 1) // 2) - (side - 1) / 2)[:, None] * frequency
    return np.cos(angle).astype(np.float32), np.sin(angle[:, :count // 2]).astype(np.float32)


@functools.cache
def _to_centre(size: int, begin: int, side: int) -> np.ndarray:
    """complex64 (size, size), by which a spectrum is multiplied to count pixels from the centre of begin, begin + 1,
    ..., begin + side - 1. Frequencies from -pi to pi."""
    shift = np.exp(2j * np.pi / size * (np.arange(size) - size // 2) * (begin + (side - 1) / 2))
    return (shift[:, None] * shift).astype(np.complex64)


def magnitudes(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Of an image (height = width, grey) that has its final size. Returns float32 (32, height, width).

    A filter lets a narrow band of frequencies through. Shifted to zero, which changes no magnitude, the band's
    inverse Fourier transform needs few of them, and is two products with real matrices of cosines and sines, for
    its real and its imaginary part alike. Pixels are counted from the image's centre: a cosine is the same on both
    sides of it and a sine the opposite, so that the products are of half of the pixels.
    """
    side, padding = len(image), geometry.padding
    size = fft.next_fast_len(side + 2 * padding)
    padded = cv2.copyMakeBorder(image.astype(np.float32), padding, size - side - padding, padding,
                                size - side - padding, cv2.BORDER_REFLECT_101)
    spectrum = fft.fftshift(fft.fft2(padded)) * _to_centre(size, padding, side)
    # Real and imaginary part, and both from right to left: of a negative stride NumPy is slow.
    parts = np.stack([spectrum.real, spectrum.imag])
    turned = np.ascontiguousarray(parts[:, :, ::-1])
    found = np.empty((MAPS, side, side), np.float32)
    # Each row has its real part, then its imaginary one.
    both = np.empty((side, 2, side), np.float32)
    half = (side + 1) // 2
    # One after the other, since 32 at once do not fit into a processor's cache.
    for band, magnitude in zip(_bands(size, geometry.sigma), found):
        height, width = band.gains.shape
        folded = _folded(parts, turned, band).reshape(2 * height, width)
        cosines, sines = _waves(width, size, side)
        even, odd = folded[:, :cosines.shape[1]] @ cosines.T, folded[:, cosines.shape[1]:] @ sines.T
        rows = np.empty((2 * height, side), np.float32)
        np.add(even, odd, out=rows[:, :half])
        rows[:, side - half:] = cv2.flip(cv2.subtract(even, odd), 1)
        rows = rows.reshape(height, 2 * side)
        cosines, sines = _waves(height, size, side)
        even, odd = ((waves @ part).reshape(half, 2, side) for waves, part in (
            (cosines, rows[:cosines.shape[1]]), (sines, rows[cosines.shape[1]:])))
        np.add(even, odd, out=both[:half])
        np.subtract(even, odd, out=both[::-1][:half])
        cv2.magnitude(both[:, 0], both[:, 1], magnitude)
    return found


def _folded(parts: np.ndarray, turned: np.ndarray, band: _Band) -> np.ndarray:
    """The factors of `_waves`, down and across, in the real and the imaginary part of a band's inverse transform:
    float32 (h, 2, w). parts: float32 (2, size, size), real and imaginary part of the spectrum; turned: the same from
    right to left.

    With a = spectrum at frequency f, b = at -f: a exp(i f x) + b exp(-i f x) = (a + b) cos(f x) + i (a - b) sin(f x).
    """
    height, width = band.gains.shape
    rows, half, middle = slice(band.top, band.top + height), width // 2, (width + 1) // 2
    right = parts.shape[2] - band.left - width
    negative = parts[:, rows, band.left:band.left + middle] * band.gains[:, :middle]
    positive = turned[:, rows, right:right + half] * band.turned
    across = np.empty((2, height, width), np.float32)
    _fold(negative[:, :, :half], positive, across[:, :, :half], across[:, :, middle:])
    across[:, :, half:middle] = negative[:, :, half:]
    half, middle = height // 2, (height + 1) // 2
    found = np.empty((height, 2, width), np.float32)
    parts = found.transpose(1, 0, 2)
    _fold(across[:, :half], across[:, ::-1][:, :half], parts[:, :half], parts[:, middle:])
    parts[:, half:middle] = across[:, half:middle]
    return found


def _fold(negative: np.ndarray, positive: np.ndarray, even: np.ndarray, odd: np.ndarray) -> None:
    """even = positive + negative, odd = i (positive - negative)."""
    np.add(positive, negative, out=even)
    np.subtract(negative[1], positive[1], out=odd[0])
    np.subtract(positive[0], negative[0], out=odd[1])


def codes(maps: np.ndarray) -> np.ndarray:
    """The 4-bit code of each pixel of each map, uint8 of the maps' shape (maps, height, width).

    Bits: magnitude above its median over the map, then horizontal and vertical difference and Laplacian above
    zero (Gabor surface feature, Yan et al., ACPR 2011; that the fourth is the Laplacian is an assumption).
    """
    found = np.empty(maps.shape, np.uint8)
    height, width = maps.shape[1:]
    pixels = height * width
    # A row for each bit; eight pixels at a time are put together.
    bits = np.zeros((4, pixels + -pixels % 8), bool)
    across, below = bits[1, :pixels].reshape(height, width), bits[2, width:pixels - width]
    for magnitude, code in zip(maps, found):
        flat = magnitude.ravel()
        np.greater(flat, _median(flat), out=bits[0, :pixels])
        # At the border, where the map is continued by reflection, a difference is zero.
        np.greater(flat[2:], flat[:-2], out=bits[1, 1:pixels - 1])
        across[:, 0] = across[:, -1] = False
        np.greater(flat[2 * width:], flat[:-2 * width], out=below)
        np.greater(cv2.Laplacian(magnitude, cv2.CV_32F, borderType=cv2.BORDER_REFLECT_101).ravel(), 0,
                   out=bits[3, :pixels])
        words = bits.view(np.uint64)
        together = words[0].copy()
        for number in (1, 2, 3):
            together |= words[number] << np.uint64(number)
        code.ravel()[:] = together.view(np.uint8)[:pixels]
    return found


def _median(values: np.ndarray) -> float:
    """float32 values >= 0. Of an even number any between the two middle ones parts them alike: the lower one.

    Counted by coarse levels, the middle one's level is known; only the values of that level are put in order.
    """
    flat = values.ravel()
    middle = (flat.size - 1) // 2
    mean = cv2.mean(flat)[0]
    # What is far above the mean has the last level.
    levels = cv2.convertScaleAbs(flat, alpha=LEVELS_TO_MEAN / mean if mean > 0 else 0)
    below = np.cumsum(cv2.calcHist([levels], [0], None, [256], [0, 256]).astype(int))
    level = np.searchsorted(below, middle, side="right")
    if level:
        middle -= below[level - 1]
    return np.partition(flat[np.flatnonzero(levels.ravel() == level)], middle)[middle]


def histograms(code: np.ndarray, face: int, corners: Sequence[tuple[int, int]], grids: tuple[int, ...]
               ) -> tuple[np.ndarray, ...]:
    """Block histograms of the square windows of `face` pixels with the upper left corners (x, y).

    code: uint8 (32, height, width). Returns for each grid float32 (windows, 32 * 16, grid, grid), counts.
    """
    cells = blocks.cells(face, grids)
    number = cells.count ** 2
    # OpenCV counts pairs of two bytes: the code with four bits of the cell's number, and the rest of that number.
    low, high = np.uint8(cells.of_pixel % 16 * BINS), np.uint8(cells.of_pixel // 16)
    sizes = [16 * BINS, int(high.max()) + 1]
    counts = np.empty((len(corners), MAPS, BINS, number), np.float32)
    both = np.empty((face, face), np.uint8)
    # Map by map, so that a map's counts stay in a processor's cache.
    for which, part in enumerate(code):
        for (x, y), count in zip(corners, counts[:, which]):
            cv2.bitwise_or(part[y:y + face, x:x + face], low, both)
            table = cv2.calcHist([both, high], [0, 1], None, sizes, [0, sizes[0], 0, sizes[1]])
            count[:] = table.reshape(16, BINS, -1).transpose(1, 2, 0).reshape(BINS, -1)[:, :number]
    found = [[cells.sums(count.reshape(MAPS * BINS, number), grid) for grid in grids] for count in counts]
    return tuple(np.stack(same_grid) for same_grid in zip(*found))


def mirrored(histogram: np.ndarray) -> np.ndarray:
    """The histograms (..., 32 * 16, grid, grid) of the mirrored image: orientation u becomes (8 - u) mod 8, the
    horizontal difference changes sign, and the blocks' columns change places."""
    shape = histogram.shape
    split = histogram.reshape(shape[:-3] + (ORIENTATIONS, SCALES, BINS) + shape[-2:])
    split = split[..., (-np.arange(ORIENTATIONS)) % ORIENTATIONS, :, :, :, :]
    split = split[..., np.arange(BINS) ^ 2, :, ::-1]
    return np.ascontiguousarray(split.reshape(shape))
