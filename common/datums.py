"""Reads LMDBs of Caffe's `Datum`: opens them, and turns records into arrays without an object for each pixel."""
from __future__ import annotations

import functools
import os
import re
import weakref
from collections.abc import Sequence
from typing import Any, Optional, Tuple, Union

import lmdb
import numpy as np

from common.errors import UserError

Raw = Union[bytes, memoryview]
# protobuf's tag of Datum.float_data (field 6, 32 bits): the field is not packed, so each value has its own.
FLOAT_TAG = 0x35
FLOAT_FIELD = np.dtype([("tag", "u1"), ("value", "<f4")])
# A Datum of raw pixels as protobuf writes it: channels, height, width, then data; behind its bytes the label, if it is
# not negative, and that the data are no image file. Numbers are varints: seven bits a byte, the lowest ones first.
_NUMBER = rb"([\x80-\xff]{0,4}[\x00-\x7f])"
_BEFORE = re.compile(rb"\x08" + _NUMBER + rb"\x10" + _NUMBER + rb"\x18" + _NUMBER + rb"\x22" + _NUMBER)
_BEHIND = re.compile(rb"(?:\x28" + _NUMBER + rb")?(?:\x38\x00)?")
# OpenCV's IMREAD_UNCHANGED, for the channels that the file has.
AS_STORED = -1

# Environments in use, by process, device and inode of their files: a process may open an LMDB only once, and a forked
# child must open it anew.
_opened: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def environment(path: str) -> lmdb.Environment:
    """Opens an LMDB for reading, without LMDB's locks.

    All readers of a process share one environment, so none of them may close it: it closes when nobody refers to it.
    Raises UserError if there is no LMDB, it is none, or its file was cut.
    """
    file = os.path.join(path, "data.mdb")
    try:
        status = os.stat(file)
    except OSError as error:
        raise UserError(f"{path}: no LMDB here, {file} cannot be read: {error.strerror}") from None
    key = os.getpid(), status.st_dev, status.st_ino
    opened = _opened.get(key)
    if opened is None:
        try:
            opened = lmdb.open(path, readonly=True, lock=False, readahead=True)
        except lmdb.Error as error:
            raise UserError(broken(path, error)) from None
        # Beyond the end of a file that was cut, LMDB's map ends a process without a word.
        needed = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        if status.st_size < needed:
            raise UserError(f"{path}: data.mdb has {status.st_size} bytes, expected at least {needed}: the file was "
                            "cut")
        _opened[key] = opened
    return opened


def broken(path: str, error: lmdb.Error) -> str:
    """The message for an error of LMDB."""
    size = os.path.getsize(os.path.join(path, "data.mdb"))
    return "{}: not a readable LMDB: {}".format(path, str(error).rpartition(": ")[2] if size else "data.mdb is empty")


def planes(image: np.ndarray) -> np.ndarray:
    """(height, width) or (height, width, channels), as OpenCV has it -> (channels, height, width), as Caffe has it."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def pixels(raw: Raw) -> Optional[Tuple[np.ndarray, int]]:
    """The pixels, uint8 (channels, height, width), and the label of a Datum, without protobuf. None if it is written in
    another way than protobuf writes raw pixels, or if their number does not fit the shape.

    The pixels are a view of the record, so of a reader's file: it must stay open while they are used.
    """
    before = _BEFORE.match(raw)
    if before is None:
        return None
    channels, height, width, size = map(_number, before.groups())
    start = before.end()
    behind = _BEHIND.fullmatch(raw, start + size)
    if behind is None or size != channels * height * width or not size or start + size > len(raw):
        return None
    label = _number(behind.group(1) or b"\0")
    if label >= 1 << 31:
        return None
    return np.frombuffer(raw, np.uint8, size, start).reshape(channels, height, width), label


@functools.lru_cache(1 << 12)
def _number(varint: bytes) -> int:
    return sum((byte & 127) << 7 * place for place, byte in enumerate(varint))


def image(datum: Any, raw: Raw, flag: int = AS_STORED) -> np.ndarray:
    """The values of a Datum, (channels, height, width), uint8 or, if it has float_data, float32.

    raw: its bytes. flag: of OpenCV's imdecode, for a datum that is an image file. Raises ValueError if the file cannot
    be decoded to 8 bits, or there are not as many values as its shape says.
    """
    if datum.encoded:
        import cv2  # who has no image files in LMDBs needs no OpenCV
        decoded = cv2.imdecode(np.frombuffer(datum.data, np.uint8), flag) if datum.data else None
        if decoded is None or decoded.dtype != np.uint8:
            raise ValueError("an image file that OpenCV cannot decode" if decoded is None else
                             f"an image file of {decoded.dtype}, expected 8 bits")
        return planes(decoded)
    shape = datum.channels, datum.height, datum.width
    count = int(np.prod(shape))
    size = len(datum.data) or len(datum.float_data)
    if size != count or not count:
        raise ValueError("{} values, expected {}x{}x{}".format(size, *shape))
    if datum.data:
        return np.frombuffer(datum.data, np.uint8).reshape(shape)
    values = floats([raw], count)
    return np.array(datum.float_data if values is None else values, np.float32).reshape(shape)


def floats(raws: Sequence[Raw], count: int) -> Optional[np.ndarray]:
    """float32 (records, count): the values of Datums that end with `count` floats, some hundred times faster than
    protobuf hands them over. None if one is written in another way."""
    size = count * FLOAT_FIELD.itemsize
    fields = np.frombuffer(b"".join(raw[-size:] for raw in raws), np.uint8)
    if fields.size == len(raws) * size:
        fields = fields.view(FLOAT_FIELD).reshape(len(raws), count)
        if (np.ascontiguousarray(fields["tag"]) == FLOAT_TAG).all():
            return fields["value"]
    return None
