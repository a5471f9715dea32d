"""Reads the parameters of a net that dlib has serialized: its convolutions, affine layers and fully connected layers.

A whole number is one byte, whose lowest four bits are the number of bytes that follow and whose highest bit is the
sign, and then these bytes, the lowest first. A text is its length and its bytes. A tensor is the number 2 (the version
of the format), four sizes, and its values as little-endian float32. A layer begins with its kind, a text such as con_4,
and has one tensor. Between the layers there are settings that are not read (dlib/serialize.h, dlib/dnn/layers.h and
tensor.h of dlib 19.4 and later).
"""
import math
import re
from dataclasses import dataclass

import numpy as np

from common import files
from common.errors import UserError

CONVOLUTION, AFFINE, PRODUCT = "con_4", "affine_", "fc_2"
KINDS = (CONVOLUTION, AFFINE, PRODUCT)
TENSOR_VERSION = 2
BYTES_OF_VALUE = 4
COUNT, NEGATIVE = 0x0f, 0x80
# Numbers before the tensor of a layer, and behind it: its filters, rows, columns, and strides and pads of both.
BEFORE = {CONVOLUTION: 0, AFFINE: 0, PRODUCT: 2}
BEHIND = {CONVOLUTION: 7, AFFINE: 0, PRODUCT: 0}


@dataclass(frozen=True)
class Layer:
    """A layer with parameters."""

    # Of KINDS.
    kind: str
    # con_4: number of filters, rows, columns, stride down and across, pad down and across. fc_2: outputs, inputs.
    settings: tuple[int, ...]
    # con_4: the weights, filter by filter, and the biases. affine_: the factors of the channels, and what is added to
    # them. fc_2: the weights, input by input. float32 (N,).
    values: np.ndarray


class _Cut(Exception):
    """The file ends too early."""


def layers(path: str) -> list[Layer]:
    """The layers of a serialized net, the one nearest to the image first.

    Raises UserError if the file cannot be read, is not a net of dlib's with such layers, or ends within a layer.
    """
    content = files.read_bytes(path)
    # Only what lies between the tensors is searched, so that no values are taken for a kind.
    start = re.compile(b"|".join(re.escape(bytes((1, len(kind))) + kind.encode()) for kind in KINDS))
    found: list[Layer] = []
    end = 0
    while True:
        match = start.search(content, end)
        if not match:
            break
        kind = match.group()[2:].decode()
        where = f"{path}: layer {len(found) + 1}, {kind} at byte {match.start()}"
        try:
            layer, end = _layer(content, match.end(), kind)
        except _Cut:
            raise UserError(f"{where}: the file was cut, it has {len(content)} bytes") from None
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        found.append(layer)
    if not found:
        raise UserError(f"{path}: not a net that dlib serialized, it has none of the layers {', '.join(KINDS)}")
    return found


def _layer(content: bytes, position: int, kind: str) -> tuple[Layer, int]:
    """The layer whose kind ends at a position, and where it ends."""
    settings, position = _integers(content, position, BEFORE[kind])
    (version, *sizes), position = _integers(content, position, 5)
    if version != TENSOR_VERSION:
        raise ValueError(f"its tensor has version {version}, expected {TENSOR_VERSION}")
    if min(sizes) < 0:
        raise ValueError(f"its tensor has the sizes {sizes}, expected none below 0")
    count = math.prod(sizes)
    end = position + BYTES_OF_VALUE * count
    if end > len(content):
        raise _Cut
    values = np.frombuffer(content, "<f4", count, position)
    behind, end = _integers(content, end, BEHIND[kind])
    return Layer(kind, (*settings, *behind), values), end


def _integers(content: bytes, position: int, count: int) -> tuple[list[int], int]:
    """`count` whole numbers from a position on, and where they end."""
    numbers = []
    for _ in range(count):
        if position >= len(content):
            raise _Cut
        head, position = content[position], position + 1
        size = head & COUNT
        if size > 8:
            raise ValueError(f"byte {position - 1} is {head:#04x}, expected a whole number of at most 8 bytes")
        if position + size > len(content):
            raise _Cut
        number = int.from_bytes(content[position:position + size], "little")
        numbers.append(-number if head & NEGATIVE else number)
        position += size
    return numbers, position
