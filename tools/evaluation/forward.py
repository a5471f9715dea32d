"""Forward passes of trained nets over a split of a prepared folder."""
import ctypes
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

import caffe
import numpy as np

from common import children, machine, progress
from common.errors import UserError
from common.experiment import Experiment
from data_prep import lmdb_io, prepared_folder, records
from prototxt import build
from prototxt.builders.backbones import BACKBONES
from prototxt.builders.parts import PLAIN, Transform
from tools.training import pretrained
from tools.training.caffe_process import Engine

if TYPE_CHECKING:
    from tools.evaluation.torch_net import TorchNet

    Net = Union[caffe.Net, TorchNet]

# Larger batches need more memory. For the face ResNet they also need more time: its maps do not fit in the cache.
BATCH = 32
# The same on a card with PyTorch, which needs large batches to be fast.
BATCH_ON_CARD = 256
# The CPU, with one thread.
ONE = Engine(1)


@dataclass(frozen=True)
class Split:
    """The records of a split. All fields have one item a record, in the same order."""

    # Names of the units (images or sequences) that are predicted.
    units: list[str]
    # Class indices.
    labels: list[int]
    # Rows of the manifest.
    rows: list[int]
    # The image LMDB.
    images: lmdb_io.Reader
    # The LMDB of the neutral faces that the images are paired with; None if there are no pairs.
    references: Optional[lmdb_io.Reader] = None


def read(data: str, note: dict, split: str) -> Split:
    """A split of a prepared folder. note: its prepare.json. Raises UserError, which names the file, if the split or a
    record is missing, or if the manifest was changed."""
    faces = prepared_folder.faces(data, note)
    rows = [record.row for record in records_of(data, note, split)]
    units = [faces[row].unit if note["unit"] == "sequence" else faces[row].source for row in rows]
    readers = {name: database(data, note, split, name) for name in ("images", "references")
               if os.path.isdir(os.path.join(data, split, name))}
    return Split(units, [faces[row].label for row in rows], rows, **readers)


def records_of(data: str, note: dict, split: str) -> list[records.Record]:
    """The records of a split, in the order of their keys. Raises UserError if their number is not that in `note`."""
    split_records = records.read(data, split)
    _require_count(os.path.join(data, split, "records.csv"), len(split_records), note, split)
    return split_records


def database(data: str, note: dict, split: str, name: str) -> lmdb_io.Reader:
    """An LMDB of a split. Raises UserError if its number of records is not that in `note`."""
    reader = lmdb_io.Reader(os.path.join(data, split, name))
    _require_count(reader.path, len(reader), note, split)
    return reader


def _require_count(path: str, count: int, note: dict, split: str) -> None:
    expected = note["records"].get(split)
    if count != expected:
        raise UserError(f"{path}: {count} records, but {expected} were prepared; prepare the data anew")


class Images(Sequence):
    """Images (channels, height, width) of an LMDB, each read when it is accessed. records: indices of the records to
    take; by default all, in their order."""

    def __init__(self, images: lmdb_io.Reader, records: Optional[Sequence[int]] = None):
        self._images, self._records = images, range(len(images)) if records is None else records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return lmdb_io.decode(self._images[self._records[index]])[0]


def net_input(image: np.ndarray, prepared: Transform = PLAIN) -> np.ndarray:
    """The input of a net: transformed pixels, or an unchanged float image, which the preparation has normalised."""
    return prepared(image) if image.dtype == np.uint8 else image


def use(engine: Engine) -> None:
    """Makes Caffe in this process compute with these threads or this GPU."""
    ctypes.CDLL("libopenblas.so.0").openblas_set_num_threads(engine.threads)
    if engine.gpu is not None:
        caffe.set_device(int(engine.gpu))
        caffe.set_mode_gpu()


def load(deploy: str, caffemodel: str) -> caffe.Net:
    """A net with its weights, in the TEST phase.

    Raises UserError if one of the files is missing, truncated or of another kind, if a weight is NaN or infinite, and
    if the weights do not fit the net. Caffe itself would end the process, or continue with other weights.
    """
    build.read(deploy, caffe.proto.caffe_pb2.NetParameter())
    pretrained.require_finite(caffemodel)
    net = caffe.Net(deploy, caffe.TEST)
    sizes = pretrained.sizes(caffemodel)
    for name, parameters in net.params.items():
        expected = [parameter.count for parameter in parameters]
        if sizes.get(name) != expected:
            raise UserError("{}: layer {} has blobs of {} values, the net {} has {}".format(
                caffemodel, name, sizes.get(name, "no"), deploy, expected))
    net.copy_from(caffemodel)
    return net


def open_net(deploy: str, caffemodel: str, engine: Engine) -> "Net":
    """A net with its weights on an engine, for `batch`. Raises UserError as `load`, and if there is no such card or no
    PyTorch."""
    if engine.device.engine == machine.CAFFE:
        use(engine)
        return load(deploy, caffemodel)
    try:
        from tools.evaluation.torch_net import TorchNet
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(machine.NO_TORCH) from None
    build.read(deploy, caffe.proto.caffe_pb2.NetParameter())
    pretrained.require_finite(caffemodel)
    return TorchNet(deploy, caffemodel, engine)


def of_split(experiment: Experiment, samples: Split, deploy: str, caffemodel: str, blobs: Sequence[str],
            engine: Engine = ONE) -> dict[str, np.ndarray]:
    """The `outputs` for all records of a split."""
    references = Images(samples.references) if samples.references else None
    return outputs(deploy, caffemodel, Images(samples.images), blobs, transform(experiment), references, engine)


def transform(experiment: Experiment) -> Transform:
    """How the experiment's net transforms pixels."""
    return BACKBONES[experiment.net].transform


def batch_size(engine: Engine) -> int:
    """How many images a forward pass takes."""
    return BATCH_ON_CARD if engine.device.engine != machine.CAFFE and engine.gpu is not None else BATCH


def outputs(deploy: str, caffemodel: str, images: Sequence[np.ndarray], blobs: Sequence[str],
            prepared: Transform = PLAIN, references: Optional[Sequence[np.ndarray]] = None, engine: Engine = ONE
            ) -> dict[str, np.ndarray]:
    """Blob -> its values, float32 (images, ...).

    images: (channels, height, width) each, uint8, or float32 if they are normalised; prepared: the transformation of
    pixels; references: one for each image, for a net with the blob `reference`.

    On a CPU, each thread of the engine is a process of Caffe with one BLAS thread, because much of Caffe's forward pass
    uses one thread only. The values do not depend on the number of processes. PyTorch works in one process of its own:
    a process that has used it, or a card, cannot be forked any more.
    """
    on_torch, size = engine.device.engine != machine.CAFFE, batch_size(engine)
    starts = range(0, len(images), size)
    nets: "list[Net]" = []

    def work(start: int) -> dict[str, np.ndarray]:
        if not nets:
            nets.append(open_net(deploy, caffemodel, engine))
        rows = range(start, min(start + size, len(images)))
        return batch(nets[0], [images[row] for row in rows], blobs, prepared,
                     None if references is None else [references[row] for row in rows])
    if on_torch:
        processes = 1
    else:
        # Loaded before the fork, so that the processes share the weights.
        nets.append(open_net(deploy, caffemodel, engine.with_threads(1)))
        processes = min(engine.threads, len(starts)) if engine.gpu is None else 1
    # Daemonic processes cannot have children.
    forks = (on_torch or processes > 1) and not multiprocessing.current_process().daemon
    batches = children.in_order(processes, lambda: None, (), work, starts) if forks else map(work, starts)
    result: dict[str, np.ndarray] = {}
    with progress.bar("evaluating", len(images)) as bar:
        for start, values_of in zip(starts, batches):
            for blob, values in values_of.items():
                result.setdefault(blob, np.empty((len(images),) + values.shape[1:], np.float32))[
                    start:start + len(values)] = values
            bar.update(min(size, len(images) - start))
    return result


def batch(net: "Net", images: Sequence[np.ndarray], blobs: Sequence[str], prepared: Transform = PLAIN,
          references: Optional[Sequence[np.ndarray]] = None) -> dict[str, np.ndarray]:
    """The `outputs` for some images in one forward pass. They are views into the net, valid until the next pass."""
    inputs = {"data": images, "reference": references or ()}
    if not isinstance(net, caffe.Net):
        return net.forward({name: np.stack([net_input(image, prepared) for image in inputs[name]])
                            for name in net.inputs}, blobs)
    for name in net.inputs:
        net.blobs[name].reshape(len(images), *net.blobs[name].shape[1:])
        for row, image in enumerate(inputs[name]):
            net.blobs[name].data[row] = net_input(image, prepared)
    net.forward()
    return {blob: net.blobs[blob].data for blob in blobs}
