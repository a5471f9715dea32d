"""Forward passes of trained nets over a part of a prepared folder."""
import ctypes
import os
from typing import Dict, Iterator, List, NamedTuple, Sequence

import caffe
import numpy as np

from data_prep import lmdb_io, manifest, progress, records
from prototxt import parts
from tools.segments import Engine

BATCH = 100


class Part(NamedTuple):
    """Record by record: units: names of what is decided on; labels; rows: of the manifest; images: their LMDB."""

    units: List[str]
    labels: List[int]
    rows: List[int]
    images: lmdb_io.Reader


def read(data: str, note: Dict, split: str) -> Part:
    """A split of a prepared folder; note: its prepare.json. Raises UserError where the split is missing."""
    faces = manifest.read(os.path.join(data, "manifest.csv"))
    rows = [record.row for record in records.read(data, split)]
    units = [faces[row].unit if note["unit"] == "sequence" else faces[row].source for row in rows]
    return Part(units, [faces[row].label for row in rows], rows, lmdb_io.Reader(os.path.join(data, split, "images")))


def decoded(images: lmdb_io.Reader) -> Iterator[np.ndarray]:
    for index in range(len(images)):
        yield lmdb_io.decode(images[index])[0]


def net_input(image: np.ndarray) -> np.ndarray:
    """What a net takes: the pixels around 0, or a float image, which the preparation has normalised, as it is."""
    return (image.astype(np.float32) - parts.MEAN) * parts.SCALE if image.dtype == np.uint8 else image


def use(engine: Engine) -> None:
    """Lets this process's Caffe compute with that."""
    ctypes.CDLL("libopenblas.so.0").openblas_set_num_threads(engine.threads)
    if engine.gpu is not None:
        caffe.set_mode_gpu()
        caffe.set_device(int(engine.gpu.split(",")[0]))


def outputs(deploy: str, caffemodel: str, images: Iterator[np.ndarray], count: int,
            blobs: Sequence[str]) -> Dict[str, np.ndarray]:
    """Blob -> its values, float32 (count, ...), for images (channels, height, width), uint8 or, normalised, float32."""
    net = caffe.Net(deploy, caffe.TEST, weights=caffemodel)
    found = {}
    with progress.bar("evaluating", count) as bar:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            net.blobs["data"].reshape(size, *net.blobs["data"].shape[1:])
            for row in range(size):
                net.blobs["data"].data[row] = net_input(next(images))
            net.forward()
            for blob in blobs:
                values = net.blobs[blob].data
                found.setdefault(blob, np.empty((count,) + values.shape[1:], np.float32))[start:start + size] = values
            bar.update(size)
    return found
