"""LMDBs of Caffe's `Datum`: written in order, read by position."""
from __future__ import annotations

import os
from collections.abc import Sequence

import caffe
import lmdb
import numpy as np

from common import datums, files
from common.datums import FLOAT_FIELD, FLOAT_TAG, Raw, planes
from common.errors import UserError

NOTE = "note.json"
PAGE = 4096
# A record of over half a page gets pages of its own.
PAGE_HEADER = 16
# For the tree, and for pages that a commit copies.
SPARE = 1.1


def encode_image(image: np.ndarray, label: int, encoding: str = "raw") -> bytes:
    """image: uint8 or float32, (height, width) grey or (height, width, channels), as OpenCV has it.

    encoding: "raw", or "png" (uint8 only; smaller, and slower to read).
    """
    values = planes(image)
    channels, height, width = values.shape
    datum = caffe.proto.caffe_pb2.Datum(channels=channels, height=height, width=width, label=label)
    if image.dtype == np.float32:
        return _with_floats(datum, values.ravel())
    if encoding == "png":
        import cv2  # who reads raw records, as the engine does elsewhere, needs no OpenCV
        datum.encoded = True
        datum.data = cv2.imencode(".png", image)[1].tobytes()
    else:
        datum.data = values.tobytes()
    return datum.SerializeToString()


def encode_floats(vector: np.ndarray, label: int) -> bytes:
    """vector: float32 (D), as a Datum of D x 1 x 1."""
    return _with_floats(caffe.proto.caffe_pb2.Datum(channels=len(vector), height=1, width=1, label=label), vector)


def _with_floats(datum, vector: np.ndarray) -> bytes:
    fields = np.empty(len(vector), FLOAT_FIELD)
    fields["tag"], fields["value"] = FLOAT_TAG, vector
    return datum.SerializeToString() + fields.tobytes()


def decode(raw: Raw) -> tuple[np.ndarray, int]:
    """-> (channels, height, width) array, uint8 for an image and float32 for floats, and the label."""
    array, label = view(raw)
    return array.copy(), label


def view(raw: Raw) -> tuple[np.ndarray, int]:
    """The same, most often without a copy: the array may be a view of the record."""
    found = datums.pixels(raw)
    if found is not None:
        return found
    datum = caffe.proto.caffe_pb2.Datum.FromString(raw)
    return datums.image(datum, raw), datum.label


def decode_floats(raws: Sequence[Raw], count: int) -> np.ndarray:
    """float32 (records, count): the values of Datums."""
    values = datums.floats(raws, count)
    if values is not None:
        return values
    return np.array([caffe.proto.caffe_pb2.Datum.FromString(raw).float_data for raw in raws], np.float32)


def key_of(index: int) -> bytes:
    return b"%08d" % index


def estimate(count: int, record_bytes: int) -> int:
    """Bytes that `count` records of `record_bytes` take on disk, from above."""
    # 64 bytes are above what the other fields of a Datum take.
    pages = -(-(record_bytes + 64 + PAGE_HEADER) // PAGE)
    return int(count * pages * PAGE * SPARE) + (1 << 20)


class Writer:
    """Writes records under the keys 00000000, 00000001, ... of a new LMDB folder, in any order, fastest in theirs.

    The note, JSON beside the data to which `close` adds the count, comes last: without it the LMDB is not whole.
    size: upper bound in bytes (the map's size, which costs no disk).
    """

    COMMIT_BYTES = 16 << 20

    def __init__(self, path: str, size: int, note: dict):
        self.path, self.note, self.count = path, note, 0
        self._last, self._uncommitted = -1, 0
        os.makedirs(path)
        self._environment = lmdb.open(path, map_size=size, sync=False, lock=False)
        self._transaction = self._environment.begin(write=True)

    def put(self, index: int, record: bytes) -> None:
        self._transaction.put(key_of(index), record, append=index > self._last)
        self._last = max(self._last, index)
        self.count += 1
        # What is not committed is held in memory, by whole pages.
        self._uncommitted += max(len(record), PAGE)
        if self._uncommitted > self.COMMIT_BYTES:
            self._transaction.commit()
            self._transaction, self._uncommitted = self._environment.begin(write=True), 0

    def close(self) -> None:
        self._transaction.commit()
        self._environment.sync(True)
        self._environment.close()
        files.write_json(os.path.join(self.path, NOTE), dict(self.note, count=self.count))


class Reader:
    """Read access by position to an LMDB that `write` made. A record is a view of the file, to be decoded (copied)
    while the reader is open.

    Raises UserError where the folder, its note or a record is missing, the file is no LMDB, was cut or is broken, and
    where the note says another number of records.
    """

    def __init__(self, path: str):
        self.path = path
        if not os.path.exists(os.path.join(path, "data.mdb")):
            raise UserError(f"{path}: no LMDB here; `./fer prepare` makes it")
        self.note = files.read_json(os.path.join(path, NOTE))
        try:
            self._environment = datums.environment(path)
        except UserError as error:
            raise UserError(f"{error}; prepare the data anew") from None
        self._transaction = self._environment.begin(buffers=True)
        if len(self) != self.note.get("count"):
            raise UserError("{}: {} records, but {} says {}; prepare the data anew".format(
                path, len(self), NOTE, self.note.get("count")))

    def __len__(self) -> int:
        return self._environment.stat()["entries"]

    def __getitem__(self, index: int) -> memoryview:
        try:
            record = self._transaction.get(key_of(index))
        except lmdb.Error as error:
            raise UserError(f"{datums.broken(self.path, error)}; prepare the data anew") from None
        if record is None:
            raise UserError(f"{self.path}: no record with key {key_of(index).decode()}")
        return record

    def close(self) -> None:
        self._transaction.abort()
        del self._environment  # which other readers may share


def require_match(images: Reader, features: Reader) -> None:
    """Raises UserError unless both hold the same faces in the same order (by note and count)."""
    for what, ours, theirs in [("records", len(images), len(features))] + [
            (key, images.note.get(key), features.note.get(key)) for key in ("manifest", "crops", "seed", "split")]:
        if ours != theirs:
            raise UserError(f"{features.path} does not match {images.path}: {what} {theirs} against {ours}; prepare "
                            "both in one go")
