"""One SIFT descriptor a block (Lowe, 2004; [xie2019a] II-B): eight maps of gradients, pooled by matrices."""
import functools

import cv2
import numpy as np

from data_prep.features import blocks

ORIENTATIONS = 8
CELLS = 4
LENGTH = CELLS * CELLS * ORIENTATIONS
# OpenCV's: the blur of its base image for one that has 0.5 already, and where large values are cut.
BLUR = np.sqrt(1.6 ** 2 - 0.5 ** 2)
CLIP = 0.2


def orientation_maps(image: np.ndarray) -> np.ndarray:
    """uint8 grey (height, width) -> float32 (8, height, width): the gradient's length, shared between the two
    nearest of eight directions, counterclockwise from the image's right."""
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR)
    dx = cv2.filter2D(blurred, cv2.CV_32F, np.array([[-1., 0, 1]]), borderType=cv2.BORDER_REPLICATE)
    dy = cv2.filter2D(blurred, cv2.CV_32F, np.array([[1.], [0], [-1]]), borderType=cv2.BORDER_REPLICATE)
    length, angle = cv2.cartToPolar(dx, dy)
    angle *= ORIENTATIONS / (2 * np.pi)
    maps = np.empty((ORIENTATIONS,) + image.shape, np.float32)
    # One after the other, so that a map stays in a processor's cache.
    for orientation, share in enumerate(maps):
        np.abs(np.subtract(angle, orientation, out=share), out=share)
        if orientation == 0:
            np.minimum(share, ORIENTATIONS - share, out=share)
        np.maximum(np.subtract(1, share, out=share), 0, out=share)
        share *= length
    return maps


@functools.cache
def _pooling(face: int, grid: int) -> np.ndarray:
    """float32 (grid * 4, face): for each block and each of its four cells, the weight of a pixel: a triangle of two
    cells, times a Gaussian of two cells' deviation about the block's centre."""
    cell = blocks.side(face) / CELLS
    centres = blocks.offsets(face, grid) + (blocks.side(face) - 1) / 2
    position = (np.arange(face) - centres[:, None]) / cell
    triangle = np.maximum(1 - np.abs(position[:, None] - (np.arange(CELLS) - 1.5)[:, None]), 0)
    return (triangle * np.exp(-position ** 2 / (CELLS * CELLS / 2))[:, None]).reshape(-1, face).astype(np.float32)


def describe(maps: np.ndarray, grid: int) -> np.ndarray:
    """The maps (8, face, face) of one window -> float32 (grid * grid, 128), each of L2 norm 1 (or 0): cell rows,
    cell columns, orientations. Values above 0.2 are cut between two normalisations, as Lowe has it."""
    weights = _pooling(maps.shape[1], grid)
    pooled = np.matmul(weights, np.matmul(maps, weights.T))
    descriptors = pooled.reshape(ORIENTATIONS, grid, CELLS, grid, CELLS).transpose(1, 3, 2, 4, 0).reshape(-1, LENGTH)
    return normalised(np.minimum(normalised(descriptors), CLIP))


def mirrored(descriptors: np.ndarray) -> np.ndarray:
    """(windows, blocks, 128) of mirrored windows."""
    grid = int(round(np.sqrt(descriptors.shape[-2])))
    split = descriptors.reshape(-1, grid, grid, CELLS, CELLS, ORIENTATIONS)
    split = split[:, :, ::-1, :, ::-1][..., (ORIENTATIONS // 2 - np.arange(ORIENTATIONS)) % ORIENTATIONS]
    return np.ascontiguousarray(split.reshape(descriptors.shape))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """(..., D), each row divided by its L2 norm; 0 stays 0."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
