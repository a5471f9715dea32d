"""Runs a net in real Caffe and in the engine, in this process, and compares all that they calculate."""
import os
import tempfile

import caffe
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from common.errors import UserError
from engine import messages
from engine.net import Net
from tests import caffe_nets

TRAIN, TEST = messages.TRAIN, messages.TEST


class Comparison:
    """What `run` compared. `caffe`, `engine`: the two nets. `outputs`, `gradients`: their values in Caffe, by name;
    the gradient of a parameter has the name "layer/number". `difference`, `gradient_difference`: the largest difference
    of an output and of a gradient, as a part of the largest value of its blob."""

    def __init__(self, caffe_net, engine_net):
        self.caffe, self.engine = caffe_net, engine_net
        self.outputs, self.gradients = {}, {}
        self.difference = self.gradient_difference = 0.0


def layer(kind, settings="", bottoms=("data",), tops=("top",), name=None):
    """The text of a layer. `settings`: its messages, e.g. "scale_param { axis: 0 }". `name`: that of its first top."""
    blobs = [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops]
    return f'layer {{ name: "{name or tops[0]}" type: "{kind}" {" ".join(blobs)} {settings} }}'


def net(kind, settings, *shapes, tops=1):
    """The text of a layer on inputs data0, data1 ... of the given shapes, with the tops top0, top1 ..."""
    names = [f"data{number}" for number in range(len(shapes))]
    top = [f"top{number}" for number in range(tops)]
    return caffe_nets.inputs(**dict(zip(names, shapes))) + layer(kind, settings, names, top)


def drawn(seed, *shapes):
    """Normally distributed arrays for `net`."""
    random = np.random.RandomState(seed)
    return {f"data{number}": random.standard_normal(shape) for number, shape in enumerate(shapes)}


def refused(text, expected, phase=TRAIN):
    """Checks that the engine refuses a net before it runs, with one line that holds the text `expected`."""
    with pytest.raises(UserError) as error:
        engine_net(text, phase)
    assert expected in str(error.value) and "\n" not in str(error.value), str(error.value)


def engine_net(text, phase=TRAIN, **options):
    """The engine's net of a prototxt's text. Raises UserError."""
    return Net(text_format.Parse(text, messages.NetParameter()), phase, **options)


def caffe_net(text, phase=TRAIN):
    """Caffe's net of a prototxt's text, with random numbers of always the same seed. Where Caffe refuses it, it ends
    the process."""
    caffe.set_random_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return caffe.Net(path, phase)


def smoothen(layer):
    """ReLU, PReLU and MAX pooling jump: of some million values a few are so near to the jump that the gradient goes one
    way in one engine and another way in the other. ELU and AVE pooling do not jump."""
    if layer.type in ("ReLU", "PReLU"):
        layer.type = "ELU"
        for field in ("relu_param", "prelu_param", "param"):
            layer.ClearField(field)
    elif layer.type == "Pooling":
        layer.pooling_param.pool = messages.PoolingParameter.AVE


def run(text, inputs, weights=None, phase=TRAIN, gradients=True, drawn=True, passes=1, seed=0, outputs=None,
        force=True, tolerance=1e-5, gradient_tolerance=1e-4, floor=1e-2):
    """Compares outputs, gradients of inputs and of parameters, and the parameters after the pass.

    text      of the prototxt. Its data come from Input layers with one top each; DummyData with constants is fine, too.
              An output with a loss weight keeps it; each other output gets a gradient that is drawn.
    inputs    arrays, by the name of the Input layer's top
    weights   lists of arrays, by the name of the layer
    drawn     whether the other parameters are drawn from a normal distribution (BatchNorm's are Caffe's own);
              else all of them are Caffe's own
    gradients False: the net is only run forward, as Caffe needs it for layers without a gradient
    passes    so many forward passes, of which the last is compared
    outputs   the names of the blobs to compare and to give a gradient; by default the net's outputs
    force     False: the inputs get no gradient, as Caffe needs it for layers that have none for one of their bottoms
    floor     the smallest "largest value" by which a difference is divided
    Returns a Comparison. Raises AssertionError, which names the blob.
    """
    random = np.random.RandomState(seed)
    text = f"{text}\nforce_backward: {'true' if gradients and force else 'false'}"
    theirs, ours = caffe_net(text, phase), engine_net(text, phase)
    assert sorted(theirs.outputs) == ours.outputs
    result = Comparison(theirs, ours)
    _set_parameters(result, weights or {}, drawn, random)
    sources = _set_inputs(result, inputs, gradients and force)
    names = list(outputs or theirs.outputs)
    for _ in range(passes):
        theirs.forward()
        blobs = ours.forward(keep=names)
    for name in names:
        result.outputs[name] = theirs.blobs[name].data.copy()
        assert ours.shapes[name] == theirs.blobs[name].data.shape, f"declared shape of {name}"
        result.difference = max(result.difference, _compare(
            f"output {name}", blobs[name], result.outputs[name], tolerance, floor))
    if gradients:
        _backward(result, names, blobs, random)
        for name, layer in sources.items() if force else ():
            result.gradients[name] = theirs.blobs[name].diff.copy()
            result.gradient_difference = max(result.gradient_difference, _compare(
                f"gradient of {name}", layer.value.grad, result.gradients[name], gradient_tolerance, floor))
    for layer, number, blob, parameter in _parameters(theirs, ours):
        name = f"{layer}/{number}"
        _compare(f"parameter {name} after the pass", parameter, blob.data, tolerance, floor)
        if gradients and not parameter.requires_grad:
            assert parameter.grad is None, f"parameter {name} has a gradient"
        elif gradients:
            result.gradients[name] = blob.diff.copy()
            result.gradient_difference = max(result.gradient_difference, _compare(
                f"gradient of {name}", parameter.grad, result.gradients[name], gradient_tolerance, floor))
    return result


def copy_parameters(theirs, ours):
    """Gives the engine's net the parameters of Caffe's."""
    with torch.no_grad():
        for _, _, blob, parameter in _parameters(theirs, ours):
            parameter.copy_(torch.from_numpy(blob.data))


def _parameters(theirs, ours):
    """Name of the layer, number, Caffe's blob and the engine's tensor of each parameter."""
    layers = {layer.name: layer for layer in ours.layers}
    for name, blobs in theirs.params.items():
        assert [tuple(one.shape) for one in layers[name].blobs] == [tuple(one.shape) for one in blobs], name
        for number, (blob, parameter) in enumerate(zip(blobs, layers[name].blobs)):
            yield name, number, blob, parameter


def _set_parameters(result, weights, drawn, random):
    types = {layer.name: layer.param.type for layer in result.engine.layers}
    for name, number, blob, _ in _parameters(result.caffe, result.engine):
        if name in weights:
            blob.data[...] = weights[name][number]
        elif drawn and types[name] != "BatchNorm":
            blob.data[...] = random.standard_normal(blob.data.shape)
    copy_parameters(result.caffe, result.engine)


def _set_inputs(result, inputs, gradients):
    """Gives both nets the arrays. Returns the engine's Input layers by the name of their top."""
    sources = {layer.param.top[0]: layer for layer in result.engine.layers if layer.param.type == "Input"}
    assert set(inputs) == set(sources)
    for name, array in inputs.items():
        result.caffe.blobs[name].data[...] = array
        sources[name].value = torch.tensor(np.asarray(array), dtype=torch.float32).requires_grad_(gradients)
    return sources


def _backward(result, names, blobs, random):
    losses = {top for layer, weights in zip(result.engine.layers, result.engine.loss_weights)
              for top, weight in zip(layer.param.top, weights) if weight}
    total = result.engine.loss
    for name in names:
        if name not in losses:
            gradient = random.standard_normal(result.caffe.blobs[name].data.shape).astype(np.float32)
            result.caffe.blobs[name].diff[...] = gradient
            total = total + (blobs[name] * torch.from_numpy(gradient)).sum()
    result.caffe.backward()
    if total.requires_grad:
        total.backward()


def _compare(what, ours, theirs, tolerance, floor):
    """The largest difference, divided by the largest value of Caffe's blob."""
    ours = np.zeros_like(theirs) if ours is None else ours.detach().cpu().numpy()
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, in Caffe {theirs.shape}"
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.abs(np.where(same, 0, ours - theirs.astype(np.float64))).max(initial=0)
    difference /= max(floor, np.abs(theirs[np.isfinite(theirs)]).max(initial=0))
    assert difference <= tolerance, f"{what}: differs by {difference:.3g} of its largest value"
    return difference
