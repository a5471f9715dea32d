"""SIFT by pooling matrices against OpenCV's own descriptors at the same places."""
import cv2
import numpy as np
import pytest

from data_prep import features
from data_prep.crops import Window
from data_prep.features import blocks, sift


@pytest.fixture(scope="module")
def face():
    smooth = cv2.GaussianBlur(np.random.RandomState(1).rand(114, 114), (0, 0), 3)
    return np.uint8(255 * (smooth - smooth.min()) / (smooth.max() - smooth.min()))


def test_equals_opencvs_descriptors(face):
    """OpenCV rounds a descriptor's centre to a pixel (here half a pixel away) and its values to bytes; at the border
    it leaves the outermost pixels out."""
    found = sift.describe(sift.orientation_maps(face), 7)
    offsets = blocks.offsets(114, 7)
    # OpenCV's cells are 3 times half the size of the keypoint wide.
    points = [cv2.KeyPoint(float(x + 20), float(y + 20), 40 / 4 / 1.5, 0) for y in offsets for x in offsets]
    _, expected = cv2.SIFT_create().compute(face, points)
    expected = sift.normalised(expected.astype(np.float32))
    cosines = (found * expected).sum(axis=1)
    assert cosines.min() > 0.97 and cosines.mean() > 0.985, (cosines.min(), cosines.mean())
    # Far nearer to its own place than to the next ones.
    assert ((found @ expected.T).argmax(axis=1) == np.arange(49)).all()


def test_orientation_maps_by_hand():
    """A ramp to the right: all of the gradient in direction 0; upwards (against y): in direction 2."""
    ramp = np.tile(np.arange(0, 60, 2, dtype=np.uint8), (30, 1))
    for image, direction in ((ramp, 0), (ramp[:, ::-1], 4), (ramp.T[::-1], 2), (ramp.T, 6)):
        maps = sift.orientation_maps(np.ascontiguousarray(image))[:, 8:-8, 8:-8]
        assert maps[direction] == pytest.approx(4, abs=1e-3)
        assert np.abs(np.delete(maps, direction, axis=0)).max() < 1e-3
    diagonal = (ramp.astype(int) + ramp.T[::-1]).astype(np.uint8)
    maps = sift.orientation_maps(diagonal)[:, 8:-8, 8:-8]
    assert maps[1] == pytest.approx(4 * np.sqrt(2), abs=1e-2)


def test_a_flat_face_gives_zeros():
    assert not sift.describe(sift.orientation_maps(np.full((114, 114), 9, np.uint8)), 7).any()


def test_shape_norm_and_clip(face):
    found = features.Extractor(("sift",), "compact", 114).describe(face, [Window(0, 0, 114)])["sift"]
    assert found.shape == (1, 49, 128) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)
