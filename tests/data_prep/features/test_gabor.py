"""GABOR and GSF's histograms against an independent, slow computation in the image domain."""
import cv2
import numpy as np
import pytest
from scipy import fft

from data_prep import features
from data_prep.crops import SETS, Window
from data_prep.features import gabor

COMPACT, LITERAL = features.GEOMETRIES["compact"], features.GEOMETRIES["literal"]


@pytest.fixture(scope="module")
def face():
    smooth = cv2.GaussianBlur(np.random.RandomState(0).rand(48, 48), (0, 0), 1)
    return np.uint8(255 * (smooth - smooth.min()) / (smooth.max() - smooth.min()))


def scaled(face, geometry):
    return cv2.resize(face, (geometry.face, geometry.face), interpolation=cv2.INTER_LINEAR)


def slow_magnitude(image, sigma, orientation, scale):
    """Convolution with the wavelet of Lades et al. as it is written down: envelope times DC-free carrier."""
    image = image.astype(np.float64)
    k = np.pi / 2 / np.sqrt(2) ** scale
    radius = int(13 * sigma)
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    carrier = np.exp(1j * k * (np.cos(orientation * np.pi / 8) * x + np.sin(orientation * np.pi / 8) * y))
    envelope = k ** 2 / sigma ** 2 * np.exp(-k ** 2 * (x ** 2 + y ** 2) / (2 * sigma ** 2))
    wavelet = envelope * (carrier - np.exp(-sigma ** 2 / 2))
    # filter2D correlates; for a convolution the kernel is turned by 180 degrees.
    turned = wavelet[::-1, ::-1]
    real, imaginary = (cv2.filter2D(image, cv2.CV_64F, np.ascontiguousarray(part),
                                    borderType=cv2.BORDER_REFLECT_101) for part in (turned.real, turned.imag))
    return np.hypot(real, imaginary)


@pytest.mark.parametrize("orientation, scale, geometry", [
    (0, 0, COMPACT), (3, 1, COMPACT), (4, 2, COMPACT), (7, 3, COMPACT), (2, 1, LITERAL), (5, 3, LITERAL)])
def test_magnitudes_equal_a_convolution(face, orientation, scale, geometry):
    image = scaled(face, geometry)
    fast = gabor.magnitudes(image, geometry)[orientation * 4 + scale]
    slow = slow_magnitude(image, geometry.sigma, orientation, scale)
    ratio = (fast * slow).sum() / (slow * slow).sum()
    # Within the padding both see the same reflected face; a constant factor does not matter to the codes.
    assert np.abs(fast - ratio * slow).max() < 0.02 * slow.max() * ratio


def test_magnitudes_ignore_a_constant():
    flat = gabor.magnitudes(np.full((114, 114), 200, np.uint8), COMPACT)
    assert np.abs(flat).max() < 1e-2


@pytest.mark.parametrize("geometry", [COMPACT, LITERAL])
def test_codes_equal_those_of_whole_transforms_in_double_precision(face, geometry):
    """Of the first and the last scale, in all orientations; only where a difference is next to zero a bit may be
    another one. Of six faces of FER2013, in all scales, 4 codes in a million were others (compact), 20 (literal)."""
    image, padding = scaled(face, geometry), geometry.padding
    fast = gabor.codes(gabor.magnitudes(image, geometry)).reshape(8, 4, *image.shape)
    # The face is continued to a size that suits a transform.
    behind = fft.next_fast_len(len(image) + 2 * padding) - len(image) - padding
    padded = np.pad(image.astype(np.float64), (padding, behind), "reflect")
    spectrum, frequency = np.fft.fft2(padded), 2 * np.pi * np.fft.fftfreq(len(padded))
    for scale in (0, 3):
        k = np.pi / 2 / np.sqrt(2) ** scale
        for orientation in range(8):
            kx, ky = k * np.cos(orientation * np.pi / 8), k * np.sin(orientation * np.pi / 8)
            width = (geometry.sigma / k) ** 2 / 2
            gains = np.exp(-width * ((frequency - kx) ** 2 + (frequency[:, None] - ky) ** 2)) - np.exp(
                -width * (frequency ** 2 + frequency[:, None] ** 2 + k ** 2))
            slow = np.abs(np.fft.ifft2(spectrum * gains))[padding:-behind, padding:-behind]
            around = np.pad(slow, 1, "reflect")
            left, right, above, below = around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1]
            code = (slow > np.median(slow)) + 2 * (right > left) + 4 * (below > above) + 8 * (
                left + right + above + below > 4 * slow)
            assert (fast[orientation, scale] != code).mean() < 1e-3
            assert (np.unique(code).size > 8)


@pytest.mark.parametrize("values", [
    np.random.RandomState(0).rand(31, 30), np.arange(900.).reshape(30, 30), np.full((5, 5), 2.), np.array([[7.]]),
    np.zeros((5, 5)), np.where(np.arange(900.) % 899, 1e-3, 1e6).reshape(30, 30),
    np.where(np.arange(900) % 16, 5., np.arange(900)).reshape(30, 30), np.repeat([0., 1], 450).reshape(30, 30)])
def test_the_median_is_the_lower_middle_value_whatever_the_levels_say(values):
    values = values.astype(np.float32)
    assert gabor._median(values) == sorted(values.ravel())[(values.size - 1) // 2]


def test_codes_by_hand():
    # Median 5. At the centre: 5 is not above it; right 6 > left 4; below 8 > above 2; 4 + 6 + 2 + 8 = 4 * 5.
    maps = np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]], np.float32)
    code = gabor.codes(maps)[0]
    assert code[1, 1] == 0b0110
    # At the last corner the border reflects: no horizontal or vertical difference, 9 is above the median,
    # and the neighbours 8, 8, 6, 6 sum to less than 36.
    assert code[2, 2] == 0b0001
    # At the first corner: 2, 2, 4, 4 sum to more than 4.
    assert code[0, 0] == 0b1000


def by_loops(image, geometry, corner, grid, block, tops):
    """float (512, grid, grid): the codes of each block counted one by one."""
    code = gabor.codes(gabor.magnitudes(image, geometry))
    counts = np.zeros((512, grid, grid))
    for row, top in enumerate(tops):
        for column, left in enumerate(tops):
            y, x = corner[1] + top, corner[0] + left
            for number in range(32):
                for value in code[number, y:y + block, x:x + block].ravel():
                    counts[16 * number + value, row, column] += 1
    return counts


def describe(name, region, windows, geometry="compact", side=None):
    return features.Extractor((name,), geometry, side or len(region)).describe(region, windows)[name]


def test_gabor_of_a_whole_face(face):
    vector, = describe("gabor", face, [Window(0, 0, 48)])
    assert vector.dtype == np.float32 and vector.shape == (12800,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    counts = by_loops(scaled(face, COMPACT), COMPACT, (0, 0), 5, 40, (0, 18, 37, 56, 74))
    np.testing.assert_allclose(vector, (counts / np.linalg.norm(counts)).ravel(), rtol=1e-5)


def test_literal_geometry(face):
    vector, = describe("gabor", face, [Window(0, 0, 48)], "literal")
    counts = by_loops(scaled(face, LITERAL), LITERAL, (0, 0), 5, 80, (0, 37, 74, 110, 147))
    np.testing.assert_allclose(vector, (counts / np.linalg.norm(counts)).ravel(), rtol=1e-5)


def test_gsf_histograms_of_a_window(face):
    """Windows of 227 of 256 pixels are 114 of 129; block rows come before columns."""
    region = cv2.resize(face, (256, 256))
    found = describe("gsf", region, [Window(29, 14, 227)], side=227)
    assert found.shape == (1, 64, 512) and found.dtype == np.float32
    counts = by_loops(cv2.resize(region, (129, 129), interpolation=cv2.INTER_AREA), COMPACT, (15, 7), 8, 40,
                      (0, 11, 21, 32, 42, 53, 63, 74))
    np.testing.assert_array_equal(found[0], counts.reshape(512, 64).T)


@pytest.mark.parametrize("name", features.NAMES)
def test_windows_together_equal_windows_alone(face, name):
    region, windows = cv2.resize(face, (256, 256)), list(SETS["xie2019a"].train)
    together = describe(name, region, windows, side=227)
    for window, vector in zip(windows, together):
        np.testing.assert_array_equal(describe(name, region, [window], side=227)[0], vector)


@pytest.mark.parametrize("name, least", [("gabor", 0.999), ("gsf", 0.999), ("sift", 0.99999)])
def test_a_mirrored_window_is_the_mirrored_image(face, name, least):
    """Equal but for pixels that lie on the threshold of a code, and the rounding of a scaled image's columns."""
    mirrored = describe(name, face, [Window(0, 0, 48, True)]).ravel()
    own = describe(name, np.ascontiguousarray(face[:, ::-1]), [Window(0, 0, 48)]).ravel()
    plain = describe(name, face, [Window(0, 0, 48)]).ravel()

    def cosine(one, other):
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert cosine(mirrored, own) > least > cosine(plain, own)


@pytest.mark.parametrize("classes, lengths", [(6, (12800, 320, 245)), (7, (12800, 384, 294)), (8, (12800, 448, 343))])
def test_lengths(classes, lengths):
    assert tuple(features.length(name, classes) for name in ("gabor", "gsf", "sift")) == lengths


def test_flat_and_tiny_faces_have_finite_features():
    for region in (np.zeros((48, 48), np.uint8), np.full((4, 4), 200, np.uint8)):
        for name in features.NAMES:
            assert np.isfinite(describe(name, region, [Window(0, 0, len(region))])).all()
