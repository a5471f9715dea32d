"""What is done to an image, or to a pair alike, before it is trained with; drawn anew for each epoch."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np


@dataclass(frozen=True)
class Draw:
    """What was drawn at random for one record."""

    # (y, x) of the window, in pixels.
    corner: tuple[int, int] = (0, 0)
    # Whether the window is mirrored.
    mirrored: bool = False
    # (channels, height, width) float32, added to the window, in grey values; None for no noise.
    noise: Optional[np.ndarray] = None


def order(count: int, seed: Sequence[int], epoch: int) -> np.ndarray:
    """(count,) positions in the order of an epoch: each once."""
    return np.random.RandomState((*seed, epoch)).permutation(count)


def five_crops(random: np.random.RandomState, shape: tuple[int, int, int], side: int) -> Draw:
    """The central window of `side` pixels or one in a corner, and a fair coin for the mirror ([farzaneh2021] 4.2).

    shape: (channels, height, width) of the image.
    """
    bottom, right = shape[1] - side, shape[2] - side
    corners = ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right))
    return Draw(corners[random.randint(5)], bool(random.randint(2)))


def mirror_or_noise(random: np.random.RandomState, shape: tuple[int, int, int], deviation: float) -> Draw:
    """As it is, mirrored, or with Gaussian noise, equally often ([wu2023] 4.2). deviation: of the noise, in grey
    values."""
    chosen = random.randint(3)
    noise = random.normal(0, deviation, shape).astype(np.float32) if chosen == 2 else None
    return Draw(mirrored=chosen == 1, noise=noise)


def apply(draw: Draw, image: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """image: (channels, height, width) -> (channels, *side)."""
    y, x = draw.corner
    part = image[:, y:y + side[0], x:x + side[1]]
    if draw.mirrored:
        part = part[:, :, ::-1]
    return part if draw.noise is None else part + draw.noise
