"""One SIFT descriptor for each block (Lowe, 2004; [xie2019a] II-B): eight maps of gradients, pooled by matrices."""
import functools

import cv2
import numpy as np

from data_prep.features import blocks

ORIENTATIONS = 8
CELLS = 4
LENGTH = CELLS * CELLS * ORIENTATIONS
# As in OpenCV: the blur of the base image of an image that has a blur of 0.5 already; and where values are clipped.
BLUR = np.sqrt(1.6 ** 2 - 0.5 ** 2)
CLIP = 0.2


def orientation_maps(image: np.ndarray) -> np.ndarray:
    """The length of the gradient, shared between the two nearest of eight directions: float32 (8, height, width).

    image: uint8 grey (height, width). Directions go counterclockwise from the right of the image.
    """
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR)
    dx = cv2.filter2D(blurred, cv2.CV_32F, np.array([[-1., 0, 1]]), borderType=cv2.BORDER_REPLICATE)
    dy = cv2.filter2D(blurred, cv2.CV_32F, np.array([[1.], [0], [-1]]), borderType=cv2.BORDER_REPLICATE)
    length, angle = cv2.cartToPolar(dx, dy)
    angle *= ORIENTATIONS / (2 * np.pi)
    maps = np.empty((ORIENTATIONS,) + image.shape, np.float32)
    # One after the other: a map fits into a processor's cache.
    for orientation, share in enumerate(maps):
        np.abs(np.subtract(angle, orientation, out=share), out=share)
        if orientation == 0:
            np.minimum(share, ORIENTATIONS - share, out=share)
        np.maximum(np.subtract(1, share, out=share), 0, out=share)
        share *= length
    return maps


@functools.cache
def _pooling(face: int, grid: int) -> np.ndarray:
    """The weight of each pixel in each of the four cells of each block, along one axis: float32 (grid * 4, face).

    The weight is a triangle of two cells, times a Gaussian about the centre of the block with a deviation of two cells.
    """
    cell = blocks.side(face) / CELLS
    centres = blocks.offsets(face, grid) + (blocks.side(face) - 1) / 2
    position = (np.arange(face) - centres[:, None]) / cell
    triangle = np.maximum(1 - np.abs(position[:, None] - (np.arange(CELLS) - 1.5)[:, None]), 0)
    return (triangle * np.exp(-position ** 2 / (CELLS * CELLS / 2))[:, None]).reshape(-1, face).astype(np.float32)


def describe(maps: np.ndarray, grid: int) -> np.ndarray:
    """The descriptors of one window, float32 (grid * grid, 128), each of L2 norm 1 (or 0), in the order cell row, cell
    column, orientation.

    maps: (8, face, face), see `orientation_maps`. Values above 0.2 are clipped between two normalisations, as in Lowe.
    """
    weights = _pooling(maps.shape[1], grid)
    pooled = np.matmul(weights, np.matmul(maps, weights.T))
    descriptors = pooled.reshape(ORIENTATIONS, grid, CELLS, grid, CELLS).transpose(1, 3, 2, 4, 0).reshape(-1, LENGTH)
    return normalised(np.minimum(normalised(descriptors), CLIP))


def mirrored(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors of the mirrored windows, of the same shape (windows, blocks, 128)."""
    grid = int(round(np.sqrt(descriptors.shape[-2])))
    split = descriptors.reshape(-1, grid, grid, CELLS, CELLS, ORIENTATIONS)
    split = split[:, :, ::-1, :, ::-1][..., (ORIENTATIONS // 2 - np.arange(ORIENTATIONS)) % ORIENTATIONS]
    return np.ascontiguousarray(split.reshape(descriptors.shape))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D), each divided by its L2 norm; 0 stays 0."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
