"""Random augmentation of a training image, or of both images of a pair alike."""
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np


class Draw(NamedTuple):
    """The random augmentation of a record."""

    # (y, x) of the window's upper left corner, in pixels.
    corner: Tuple[int, int] = (0, 0)
    # Whether the window is mirrored.
    mirrored: bool = False
    # (channels, height, width) float32 in grey values, which is added to the window; None for no noise.
    noise: Optional[np.ndarray] = None


def order(count: int, seed: Sequence[int], epoch: int) -> np.ndarray:
    """(count,) a random permutation of the positions 0 to count - 1: the order of an epoch."""
    return np.random.RandomState((*seed, epoch)).permutation(count)


def five_crops(random: np.random.RandomState, shape: Tuple[int, int, int], side: int) -> Draw:
    """The central window or a window in a corner, mirrored with probability 1/2 ([farzaneh2021] Section 4.2).

    shape: (channels, height, width) of the image. side: of the square window, in pixels.
    """
    bottom, right = shape[1] - side, shape[2] - side
    corners = ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right))
    return Draw(corners[random.randint(5)], bool(random.randint(2)))


def mirror_or_noise(random: np.random.RandomState, shape: Tuple[int, int, int], deviation: float) -> Draw:
    """The unchanged image, the mirrored image, or the image with Gaussian noise, with probability 1/3 each ([wu2023]
    Section 4.2).

    shape: (channels, height, width) of the image. deviation: standard deviation of the noise, in grey values.
    """
    variant = random.randint(3)
    noise = random.normal(0, deviation, shape).astype(np.float32) if variant == 2 else None
    return Draw(mirrored=variant == 1, noise=noise)


def apply(draw: Draw, image: np.ndarray, side: Tuple[int, int]) -> np.ndarray:
    """Cuts, mirrors and adds noise as drawn. image: (channels, height, width); side: height and width of the window.

    Returns (channels, *side): float32 with noise, else a view with the dtype of the image.
    """
    y, x = draw.corner
    window = image[:, y:y + side[0], x:x + side[1]]
    if draw.mirrored:
        window = window[:, :, ::-1]
    return window if draw.noise is None else window + draw.noise
