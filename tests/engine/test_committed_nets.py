"""Every committed training net in Caffe and in the engine: its loss and all its gradients, from Caffe's weights."""
import glob
import json
import os
import re

import caffe
import numpy as np
import pytest
import torch

from common import experiment
from common.experiment import ROOT
from engine import messages
from engine.net import Net
from prototxt import build

# A gradient that is 0 but for rounding, as of a bias before BatchNorm, is compared with the largest one of the net.
FLOOR = 1e-4
DATA_LAYERS = ("layers.lmdb_data", "layers.augmented_data", "layers.window_data")
# What a net is told of its data, its names and its place, which change nothing of what it computes.
OF_NO_EFFECT = re.compile(r'"(name|images|references|data|epoch_size|batch_size|seed)": ("[^"]*"|\d+|\[[^]]*\]),? ?'
                          r'|"(counts|features)": \[[^]]*\],? ?')


def read(path):
    return messages.read_text(path, "NetParameter")


def of_training(definition):
    return [layer for layer in definition.layer
            if not any(rule.HasField("phase") and rule.phase == messages.TEST for rule in layer.include)]


def computed(path):
    """What a net computes, without the names of its layers and data: two nets with the same one are tested once."""
    text = ""
    for layer in of_training(read(path)):
        layer.python_param.param_str = OF_NO_EFFECT.sub("", layer.python_param.param_str)
        if layer.python_param.module in DATA_LAYERS:
            layer.name = "data"
        text += str(layer)
    return text


def different(paths):
    """The first net of each kind, with all those that compute the same."""
    kinds = {}
    for path in paths:
        kinds.setdefault(computed(path), []).append(path)
    return list(kinds.values())


PATHS = sorted(glob.glob(os.path.join(ROOT, "prototxt", "*", "*", "train_val.prototxt")))
KINDS = different(PATHS)


def name_of(path):
    return os.path.relpath(os.path.dirname(path), os.path.join(ROOT, "prototxt"))


def on_inputs(path):
    """The training net with Input layers in place of its data layers, and what to fill them with. Dropout has the ratio
    0, since each engine has its own random numbers. The batch: two tuplets, or four images."""
    definition = read(path)
    settings = experiment.load(name_of(path))
    data = build.expected(settings)
    sizes = {"data": data.shape, "reference": data.shape, "label": (), "gabor": (12800,),
             "gsf": (64 * (data.classes - 1),), "sift": (49 * (data.classes - 1),)}
    normalized = any(layer.type == "BatchNorm" for layer in definition.layer)
    random = np.random.RandomState(1)
    made, values = messages.NetParameter(name=definition.name), {}
    for layer in of_training(definition):
        if layer.python_param.module in DATA_LAYERS:
            options = json.loads(layer.python_param.param_str)
            tuplet = options.get("positives", 0) + options.get("negatives", 0)
            batch = 2 * tuplet or 4
            for top in layer.top:
                new = made.layer.add(name=top, type="Input", top=[top])
                new.input_param.shape.add().dim.extend([batch, *sizes[top]])
                values[top] = random.uniform(-1 if top in ("data", "reference") else 0, 1, (batch, *sizes[top]))
            values["label"] = np.arange(batch) % data.classes
            if tuplet:
                values["label"] = np.where(np.arange(batch) % tuplet, -1, values["label"])
        else:
            if layer.type == "Dropout":
                layer.dropout_param.dropout_ratio = 0
            # Behind BatchNorm, of some million values a few are so near to 0 that one engine's ReLU lets their gradient
            # pass and the other's does not. The slope of ELU does not jump.
            if layer.type == "ReLU" and normalized:
                layer.type = "ELU"
                layer.ClearField("relu_param")
            made.layer.add().CopyFrom(layer)
    for name in ("gabor", "gsf", "sift"):
        if name in values:
            values[name] /= np.linalg.norm(values[name], axis=1, keepdims=True)
    return made, values


def trained_once(path, values):
    """Caffe's net with Caffe's weights, after one pass forward and back."""
    caffe.set_random_seed(1)
    net = caffe.Net(str(path), caffe.TRAIN)
    for name, value in values.items():
        net.blobs[name].data[...] = value
    return net


def in_engine(path, reference, values):
    """The engine's net with the weights of Caffe's and the same inputs."""
    net = Net(read(str(path)), messages.TRAIN)
    for layer in net.layers:
        if layer.name in values:
            layer.value = torch.from_numpy(np.float32(values[layer.name]))
        with torch.no_grad():
            for blob, expected in zip(layer.blobs, reference.params.get(layer.name, ())):
                blob.copy_(torch.from_numpy(expected.data))
    return net


@pytest.mark.parametrize("kind", KINDS, ids=[name_of(kind[0]) for kind in KINDS])
def test_loss_and_gradients_are_those_of_caffe(tmp_path, kind):
    made, values = on_inputs(kind[0])
    path = tmp_path / "net.prototxt"
    path.write_text(str(made))
    reference = trained_once(path, values)
    net = in_engine(path, reference, values)
    reference.forward()
    reference.backward()
    net.forward()
    net.backward()
    expected = sum(float(reference.blobs[name].data.sum()) * weight for layer, weights in
                   zip(net.layers, net.loss_weights) for name, weight in zip(layer.param.top, weights) if weight)
    assert abs(float(net.loss) - expected) <= 1e-4 * abs(expected)
    gradients = {(one.layer, one.number): (one.blob.grad, reference.params[one.layer][one.number].diff)
                 for one in net.parameters if one.rate}
    largest = max(abs(theirs).max() for _, theirs in gradients.values())
    assert largest > 0
    worst = {key: float(np.abs(ours.numpy() - theirs).max() / max(abs(theirs).max(), FLOOR * largest))
             for key, (ours, theirs) in gradients.items()}
    print(max(worst.values()), max(worst, key=worst.get), len(worst))
    assert max(worst.values()) <= 1e-4, max(worst, key=worst.get)
