"""Gabor magnitudes, their 4-bit codes and block histograms ([xie2019a] Eq. (3)), on which GABOR and GSF are built."""
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from data_prep.features import blocks

ORIENTATIONS = 8
SCALES = 4
MAPS = ORIENTATIONS * SCALES
BINS = 16
# In pixels.
SHORTEST_WAVELENGTH = 4.0
# The median of a map is first located by 256 levels, of which this many lie below the mean.
LEVELS_TO_MEAN = 100


@dataclass(frozen=True)
class Geometry:
    """The size of the face, and of the filters."""

    # Side in pixels to which a crop is scaled before it is filtered.
    face: int
    # Standard deviation of the filters' envelope, in radians of their wave: 2 pi is one wavelength.
    sigma: float

    @property
    def padding(self) -> int:
        """Three standard deviations of the widest filter, in pixels."""
        return int(np.ceil(3 * self.sigma * SHORTEST_WAVELENGTH * np.sqrt(2) ** (SCALES - 1) / (2 * np.pi)))


def frequency_response(size: int, sigma: float, orientation: int, scale: int) -> np.ndarray:
    """The frequency response of a Gabor filter without DC, float64 (size, size); frequencies go from -pi to pi.

    orientation: u, for the angle u pi / 8. scale: v, for the wave number pi / 2 / sqrt(2)^v (wavelengths of 4 to 11.3
    pixels).
    """
    frequency = 2 * np.pi * (np.arange(size) - size // 2) / size
    fx, fy = frequency[None, :], frequency[:, None]
    angle = np.pi * orientation / ORIENTATIONS
    k = 2 * np.pi / (SHORTEST_WAVELENGTH * np.sqrt(2) ** scale)
    width = sigma ** 2 / (2 * k ** 2)
    squared_distance = (fx - k * np.cos(angle)) ** 2 + (fy - k * np.sin(angle)) ** 2
    return np.exp(-width * squared_distance) - np.exp(-width * (fx ** 2 + fy ** 2 + k ** 2))


@dataclass(frozen=True)
class _Band:
    """The part of a filter's frequency response that is not zero."""

    # Where the part begins in the whole response.
    top: int
    left: int
    # float32 (h, w).
    gains: np.ndarray
    # The right half of the gains, from right to left: float32 (h, w // 2).
    turned: np.ndarray


@functools.cache
def _bands(size: int, sigma: float) -> list[_Band]:
    """The bands of the 32 filters, ordered by orientation, then scale. Gains that float32 cannot tell from zero beside
    the largest gain, 1, are zero."""
    bands = []
    for number in range(MAPS):
        whole = frequency_response(size, sigma, *divmod(number, SCALES))
        rows, columns = (np.flatnonzero((np.abs(whole) >= np.finfo(np.float32).eps).any(axis)) for axis in (1, 0))
        top, left = rows[0], columns[0]
        gains = (whole[top:rows[-1] + 1, left:columns[-1] + 1] / size ** 2).astype(np.float32)
        turned = np.ascontiguousarray(gains[:, ::-1][:, :gains.shape[1] // 2])
        bands.append(_Band(top, left, gains, turned))
    return bands


@functools.cache
def _waves(count: int, size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the `count` frequencies nearest to zero, at the first half of `side` pixels, with the origin
    in their centre: float32 (ceil(side / 2), ceil(count / 2)) and (ceil(side / 2), floor(count / 2))."""
    frequency = 2 * np.pi / size * ((count - 1) / 2 - np.arange((count + 1) // 2))
    angle = (np.arange((side + 1) // 2) - (side - 1) / 2)[:, None] * frequency
    return np.cos(angle).astype(np.float32), np.sin(angle[:, :count // 2]).astype(np.float32)


@functools.cache
def _to_centre(size: int, begin: int, side: int) -> np.ndarray:
    """The factors, complex64 (size, size), that move the origin of a spectrum's image to the centre of the pixels
    begin, ..., begin + side - 1. Frequencies go from -pi to pi."""
    shift = np.exp(2j * np.pi / size * (np.arange(size) - size // 2) * (begin + (side - 1) / 2))
    return (shift[:, None] * shift).astype(np.complex64)


def magnitudes(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The magnitudes of the 32 filters' responses, float32 (32, height, width).

    image: grey, height = width, already scaled to geometry.face or a larger region.

    Each filter passes a narrow band of frequencies. Shifting the band to zero changes no magnitude. Then its inverse
    Fourier transform needs few frequencies, and is two products with real matrices of cosines and sines, for the real
    and for the imaginary part. With the origin in the centre of the image, cosines are even and sines are odd, so the
    products are computed for half of the pixels only.
    """
    side, padding = len(image), geometry.padding
    size = fft.next_fast_len(side + 2 * padding)
    padded = cv2.copyMakeBorder(image.astype(np.float32), padding, size - side - padding, padding,
                                size - side - padding, cv2.BORDER_REFLECT_101)
    spectrum = fft.fftshift(fft.fft2(padded)) * _to_centre(size, padding, side)
    # Real and imaginary part, and both from right to left as a copy: NumPy is slow with negative strides.
    parts = np.stack([spectrum.real, spectrum.imag])
    turned = np.ascontiguousarray(parts[:, :, ::-1])
    maps = np.empty((MAPS, side, side), np.float32)
    # In each row, first the real part, then the imaginary part.
    both = np.empty((side, 2, side), np.float32)
    half = (side + 1) // 2
    # One filter after the other: 32 at once do not fit into a processor's cache.
    for band, magnitude in zip(_bands(size, geometry.sigma), maps):
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
    return maps


def _folded(parts: np.ndarray, turned: np.ndarray, band: _Band) -> np.ndarray:
    """The coefficients of `_waves`, down and across, in a band's inverse transform: float32 (h, 2, w), real and
    imaginary part.

    parts: float32 (2, size, size), real and imaginary part of the spectrum; turned: the same from right to left.

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
    coefficients = np.empty((height, 2, width), np.float32)
    parts = coefficients.transpose(1, 0, 2)
    _fold(across[:, :half], across[:, ::-1][:, :half], parts[:, :half], parts[:, middle:])
    parts[:, half:middle] = across[:, half:middle]
    return coefficients


def _fold(negative: np.ndarray, positive: np.ndarray, even: np.ndarray, odd: np.ndarray) -> None:
    """even = positive + negative, odd = i (positive - negative)."""
    np.add(positive, negative, out=even)
    np.subtract(negative[1], positive[1], out=odd[0])
    np.subtract(positive[0], negative[0], out=odd[1])


def codes(maps: np.ndarray) -> np.ndarray:
    """The 4-bit code of each pixel of each map, uint8 of the maps' shape (maps, height, width).

    The bits: magnitude above the median of the map, horizontal difference above zero, vertical difference above zero,
    Laplacian above zero (Gabor surface feature, Yan et al., ACPR 2011; the Laplacian is an assumption).
    """
    coded = np.empty(maps.shape, np.uint8)
    height, width = maps.shape[1:]
    pixels = height * width
    # One row for each bit; the bits of eight pixels are combined at a time.
    bits = np.zeros((4, pixels + -pixels % 8), bool)
    across, below = bits[1, :pixels].reshape(height, width), bits[2, width:pixels - width]
    for magnitude, code in zip(maps, coded):
        flat = magnitude.ravel()
        np.greater(flat, _median(flat), out=bits[0, :pixels])
        # The map is continued by reflection, so differences at the border are zero.
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
    return coded


def _median(values: np.ndarray) -> float:
    """The median of float32 values >= 0; the lower one of the two middle values of an even number, since any value
    between the two separates the same halves.

    A histogram of coarse levels tells the level of the median; only the values of that level are sorted.
    """
    flat = values.ravel()
    middle = (flat.size - 1) // 2
    mean = cv2.mean(flat)[0]
    # Values far above the mean have the last level.
    levels = cv2.convertScaleAbs(flat, alpha=LEVELS_TO_MEAN / mean if mean > 0 else 0)
    below = np.cumsum(cv2.calcHist([levels], [0], None, [256], [0, 256]).astype(int))
    level = np.searchsorted(below, middle, side="right")
    if level:
        middle -= below[level - 1]
    return np.partition(flat[np.flatnonzero(levels.ravel() == level)], middle)[middle]


def histograms(code: np.ndarray, face: int, corners: Sequence[tuple[int, int]], grids: tuple[int, ...]
               ) -> tuple[np.ndarray, ...]:
    """Block histograms of square windows of `face` pixels.

    code: uint8 (32, height, width); corners: upper left corner (x, y) of each window, in pixels; grids: blocks in each
    row and column. Returns for each grid the counts, float32 (windows, 32 * 16, grid, grid).
    """
    cells = blocks.cells(face, grids)
    number = cells.count ** 2
    # OpenCV counts pairs of bytes: here the code with four bits of the cell's number, and the other bits of it.
    low, high = np.uint8(cells.of_pixel % 16 * BINS), np.uint8(cells.of_pixel // 16)
    sizes = [16 * BINS, int(high.max()) + 1]
    counts = np.empty((len(corners), MAPS, BINS, number), np.float32)
    both = np.empty((face, face), np.uint8)
    # Map by map: the counts of a map fit into a processor's cache.
    for which, part in enumerate(code):
        for (x, y), count in zip(corners, counts[:, which]):
            cv2.bitwise_or(part[y:y + face, x:x + face], low, both)
            table = cv2.calcHist([both, high], [0, 1], None, sizes, [0, sizes[0], 0, sizes[1]])
            count[:] = table.reshape(16, BINS, -1).transpose(1, 2, 0).reshape(BINS, -1)[:, :number]
    sums = [[cells.sums(count.reshape(MAPS * BINS, number), grid) for grid in grids] for count in counts]
    return tuple(np.stack(same_grid) for same_grid in zip(*sums))


def mirrored(histogram: np.ndarray) -> np.ndarray:
    """The histograms of the mirrored windows, of the same shape (..., 32 * 16, grid, grid): orientation u becomes
    (8 - u) mod 8, the horizontal difference changes its sign, and the columns of blocks are reversed."""
    shape = histogram.shape
    split = histogram.reshape(shape[:-3] + (ORIENTATIONS, SCALES, BINS) + shape[-2:])
    split = split[..., (-np.arange(ORIENTATIONS)) % ORIENTATIONS, :, :, :, :]
    split = split[..., np.arange(BINS) ^ 2, :, ::-1]
    return np.ascontiguousarray(split.reshape(shape))
