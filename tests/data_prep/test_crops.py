"""Crop sets: counts and places as the papers give them, and the arithmetic of pixels."""
import cv2
import numpy as np
import pytest

from data_prep import crops
from data_prep.crops import SETS, Window


def test_window_cuts_and_mirrors():
    region = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(Window(1, 1, 2).cut(region), [[5, 6], [9, 10]])
    np.testing.assert_array_equal(Window(1, 1, 2, True).cut(region), [[6, 5], [10, 9]])
    colour = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(Window(0, 0, 2, True).cut(colour)[0], [[3, 4, 5], [0, 1, 2]])


@pytest.mark.parametrize("name, side, region, train, test", [
    ("whole", 48, 48, 1, 1), ("whole-112", 112, 112, 1, 1), ("whole-150", 150, 150, 1, 1),
    ("corners-112", 112, 128, 10, 2),
    ("xie2019a", 227, 256, 10, 10), ("xie2019b-ckplus", 227, 256, 18, 18),
    ("xie2019b-oulu", 227, 256, 16, 16), ("xie2019b-mmi", 227, 256, 25, 25), ("liu2017", 48, 60, 1, 1),
    ("farzaneh2021", 224, 256, 1, 1), ("farzaneh2021-small", 56, 64, 1, 1), ("wu2023", 224, 224, 1, 1),
    ("wu2023-small", 56, 56, 1, 1)])
def test_sets(name, side, region, train, test):
    crop_set = SETS[name]
    assert (crop_set.side, crop_set.region) == (side, region)
    for split, count in (("train", train), ("val", test), ("test", test)):
        windows = crop_set.windows(split, "peak")
        assert len(windows) == len(set(windows)) == crop_set.count(split, "peak") == count
        for window in windows:
            assert window.side == (region if split == "train" and crop_set.cut_in_training else side)
            assert 0 <= min(window.x, window.y) and max(window.x, window.y) + window.side <= region


def test_all_sets_are_tested_above():
    assert len(SETS) == 13


def test_ten_crops_of_xie2019a():
    windows = SETS["xie2019a"].train
    assert [(w.x, w.y) for w in windows[:5]] == [(14, 14), (0, 0), (29, 0), (0, 29), (29, 29)]
    assert [w._replace(mirrored=True) for w in windows[:5]] == list(windows[5:])


def test_corners_are_tested_by_the_central_window_and_its_mirror_image():
    crop_set = SETS["corners-112"]
    assert crop_set.test == (Window(8, 8, 112), Window(8, 8, 112, True))
    assert [(w.x, w.y, w.mirrored) for w in crop_set.train[4:7]] == [
        (16, 16, False), (8, 8, True), (0, 0, True)]


def test_published_numbers_of_crops():
    """[xie2019b] 3.1: 22,410 images of CK+ (309 sequences of 3 frames, 106 neutral images), 23,040 and 15,375."""
    ckplus = SETS["xie2019b-ckplus"]
    assert 309 * 3 * ckplus.count("train", "peak") + 106 * ckplus.count("train", "neutral") == 22410
    assert 480 * 3 * SETS["xie2019b-oulu"].count("test", "peak") == 23040
    assert 205 * 3 * SETS["xie2019b-mmi"].count("test", "peak") == 15375


def test_grid_touches_the_borders():
    assert [(w.x, w.y) for w in crops.grid(10, 4, 3, 2)] == [(0, 0), (3, 0), (6, 0), (0, 6), (3, 6), (6, 6)]


def test_liu2017_keeps_the_region_for_training_and_evens_what_is_tested():
    crop_set = SETS["liu2017"]
    assert crop_set.cut_in_training and [name for name in SETS if SETS[name].cut_in_training] == [
        "liu2017", "farzaneh2021", "farzaneh2021-small"]
    assert (crop_set.windows("train", ""), crop_set.windows("val", "")) == ([Window(0, 0, 60)], [Window(6, 6, 48)])
    assert not crop_set.evens(Window(0, 0, 60)) and crop_set.evens(Window(3, 9, 48, True))


def test_stretch():
    np.testing.assert_array_equal(crops.stretch(np.array([[10, 20], [30, 40]], np.uint8)), [[0, 85], [170, 255]])
    same = np.full((4, 4), 7, np.uint8)
    np.testing.assert_array_equal(crops.stretch(same), same)


def test_even_illumination_of_a_plane_and_of_one_grey():
    plane = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8)
    for image in (np.full((48, 48), 9, np.uint8), np.zeros((48, 48), np.uint8)):
        np.testing.assert_array_equal(crops.even_illumination(image), np.zeros((48, 48)))
    assert np.isfinite(crops.even_illumination(plane)).all()


def test_even_illumination_is_the_fitted_plane_of_least_squares():
    image = np.random.RandomState(1).randint(0, 256, (40, 48)).astype(np.uint8)
    grey = cv2.equalizeHist(image).astype(float)
    y, x = np.indices(grey.shape).reshape(2, -1)
    coordinates = np.stack([x, y, np.ones_like(x)], axis=1)
    left = grey.ravel() - coordinates @ np.linalg.lstsq(coordinates, grey.ravel(), rcond=None)[0]
    np.testing.assert_allclose(crops.even_illumination(image), (left / left.std()).reshape(40, 48), atol=1e-5)


def test_even_illumination_of_a_stack_is_that_of_each():
    stack = np.random.RandomState(2).randint(0, 256, (9, 48, 48)).astype(np.uint8)
    stack[3] = 7
    for image, even in zip(stack, crops.even_illumination(stack)):
        np.testing.assert_array_equal(even, crops.even_illumination(image))


def test_even_illumination_leaves_no_plane():
    random = np.random.RandomState(0)
    image = np.clip(random.randint(0, 99, (48, 48)) + 3 * np.arange(48)[:, None], 0, 255).astype(np.uint8)
    even = crops.even_illumination(image)
    assert even.dtype == np.float32 and even.shape == image.shape
    assert abs(even.mean()) < 1e-5 and abs(even.std() - 1) < 1e-5
    for axis in np.indices(even.shape):
        assert abs(np.corrcoef(axis.ravel(), even.ravel())[0, 1]) < 1e-6
