"""Gabor magnitudes, their 4-bit codes and block histograms ([xie2019a] Eq. (3)): the ground of GABOR and of GSF."""
import functools
from typing import List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
from scipy import fft

from data_prep.features import blocks

ORIENTATIONS = 8
SCALES = 4
MAPS = ORIENTATIONS * SCALES
BINS = 16
SHORTEST_WAVELENGTH = 4.0
# One of so many values stands for a map where its median is narrowed down.
SAMPLED = 16


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
    (h, w)."""

    top: int
    left: int
    gains: np.ndarray


@functools.lru_cache(maxsize=None)
def _bands(size: int, sigma: float) -> List[_Band]:
    """Of the 32 filters, orientation-major. What float32 can't tell from zero beside the largest gain, 1, is zero."""
    found = []
    for number in range(MAPS):
        whole = frequency_response(size, sigma, *divmod(number, SCALES))
        rows, columns = (np.flatnonzero((np.abs(whole) >= np.finfo(np.float32).eps).any(axis)) for axis in (1, 0))
        top, left = rows[0], columns[0]
        found.append(_Band(top, left, (whole[top:rows[-1] + 1, left:columns[-1] + 1] / size ** 2).astype(np.float32)))
    return found


@functools.lru_cache(maxsize=None)
def _waves(count: int, size: int, begin: int, side: int) -> np.ndarray:
    """float32 (side, count): cosines, then sines, of the `count` frequencies next to zero, at the pixels begin,
    begin + 1, ..."""
    frequency = 2 * np.pi / size * ((count - 1) / 2 - np.arange((count + 1) // 2))
    angle = np.arange(begin, begin + side)[:, None] * frequency
    return np.hstack([np.cos(angle), np.sin(angle[:, :count // 2])]).astype(np.float32)


def magnitudes(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Of an image (height = width, grey) that has its final size. Returns float32 (32, height, width).

    A filter lets a narrow band of frequencies through. Shifted to zero, which changes no magnitude, the band's
    inverse Fourier transform needs few of them, and is two products with real matrices of cosines and sines, for
    its real and its imaginary part alike: three times as fast as whole inverse FFTs.
    """
    side, padding = len(image), geometry.padding
    size = fft.next_fast_len(side + 2 * padding)
    padded = cv2.copyMakeBorder(image.astype(np.float32), padding, size - side - padding, padding,
                                size - side - padding, cv2.BORDER_REFLECT_101)
    spectrum = fft.fftshift(fft.fft2(padded))
    # Real and imaginary part, and both from right to left: of a negative stride NumPy is slow.
    parts = np.stack([spectrum.real, spectrum.imag])
    turned = np.ascontiguousarray(parts[:, :, ::-1])
    found = np.empty((MAPS, side, side), np.float32)
    real, imaginary = np.empty((2, side, side), np.float32)
    # One after the other, since 32 at once do not fit into a processor's cache.
    for band, magnitude in zip(_bands(size, geometry.sigma), found):
        height, width = band.gains.shape
        folded = _folded(parts, turned, band)
        rows = np.matmul(folded.reshape(2 * height, width), _waves(width, size, padding, side).T)
        waves = _waves(height, size, padding, side)
        np.matmul(waves, rows[:height], out=real)
        np.matmul(waves, rows[height:], out=imaginary)
        cv2.magnitude(real, imaginary, magnitude)
    return found


def _folded(parts: np.ndarray, turned: np.ndarray, band: _Band) -> np.ndarray:
    """The factors of `_waves`, down and across, in the real and the imaginary part of a band's inverse transform:
    float32 (2, h, w). parts: float32 (2, size, size), real and imaginary part of the spectrum; turned: the same from
    right to left.

    With a = spectrum at frequency f, b = at -f: a exp(i f x) + b exp(-i f x) = (a + b) cos(f x) + i (a - b) sin(f x).
    """
    height, width = band.gains.shape
    rows, half, middle = slice(band.top, band.top + height), width // 2, (width + 1) // 2
    right = parts.shape[2] - band.left - width
    negative = parts[:, rows, band.left:band.left + middle] * band.gains[:, :middle]
    positive = turned[:, rows, right:right + half] * np.ascontiguousarray(band.gains[:, ::-1][:, :half])
    across = np.empty((2, height, width), np.float32)
    _fold(negative[:, :, :half], positive, across[:, :, :half], across[:, :, middle:])
    across[:, :, half:middle] = negative[:, :, half:]
    half, middle = height // 2, (height + 1) // 2
    found = np.empty((2, height, width), np.float32)
    _fold(across[:, :half], across[:, ::-1][:, :half], found[:, :half], found[:, middle:])
    found[:, half:middle] = across[:, half:middle]
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
    bit = np.empty(maps.shape[1:], bool)
    for magnitude, code in zip(maps, found):
        np.greater(magnitude, _median(magnitude), out=code.view(bool))
        # At the border, where the map is continued by reflection, a difference is zero.
        bit[:, [0, -1]] = False
        np.greater(magnitude[:, 2:], magnitude[:, :-2], out=bit[:, 1:-1])
        cv2.scaleAdd(bit.view(np.uint8), 2, code, code)
        bit[[0, -1]] = False
        np.greater(magnitude[2:], magnitude[:-2], out=bit[1:-1])
        cv2.scaleAdd(bit.view(np.uint8), 4, code, code)
        np.greater(cv2.Laplacian(magnitude, cv2.CV_32F, borderType=cv2.BORDER_REFLECT_101), 0, out=bit)
        cv2.scaleAdd(bit.view(np.uint8), 8, code, code)
    return found


def _median(values: np.ndarray) -> float:
    """Of an even number of values any between the two middle ones parts them alike: the lower one."""
    flat = values.ravel()
    middle = (flat.size - 1) // 2
    # Nearly always it lies between two values that a sample gives, and few others do.
    sample = flat[::SAMPLED]
    bounds = int(0.45 * (sample.size - 1)), int(np.ceil(0.55 * (sample.size - 1)))
    low, high = np.partition(sample, bounds)[list(bounds)]
    below = np.count_nonzero(flat < low)
    between = flat[(flat >= low) & (flat <= high)]
    if below <= middle < below + between.size:
        flat, middle = between, middle - below
    return np.partition(flat, middle)[middle]


def histograms(code: np.ndarray, face: int, corners: Sequence[Tuple[int, int]], grids: Tuple[int, ...]
               ) -> Tuple[np.ndarray, ...]:
    """Block histograms of the square windows of `face` pixels with the upper left corners (x, y).

    code: uint8 (32, height, width). Returns for each grid float32 (windows, 32 * 16, grid, grid), counts.
    """
    cells = blocks.cells(face, grids)
    number = cells.count ** 2
    counts = np.empty((len(corners), MAPS, BINS * number), np.float32)
    bins = np.empty((face, face), np.int64)
    # Map by map, so that a map's counts stay in a processor's cache.
    for which, part in enumerate(code):
        for (x, y), count in zip(corners, counts[:, which]):
            np.multiply(part[y:y + face, x:x + face], number, out=bins, dtype=np.int64)
            bins += cells.of_pixel
            count[:] = np.bincount(bins.ravel(), minlength=BINS * number)
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
