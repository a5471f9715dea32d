"""Which windows of a registered face become records: each paper's crops."""
from typing import NamedTuple


class Window(NamedTuple):
    """A square part of a square region. x, y: its upper left corner, side: its size, in the region's pixels;
    mirrored: whether what it holds is flipped left to right."""

    x: int
    y: int
    side: int
    mirrored: bool = False
