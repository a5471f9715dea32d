"""The networks: builders that give Caffe's NetParameter."""
import json
from typing import Dict, NamedTuple, Optional

import caffe
from caffe import layers as L
from caffe import params as P

from prototxt.backbones import BACKBONES, inner_product
from prototxt.experiment import Experiment

NetParameter = caffe.proto.caffe_pb2.NetParameter
FROZEN = dict(param=dict(lr_mult=0, decay_mult=0))
MEAN, SCALE = 127.5, 1 / 128


class Data(NamedTuple):
    """What a net must know of its data. root: folder that `./fer prepare` made; classes: how many;
    counts: split -> records; shape: (channels, height, width) of an image."""

    root: str
    classes: int
    counts: Dict[str, int]
    shape: tuple

    def lmdb(self, split: str, content: str) -> str:
        return "{}/{}/{}".format(self.root, split, content)


def test_batch(count: int) -> int:
    """Batch size that sees `count` records in whole batches, if there is one of a fair size; else 100."""
    return next((size for size in range(128, 15, -1) if count % size == 0), 100)


def python_layer(name: str, module: str, layer: str, *bottoms, ntop: int = 1, stateful: bool = False,
                 loss_weight: Optional[float] = None, **param):
    """A layer of ours. stateful: its parameter blob is no weight, and the solver must leave it alone."""
    options = dict(FROZEN) if stateful else {}
    if loss_weight is not None:
        options["loss_weight"] = loss_weight
    return L.Python(*bottoms, name=name, ntop=ntop, **options, python_param=dict(
        module="layers." + module, layer=layer,
        param_str=json.dumps(dict(name=name, **param))))


def _body(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    backbone = BACKBONES[experiment.net]
    backbone.build(net)
    # Without a feature loss on it, FC1 has the width of GSF: 64 blocks x (classes - 1).
    net.fc1 = inner_product(net[backbone.output], 64 * (data.classes - 1))
    net.fc2 = inner_product(net.fc1, data.classes)


def _train_data(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    features = [name for name in experiment.losses if name in FEATURES]
    tops = python_layer("train_data", "lmdb_data", "LmdbDataLayer", ntop=2 + len(features), stateful=True,
                        images=data.lmdb("train", "images"),
                        features=[data.lmdb("train", name) for name in features],
                        batch_size=experiment.solver["batch_size"], mean=MEAN, scale=SCALE)
    for name, top in zip(["data", "label"] + features, tops):
        net[name] = top


def _train_losses(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    for name, settings in experiment.losses.items():
        settings = dict(settings)
        weight = settings.pop("weight")
        if name == "center":
            net.center_loss = python_layer(
                "center_loss", "center_loss", "CenterLossLayer", net.fc1, net.label, loss_weight=weight,
                classes=data.classes, seed=experiment.solver["random_seed"], **settings)
        else:
            layer = name + "_loss"
            net[layer] = python_layer(
                layer, "feature_loss", "FeatureLossLayer", net[FEATURES[name](experiment)], net[name],
                stateful=True, loss_weight=weight, epoch_size=data.counts["train"], **settings)


# Handcrafted feature -> the blob that its loss is imposed on.
FEATURES = {"gabor": lambda experiment: BACKBONES[experiment.net].output}


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The net that trains, and the one that the solver tests on the validation part."""
    train = caffe.NetSpec()
    _train_data(train, experiment, data)
    _body(train, experiment, data)
    train.softmax_loss = L.SoftmaxWithLoss(train.fc2, train.label)
    _train_losses(train, experiment, data)

    val = caffe.NetSpec()
    val.data, val.label = L.Data(
        name="val_data", ntop=2, source=data.lmdb("val", "images"), backend=P.Data.LMDB,
        batch_size=test_batch(data.counts["val"]), transform_param=dict(mean_value=MEAN, scale=SCALE))
    _body(val, experiment, data)
    val.softmax_loss = L.SoftmaxWithLoss(val.fc2, val.label)
    val.accuracy = L.Accuracy(val.fc2, val.label)
    return merge(experiment.name, train.to_proto(), val.to_proto())


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The net that predicts: `data` in, `prob` out."""
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(data.shape)))
    _body(net, experiment, data)
    net.prob = L.Softmax(net.fc2)
    proto = net.to_proto()
    proto.name = experiment.name
    return proto


def merge(name: str, train: NetParameter, test: NetParameter) -> NetParameter:
    """One definition for both phases: what only one of them has is included in its phase alone."""
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
