"""The crops of each paper: which windows of a registered face become records, and what their pixels become."""
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np


class Window(NamedTuple):
    """A square part of a square region. A tuple, since the training layer makes one for each image of a batch."""

    # Upper left corner in the region, in pixels.
    x: int
    y: int
    # In pixels.
    side: int
    # Whether the pixels are flipped left to right.
    mirrored: bool = False

    def cut(self, region: np.ndarray) -> np.ndarray:
        """The window of a region (height, width[, channels]): contiguous, (side, side[, channels]) of its dtype."""
        part = region[self.y:self.y + self.side, self.x:self.x + self.side]
        return cv2.flip(part, 1) if self.mirrored else np.ascontiguousarray(part)


@dataclass(frozen=True)
class CropSet:
    """How each registered face becomes records."""

    # Side of the registered face in pixels.
    region: int
    # Windows of each training image. A window that is larger than those of `test` is cut further, at random, by the
    # training layer.
    train: tuple[Window, ...]
    # Windows of each validation and test image, all of the size of the net's input.
    test: tuple[Window, ...]
    # 1 grey, 3 BGR.
    channels: int = 1
    # How often the windows of a neutral image are taken.
    neutral_repeats: int = 1
    # Whether the grey values of the region are stretched to 0 ... 255.
    stretched: bool = False
    # Whether the net's input goes through `even_illumination`, which makes it float32. The training layer does this to
    # the windows that it cuts.
    illumination: bool = False

    @property
    def side(self) -> int:
        """Of the net's input, in pixels."""
        return self.test[0].side

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the net's input: channels, height, width."""
        return self.channels, self.side, self.side

    @property
    def cut_in_training(self) -> bool:
        """Whether the training layer cuts the windows."""
        return self.train[0].side > self.side

    def evens(self, window: Window) -> bool:
        """Whether the records of a window go through `even_illumination`."""
        return self.illumination and window.side == self.side

    def count(self, split: str, role: str) -> int:
        """The number of records of an image. role: see Face."""
        return len(self.windows(split, role))

    def windows(self, split: str, role: str) -> list[Window]:
        """The windows of an image. role: see Face."""
        windows = self.train if split == "train" else self.test
        return list(windows) * (self.neutral_repeats if role == "neutral" else 1)


def grid(region: int, side: int, columns: int, rows: int) -> tuple[Window, ...]:
    """Windows on a regular grid, row by row. The outer windows touch the border of the region."""
    def offsets(count):
        return np.rint(np.linspace(0, region - side, count)).astype(int).tolist()
    return tuple(Window(x, y, side) for y in offsets(rows) for x in offsets(columns))


def centre_and_corners(region: int, side: int) -> tuple[Window, ...]:
    """The central window and the four in the corners."""
    middle, end = (region - side) // 2, region - side
    return tuple(Window(x, y, side) for x, y in ((middle, middle), (0, 0), (end, 0), (0, end), (end, end)))


def and_mirrored(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    return windows + tuple(window._replace(mirrored=True) for window in windows)


def _whole(side: int) -> tuple[Window, ...]:
    return (Window(0, 0, side),)


_CORNERS_112 = centre_and_corners(128, 112)
_XIE2019A = and_mirrored(centre_and_corners(256, 227))
_XIE2019B_18 = and_mirrored(grid(256, 227, 3, 3))
_XIE2019B_16 = and_mirrored(grid(256, 227, 4, 2))
_XIE2019B_25 = grid(256, 227, 5, 5)

# The papers leave some points open. "About 15 pixels" are 14 and 15 here, since 227 of 256 leave 29. The regular grids
# of [xie2019b] are taken as 3x3, 4x2 and 5x5, and the first two are also mirrored; with each neutral image counted
# three times they give the 22,410 CK+ images of the paper. Where windows are drawn during training ([liu2017],
# [farzaneh2021]), the whole face is recorded. The small sets are for the small ResNet, and those with the side in their
# name are for nets that take several sizes.
SETS: dict[str, CropSet] = {
    "whole": CropSet(48, _whole(48), _whole(48)),
    "whole-112": CropSet(112, _whole(112), _whole(112)),
    "whole-150": CropSet(150, _whole(150), _whole(150)),
    "corners-112": CropSet(128, and_mirrored(_CORNERS_112), and_mirrored(_CORNERS_112[:1])),
    "xie2019a": CropSet(256, _XIE2019A, _XIE2019A, stretched=True),
    "xie2019b-ckplus": CropSet(256, _XIE2019B_18, _XIE2019B_18, stretched=True, neutral_repeats=3),
    "xie2019b-oulu": CropSet(256, _XIE2019B_16, _XIE2019B_16, stretched=True),
    "xie2019b-mmi": CropSet(256, _XIE2019B_25, _XIE2019B_25, stretched=True),
    "liu2017": CropSet(60, _whole(60), (Window(6, 6, 48),), illumination=True),
    "farzaneh2021": CropSet(256, _whole(256), (Window(16, 16, 224),), channels=3),
    "farzaneh2021-small": CropSet(64, _whole(64), (Window(4, 4, 56),), channels=3),
    "wu2023": CropSet(224, _whole(224), _whole(224), channels=3),
    "wu2023-small": CropSet(56, _whole(56), _whole(56), channels=3),
}


def stretch(region: np.ndarray) -> np.ndarray:
    """Grey normalisation ([xie2019a] II-A): stretches uint8 grey values linearly to 0 ... 255.

    A region of a single grey value stays as it is.
    """
    low, high = (int(value) for value in cv2.minMaxLoc(region)[:2])
    if low == high:
        return region
    return cv2.LUT(region, np.clip(np.rint((np.arange(256) - low) * (255 / (high - low))), 0, 255).astype(np.uint8))


def even_illumination(images: np.ndarray) -> np.ndarray:
    """Normalises the illumination ([liu2017] Section 5.1): equalises the histogram, subtracts a fitted plane, and
    scales to zero mean and unit variance.

    images: uint8 grey (M, height, width), or one (height, width). Returns float32 of the same shape; an image without
    variation becomes 0. The result of an image does not depend on the others, to the last bit.
    """
    height, width = images.shape[-2:]
    grey = np.array([cv2.equalizeHist(image) for image in images.reshape(-1, height, width)], np.float64)
    grey -= grey.reshape(len(grey), -1).mean(axis=1)[:, None, None]
    # Centred coordinates are orthogonal to each other and to a constant, so each slope is fitted alone.
    x, y = (np.arange(size) - (size - 1) / 2 for size in (width, height))
    across = (grey.sum(axis=1) * x).sum(axis=1) / ((x * x).sum() * height)
    down = (grey.sum(axis=2) * y).sum(axis=1) / ((y * y).sum() * width)
    grey -= across[:, None, None] * x
    grey -= (down[:, None] * y)[:, :, None]
    deviation = np.sqrt((grey * grey).reshape(len(grey), -1).mean(axis=1))
    # What remains of an exact plane is rounding.
    factors = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
    return (grey * factors[:, None, None]).astype(np.float32).reshape(images.shape)
