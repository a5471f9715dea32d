"""Overlapping blocks on a regular grid ([xie2019a] II-B), and the sums over them."""
import functools

import numpy as np

# Side of a block as a share of the face's side: 80 of 227 pixels.
SHARE = 80 / 227


def side(face: int) -> int:
    """Side of a block in pixels, of a face of `face` pixels."""
    return int(round(SHARE * face))


def offsets(face: int, grid: int) -> np.ndarray:
    """Where the blocks of a row begin, in pixels, int64 (grid): evenly from border to border."""
    return np.rint(np.linspace(0, face - side(face), grid)).astype(int)


class Cells:
    """The cells into which the borders of all blocks of several grids divide a face. Each cell is counted once; the
    counts of a block are sums over its cells."""

    def __init__(self, face: int, grids: tuple[int, ...]):
        begins = {grid: offsets(face, grid) for grid in grids}
        edges = sorted({0, face}.union(*[set(begin) | set(begin + side(face)) for begin in begins.values()]))
        self.count = len(edges) - 1
        interval = np.searchsorted(edges, np.arange(face), side="right") - 1
        # The cell of each pixel, int64 (face, face).
        self.of_pixel = interval[:, None] * self.count + interval[None, :]
        # Which intervals a block of a grid covers, float32 (grid, intervals).
        left = np.array(edges[:-1])
        self.cover = {grid: ((left >= begin[:, None]) & (left < begin[:, None] + side(face))).astype(np.float32)
                      for grid, begin in begins.items()}

    def sums(self, counts: np.ndarray, grid: int) -> np.ndarray:
        """Sums over the blocks, row by row, float32 (channels, grid, grid), of counts (channels, cells)."""
        cover = self.cover[grid]
        table = counts.reshape(len(counts), self.count, self.count).astype(np.float32)
        return np.matmul(cover, np.matmul(table, cover.T))


@functools.cache
def cells(face: int, grids: tuple[int, ...]) -> Cells:
    """The cells of a face of `face` pixels, computed once."""
    return Cells(face, grids)
