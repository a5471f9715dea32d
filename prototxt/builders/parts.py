"""Parts of the nets of all papers: their data, the project's own layers, and one definition for both phases."""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

import caffe
import numpy as np
from caffe import layers as L
from caffe.proto.caffe_pb2 import NetParameter

from common.errors import UserError

FROZEN = dict(param=dict(lr_mult=0, decay_mult=0))
MEAN, SCALE = 127.5, 1 / 128


@dataclass(frozen=True)
class Transform:
    """How a net transforms pixels: (pixel - mean) * scale."""

    # One value for all channels, or one for each channel in the order of the LMDB (BGR).
    mean: Sequence[float] = (MEAN,)
    # A number, or one for each channel in the same order.
    scale: Union[float, Sequence[float]] = SCALE

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The transformed images. images: (..., channels, height, width)."""
        mean, scale = (np.reshape(np.float32(values), (-1, 1, 1)) for values in (self.mean, self.scale))
        return (images - mean) * scale


PLAIN = Transform()


@dataclass(frozen=True)
class Data:
    """The facts about data that a net needs."""

    # The folder that `./fer prepare` made.
    root: str
    # The number of classes.
    classes: int
    # Split -> the number of its records.
    counts: dict[str, int]
    # (channels, height, width) of an image.
    shape: Sequence[int]
    # Training samples of each class, for class weights.
    class_counts: Sequence[int] = ()
    # Indices of the training records to train with; empty for all of them.
    records: Sequence[int] = ()
    # The pace of self-paced learning, from 1; 0 for other trainings.
    pace: int = 0

    def lmdb(self, split: str, content: str) -> str:
        """The path of an LMDB. content: "images", "references" or a handcrafted feature."""
        return f"{self.root}/{split}/{content}"


def prepared(root: str, note: dict[str, Any]) -> Data:
    """The data in a prepared folder. note: its prepare.json. Raises UserError if nothing can be trained on them."""
    if "train" not in note["records"]:
        raise UserError(f"{root}: has no train split; `./fer evaluate RUN --data {root}` tests a net on it")
    return Data(root, len(note["classes"]), note["records"], tuple(note["shape"]), note["class_counts"]["train"])


def test_batch(count: int) -> int:
    """The largest batch size from 16 to 128 that divides `count`; 100 if there is none."""
    return next((size for size in range(128, 15, -1) if count % size == 0), 100)


def python_layer(name: str, module: str, layer: str, *bottoms, ntop: int = 1, stateful: bool = False,
                 loss_weight: Optional[float] = None, options: Optional[dict] = None, **param):
    """One of the project's own layers. stateful: whether its parameter blob is state, which the solver must not change;
    options: other settings of the layer; param: the content of its param_str."""
    options = dict(options or {}, **(FROZEN if stateful else {}))
    if loss_weight is not None:
        options["loss_weight"] = loss_weight
    return L.Python(*bottoms, name=name, ntop=ntop, **options, python_param=dict(
        module="layers." + module, layer=layer,
        param_str=json.dumps(dict(name=name, **param))))


def linear(bottom, inputs: int, outputs: int):
    """A fully connected layer that begins as PyTorch's `Linear` does: weights and biases uniform in
    +-1 / sqrt(inputs). inputs: the number of values that it gets."""
    bound = inputs ** -0.5
    filler = dict(type="uniform", min=-bound, max=bound)
    return L.InnerProduct(bottom, num_output=outputs, weight_filler=filler, bias_filler=filler)


def augmented_data(net: caffe.NetSpec, data: Data, transform: Transform, solver: dict, references: bool = False,
                   **augmentation) -> None:
    """Adds the training data: the blobs `data` and `label`, and `reference` if there are references. solver: the
    experiment's settings."""
    if references:
        augmentation["references"] = data.lmdb("train", "references")
    if data.records:
        augmentation["records"] = list(data.records)
    net.data, net.label, *others = python_layer(
        "train_data", "augmented_data", "AugmentedDataLayer", ntop=3 if references else 2, stateful=True,
        images=data.lmdb("train", "images"), batch_size=solver["batch_size"], mean=list(transform.mean),
        scale=transform.scale, seed=[solver["random_seed"], data.pace], **augmentation)
    for reference in others:
        net.reference = reference


def validation_data(net: caffe.NetSpec, data: Data, transform: Transform = PLAIN, references: bool = False) -> None:
    """Adds the same blobs for the validation split, record by record."""
    net.data, net.label = _records("val_data", data, "images", transform, ntop=2)
    if references:
        net.reference = _records("val_references", data, "references", transform)


def _records(name: str, data: Data, content: str, transform: Transform, ntop: int = 1):
    mean, *others = transform.mean
    return python_layer(name, "lmdb_data", "LmdbDataLayer", ntop=ntop, stateful=True,
                        images=data.lmdb("val", content), batch_size=test_batch(data.counts["val"]),
                        mean=list(transform.mean) if others else mean, scale=transform.scale)


def validation_net(data: Data, transform: Transform, body: Callable[[caffe.NetSpec], None], references: bool = False
                   ) -> NetParameter:
    """The net that the solver tests on the validation split; empty if there is none. body: adds the layers from `data`
    to `fc`."""
    net = caffe.NetSpec()
    if "val" in data.counts:
        validation_data(net, data, transform, references)
        body(net)
        net.softmax_loss = L.SoftmaxWithLoss(net.fc, net.label)
        net.accuracy = L.Accuracy(net.fc, net.label)
    return net.to_proto()


def merge(name: str, train: NetParameter, test: NetParameter) -> NetParameter:
    """One definition for both phases. A layer that only one of the nets has is included in that phase only.

    If the test net is empty, the result is the training net.
    """
    if not test.layer:
        train.name = name
        return train
    merged = NetParameter(name=name)
    tested = {layer.name: layer for layer in test.layer}
    for layer in train.layer:
        both = tested.get(layer.name) == layer
        merged.layer.add().CopyFrom(layer)
        if both:
            del tested[layer.name]
        else:
            merged.layer[-1].include.add(phase=caffe.TRAIN)
    head = next(i for i, layer in enumerate(merged.layer) if not layer.include)
    leading = [layer for layer in tested.values() if not layer.bottom]
    trailing = [layer for layer in tested.values() if layer.bottom]
    ordered = list(merged.layer[:head]) + leading + list(merged.layer[head:]) + trailing
    result = NetParameter(name=name)
    for layer in ordered:
        result.layer.add().CopyFrom(layer)
        if layer.name in tested:
            result.layer[-1].include.add(phase=caffe.TEST)
    return result
