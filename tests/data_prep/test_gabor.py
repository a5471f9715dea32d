"""GABOR against an independent, slow computation in the image domain."""
import cv2
import numpy as np
import pytest

from data_prep.features import gabor


@pytest.fixture(scope="module")
def face():
    smooth = cv2.GaussianBlur(np.random.RandomState(0).rand(48, 48), (0, 0), 2)
    return np.uint8(255 * (smooth - smooth.min()) / (smooth.max() - smooth.min()))


def slow_magnitude(face, orientation, scale):
    """Convolution with the wavelet of Lades et al. as it is written down: envelope times DC-free carrier."""
    image = cv2.resize(face, (114, 114), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    k = np.pi / 2 / np.sqrt(2) ** scale
    sigma, radius = np.pi, 40
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    carrier = np.exp(1j * k * (np.cos(orientation * np.pi / 8) * x + np.sin(orientation * np.pi / 8) * y))
    envelope = k ** 2 / sigma ** 2 * np.exp(-k ** 2 * (x ** 2 + y ** 2) / (2 * sigma ** 2))
    wavelet = envelope * (carrier - np.exp(-sigma ** 2 / 2))
    # filter2D correlates; for a convolution the kernel is turned by 180 degrees.
    turned = wavelet[::-1, ::-1]
    real, imaginary = (cv2.filter2D(image, cv2.CV_64F, np.ascontiguousarray(part),
                                    borderType=cv2.BORDER_REFLECT_101) for part in (turned.real, turned.imag))
    return np.hypot(real, imaginary)


@pytest.mark.parametrize("orientation, scale", [(0, 0), (3, 1), (4, 2), (7, 3)])
def test_magnitudes_equal_a_convolution(face, orientation, scale):
    fast = gabor.magnitudes(face)[orientation * 4 + scale]
    slow = slow_magnitude(face, orientation, scale)
    ratio = (fast * slow).sum() / (slow * slow).sum()
    # Within the padding both see the same reflected face; a constant factor does not matter to the codes.
    assert np.abs(fast - ratio * slow).max() < 0.02 * slow.max() * ratio


def test_magnitudes_ignore_a_constant():
    flat = gabor.magnitudes(np.full((48, 48), 200, np.uint8))
    assert np.abs(flat).max() < 1e-2


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


def test_vector_has_the_shape_of_the_nets_feature_map(face):
    vector = gabor.extract(face)
    assert vector.dtype == np.float32 and vector.shape == (gabor.LENGTH,) == (12800,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    codes = gabor.codes(gabor.magnitudes(face))
    counts = np.zeros((512, 5, 5))
    for row, top in enumerate((0, 18, 37, 56, 74)):
        for column, left in enumerate((0, 18, 37, 56, 74)):
            for number in range(32):
                for value in codes[number, top:top + 40, left:left + 40].ravel():
                    counts[16 * number + value, row, column] += 1
    np.testing.assert_allclose(vector, (counts / np.linalg.norm(counts)).ravel(), rtol=1e-5)


def test_a_flat_face_has_finite_features():
    assert np.isfinite(gabor.extract(np.zeros((48, 48), np.uint8))).all()
