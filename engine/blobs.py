"""Arrays in Caffe's files: BlobProto and HDF5."""
import contextlib
import dataclasses
import os
from typing import Any, Iterator, Tuple

import numpy as np

from common.errors import UserError

# The key of BlobProto.data in protobuf's wire format: field 5, and a number of bytes follows.
_DATA = b"\x2a"
# The axes of old files.
_LEGACY = ("num", "channels", "height", "width")


@dataclasses.dataclass
class Stored:
    """An array of a file. values: float32, flat; shape: as the file has it; legacy: whether that is Caffe's old form
    with four axes, of which the first ones may be 1."""

    shape: Tuple[int, ...]
    values: np.ndarray
    legacy: bool = False

    def as_shape(self, what: str, expected: Tuple[int, ...]) -> np.ndarray:
        """The array in the expected shape. Raises UserError, which begins with `what`, if it has another one."""
        padded = (1,) * (4 - len(expected)) + expected
        if self.shape != expected and not (self.legacy and self.shape == padded):
            raise UserError(f"{what} has the shape {self.shape}, expected {expected}")
        if self.values.size != int(np.prod(expected)):
            raise UserError(f"{what} has {self.values.size} values, expected {int(np.prod(expected))} for its shape "
                            f"{expected}; the file is damaged")
        return self.values.reshape(expected)


def fill_proto(proto: Any, array: np.ndarray) -> None:
    """Writes a float32 array into an empty BlobProto."""
    proto.shape.dim.extend(array.shape)
    # As bytes: one float at a time, a large net takes minutes.
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    proto.MergeFromString(_DATA + _varint(len(raw)) + raw)


def shape_of(proto: Any) -> Tuple[Tuple[int, ...], bool]:
    """The shape of a BlobProto as the file has it, and whether that is Caffe's old form with four axes."""
    legacy = any(proto.HasField(name) for name in _LEGACY)
    return tuple(getattr(proto, name) for name in _LEGACY) if legacy else tuple(proto.shape.dim), legacy


def from_proto(proto: Any) -> Stored:
    """Reads a BlobProto of any age, and empties it but for its numbers."""
    shape, legacy = shape_of(proto)
    if proto.double_data:
        return Stored(shape, np.array(proto.double_data, np.float32), legacy)
    count = len(proto.data)
    for field, _ in proto.ListFields():
        if field.name != "data":
            proto.ClearField(field.name)
    proto.DiscardUnknownFields()
    raw = proto.SerializeToString()  # ends with the floats; one at a time they take ten times as long
    return Stored(shape, np.frombuffer(raw, "<f4", count, len(raw) - 4 * count).astype(np.float32), legacy)


def from_dataset(dataset: Any) -> Stored:
    """Reads a dataset of HDF5."""
    return Stored(tuple(dataset.shape), np.asarray(dataset[()], np.float32).reshape(-1))


@contextlib.contextmanager
def open_hdf5(path: str, mode: str) -> Iterator[Any]:
    """An h5py file; what cannot be read in it becomes a UserError. mode: "r" or "w"."""
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: is HDF5, which needs the Python package h5py") from None
    if mode == "r" and not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file")
    try:
        with h5py.File(path, mode) as stream:
            yield stream
    except (OSError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        if mode == "w":
            raise
        raise UserError(f"{path}: not the HDF5 file of Caffe that was expected, or damaged "
                        f"({str(error).splitlines()[0]})") from None


def _varint(number: int) -> bytes:
    """A number in protobuf's wire format: seven bits a byte, the lowest ones first."""
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
