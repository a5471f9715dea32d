"""Overlapping blocks on a regular grid ([xie2019a] II-B), and the sums over them."""
import functools

import numpy as np

# A block's side in faces' sides: 80 of 227 pixels.
SHARE = 80 / 227


def side(face: int) -> int:
    """Of a block, in pixels of a face of `face` pixels."""
    return int(round(SHARE * face))


def offsets(face: int, grid: int) -> np.ndarray:
    """Where the blocks of one row begin, in pixels: evenly from border to border, int64 (grid)."""
    return np.rint(np.linspace(0, face - side(face), grid)).astype(int)


class Cells:
    """The cells that the borders of all blocks of several grids cut a face into: what is counted in each cell once
    gives every block by small sums."""

    def __init__(self, face: int, grids: tuple[int, ...]):
        begins = {grid: offsets(face, grid) for grid in grids}
        edges = sorted({0, face}.union(*[set(found) | set(found + side(face)) for found in begins.values()]))
        self.count = len(edges) - 1
        segment = np.searchsorted(edges, np.arange(face), side="right") - 1
        # The cell of each pixel, int64 (face, face).
        self.of_pixel = segment[:, None] * self.count + segment[None, :]
        # Which segments a block of a grid covers, float32 (grid, segments).
        left = np.array(edges[:-1])
        self.cover = {grid: ((left >= found[:, None]) & (left < found[:, None] + side(face))).astype(np.float32)
                      for grid, found in begins.items()}

    def sums(self, counts: np.ndarray, grid: int) -> np.ndarray:
        """(channels, cells) -> float32 (channels, grid, grid): sums over the blocks, row by row."""
        cover = self.cover[grid]
        table = counts.reshape(len(counts), self.count, self.count).astype(np.float32)
        return np.matmul(cover, np.matmul(table, cover.T))


@functools.cache
def cells(face: int, grids: tuple[int, ...]) -> Cells:
    return Cells(face, grids)
