"""Forward passes of trained nets over a part of a prepared folder."""
import ctypes
import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

import caffe
import numpy as np

from data_prep import lmdb_io, manifest, progress, records
from prototxt.backbones import BACKBONES
from prototxt.experiment import Experiment
from prototxt.parts import PLAIN, Transform
from tools.segments import Engine

BATCH = 100


class Part(NamedTuple):
    """Record by record: units: names of what is decided on; labels; rows: of the manifest; images: their LMDB;
    references: LMDB of what each is paired with, if anything."""

    units: List[str]
    labels: List[int]
    rows: List[int]
    images: lmdb_io.Reader
    references: Optional[lmdb_io.Reader] = None


def read(data: str, note: Dict, split: str) -> Part:
    """A split of a prepared folder; note: its prepare.json. Raises UserError where the split is missing."""
    faces = manifest.read(os.path.join(data, "manifest.csv"))
    rows = [record.row for record in records.read(data, split)]
    units = [faces[row].unit if note["unit"] == "sequence" else faces[row].source for row in rows]
    readers = {name: lmdb_io.Reader(os.path.join(data, split, name)) for name in ("images", "references")
               if os.path.isdir(os.path.join(data, split, name))}
    return Part(units, [faces[row].label for row in rows], rows, **readers)


def decoded(images: lmdb_io.Reader) -> Iterator[np.ndarray]:
    for index in range(len(images)):
        yield lmdb_io.decode(images[index])[0]


def net_input(image: np.ndarray, prepared: Transform = PLAIN) -> np.ndarray:
    """What a net takes: the pixels around 0, or a float image, which the preparation has normalised, as it is."""
    return prepared(image) if image.dtype == np.uint8 else image


def use(engine: Engine) -> None:
    """Lets this process's Caffe compute with that."""
    ctypes.CDLL("libopenblas.so.0").openblas_set_num_threads(engine.threads)
    if engine.gpu is not None:
        caffe.set_mode_gpu()
        caffe.set_device(int(engine.gpu.split(",")[0]))


def of_part(experiment: Experiment, part: Part, deploy: str, caffemodel: str, blobs: Sequence[str]
            ) -> Dict[str, np.ndarray]:
    """`outputs` of all records of a part."""
    return outputs(deploy, caffemodel, decoded(part.images), len(part.images), blobs,
                   transform(experiment), part.references and decoded(part.references))


def transform(experiment: Experiment) -> Transform:
    """What its net makes of pixels."""
    return BACKBONES[experiment.net].transform


def outputs(deploy: str, caffemodel: str, images: Iterator[np.ndarray], count: int, blobs: Sequence[str],
            prepared: Transform = PLAIN, references: Optional[Iterator[np.ndarray]] = None
            ) -> Dict[str, np.ndarray]:
    """Blob -> its values, float32 (count, ...), for images (channels, height, width), uint8 or, normalised, float32.

    prepared: what becomes of pixels; references: of the images, for a net with the blob `reference`.
    """
    net = caffe.Net(deploy, caffe.TEST, weights=caffemodel)
    found = {}
    with progress.bar("evaluating", count) as bar:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            for blob, values in batch(net, images, size, blobs, prepared, references).items():
                found.setdefault(blob, np.empty((count,) + values.shape[1:], np.float32))[start:start + size] = values
            bar.update(size)
    return found


def batch(net: caffe.Net, images: Iterator[np.ndarray], size: int, blobs: Sequence[str], prepared: Transform = PLAIN,
          references: Optional[Iterator[np.ndarray]] = None) -> Dict[str, np.ndarray]:
    """`outputs` of the next `size` images in one forward pass; views into the net, good until the next one."""
    inputs = {"data": images, "reference": references}
    for name in net.inputs:
        net.blobs[name].reshape(size, *net.blobs[name].shape[1:])
        for row in range(size):
            net.blobs[name].data[row] = net_input(next(inputs[name]), prepared)
    net.forward()
    return {blob: net.blobs[blob].data for blob in blobs}
