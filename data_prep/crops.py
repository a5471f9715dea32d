"""Which windows of a registered face become records, and what their pixels become: each paper's crops."""
from typing import Dict, List, NamedTuple, Tuple

import cv2
import numpy as np


class Window(NamedTuple):
    """A square part of a square region. x, y: its upper left corner, side: its size, in the region's pixels;
    mirrored: whether what it holds is flipped left to right."""

    x: int
    y: int
    side: int
    mirrored: bool = False

    def cut(self, region: np.ndarray) -> np.ndarray:
        """region: (height, width[, channels]) -> a contiguous copy, (side, side[, channels])."""
        part = region[self.y:self.y + self.side, self.x:self.x + self.side]
        return cv2.flip(part, 1) if self.mirrored else np.ascontiguousarray(part)


class CropSet(NamedTuple):
    """region: side of the registered face in pixels; channels: 1 grey, 3 BGR.
    train, test: windows of each image in the training part, and in validation and test.
    drawn: that many random windows of a training image take the place of `train`; each with a fair coin for the
    mirror.
    neutral_repeats: how often a neutral image's windows are taken.
    stretched: whether the region's grey values are stretched to 0 ... 255.
    illumination: whether each window's pixels go through `even_illumination`, which makes them float32."""

    region: int
    train: Tuple[Window, ...]
    test: Tuple[Window, ...]
    channels: int = 1
    drawn: int = 0
    neutral_repeats: int = 1
    stretched: bool = False
    illumination: bool = False

    @property
    def side(self) -> int:
        return self.test[0].side

    @property
    def shape(self) -> Tuple[int, int, int]:
        return self.channels, self.side, self.side

    @property
    def largest(self) -> int:
        """The side of the largest window of any part."""
        return max(window.side for window in self.train + self.test)

    def count(self, split: str, role: str) -> int:
        """Records of one image."""
        windows = len(self.test) if split != "train" else self.drawn or len(self.train)
        return windows * (self.neutral_repeats if role == "neutral" else 1)

    def windows(self, split: str, role: str, seed: Tuple[int, int]) -> List[Window]:
        """The windows of one image. seed: of the drawn ones, of the set and the image."""
        windows = list(self.test)
        if split == "train":
            windows = self._draw(np.random.RandomState(seed)) if self.drawn else list(self.train)
        return windows * (self.neutral_repeats if role == "neutral" else 1)

    def _draw(self, random: np.random.RandomState) -> List[Window]:
        room = self.region - self.side + 1
        return [Window(int(x), int(y), self.side, bool(mirrored)) for x, y, mirrored in zip(
            random.randint(room, size=self.drawn), random.randint(room, size=self.drawn),
            random.randint(2, size=self.drawn))]


def grid(region: int, side: int, columns: int, rows: int) -> Tuple[Window, ...]:
    """Windows on a regular grid whose outer ones touch the region's border, row by row."""
    def offsets(count):
        return np.rint(np.linspace(0, region - side, count)).astype(int).tolist()
    return tuple(Window(x, y, side) for y in offsets(rows) for x in offsets(columns))


def centre_and_corners(region: int, side: int) -> Tuple[Window, ...]:
    """The central window and the four in the corners."""
    middle, end = (region - side) // 2, region - side
    return tuple(Window(x, y, side) for x, y in ((middle, middle), (0, 0), (end, 0), (0, end), (end, end)))


def and_mirrored(windows: Tuple[Window, ...]) -> Tuple[Window, ...]:
    return windows + tuple(window._replace(mirrored=True) for window in windows)


def _whole(side: int) -> Tuple[Window, ...]:
    return (Window(0, 0, side),)


_XIE2019A = and_mirrored(centre_and_corners(256, 227))
_XIE2019B_18 = and_mirrored(grid(256, 227, 3, 3))
_XIE2019B_16 = and_mirrored(grid(256, 227, 4, 2))
_XIE2019B_25 = grid(256, 227, 5, 5)

# What the papers leave open: "about 15 pixels" are 14 and 15 here, since 227 of 256 leave 29. The regular grids of
# [xie2019b] are 3x3, 4x2 and 5x5, the first two mirrored also; its 22,410 CK+ images are met when a neutral image
# counts three times. [liu2017] names no number of random windows: ten. [farzaneh2021] draws its windows while it
# trains, so the whole face is recorded. The small ones are those papers' on the small ResNet.
SETS: Dict[str, CropSet] = {
    "whole": CropSet(48, _whole(48), _whole(48)),
    "xie2019a": CropSet(256, _XIE2019A, _XIE2019A, stretched=True),
    "xie2019b-ckplus": CropSet(256, _XIE2019B_18, _XIE2019B_18, stretched=True, neutral_repeats=3),
    "xie2019b-oulu": CropSet(256, _XIE2019B_16, _XIE2019B_16, stretched=True),
    "xie2019b-mmi": CropSet(256, _XIE2019B_25, _XIE2019B_25, stretched=True),
    "liu2017": CropSet(60, (), (Window(6, 6, 48),), drawn=10, illumination=True),
    "farzaneh2021": CropSet(256, _whole(256), (Window(16, 16, 224),), channels=3),
    "farzaneh2021-small": CropSet(64, _whole(64), (Window(4, 4, 56),), channels=3),
    "wu2023": CropSet(224, _whole(224), _whole(224), channels=3),
    "wu2023-small": CropSet(56, _whole(56), _whole(56), channels=3),
}


def stretch(region: np.ndarray) -> np.ndarray:
    """Grey normalisation ([xie2019a] II-A): uint8 grey values, linearly to 0 ... 255; one value stays as it is."""
    low, high = (int(value) for value in cv2.minMaxLoc(region)[:2])
    if low == high:
        return region
    return cv2.LUT(region, np.clip(np.rint((np.arange(256) - low) * (255 / (high - low))), 0, 255).astype(np.uint8))


def even_illumination(image: np.ndarray) -> np.ndarray:
    """[liu2017] Section 4.1: histogram equalisation, a fitted plane taken away, zero mean and unit variance.

    image: uint8 grey (height, width). Returns float32 of its shape; all 0 where nothing varies.
    """
    grey = cv2.equalizeHist(np.ascontiguousarray(image)).astype(np.float64)
    y, x = np.indices(grey.shape).reshape(2, -1)
    coordinates = np.stack([x, y, np.ones_like(x)], axis=1)
    plane = coordinates @ np.linalg.lstsq(coordinates, grey.ravel(), rcond=None)[0]
    grey -= plane.reshape(grey.shape)
    deviation = grey.std()
    # What is left of a plane is rounding.
    return (grey / deviation if deviation > 1e-6 else np.zeros_like(grey)).astype(np.float32)
