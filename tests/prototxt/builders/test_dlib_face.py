"""dlib's net in real Caffe, against a slow second implementation: its maps at several sizes, and its gradients."""
import json

import caffe
import numpy as np
import pytest
from caffe import layers as L

from common import experiment
from common.errors import UserError
from prototxt import nets
from prototxt.builders import backbones, dlib_face, parts
from tests import dlib_reference as reference
from tests.paper_nets import net_of

DLIB = backbones.BACKBONES["dlib_face"]
# Side of the image -> side of the last map. 103: 49 after conv1, 24 after pool1, then 12, 6, 3, 1. 112: 53, 26, 13, 6,
# 3, 1. 150: 72, 35, 17, 8, 4, 2. 227: 111, 55, 27, 13, 6, 3.
SIDES = {103: 1, 104: 1, 112: 1, 150: 2, 227: 3}


def fill(net, layers):
    for number, (weights, biases, factors, summands) in enumerate(layers):
        convolution = [name for name in net.params if name.startswith("conv")][number]
        net.params[convolution][0].data[...] = weights
        factor, summand = net.params[convolution.replace("conv", "affine")]
        factor.data[...] = factors
        summand.data[...] = summands + factors * biases


@pytest.mark.parametrize("side", (103, 112, 150))
def test_maps(tmp_path, side):
    """Each of two grey images; one of them has edges of another size on each side, so that a shift is seen."""
    layers, _ = reference.parameters(side)
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[2, 1, side, side]))
    dlib_face.last_map(net)
    made = net_of(tmp_path, net.to_proto())
    fill(made, layers)
    grey = np.random.RandomState(side).randint(0, 256, (2, side, side)).astype(float)
    grey[1, :20] /= 3
    grey[1, :, :40] /= 2
    made.blobs["data"].data[:, 0] = (grey - 127.5) / 128
    made.forward()
    found = made.blobs["res6_1"].data
    for image, maps in zip(grey, found):
        expected = reference.last_map([(image - mean) / 256 for mean in reference.MEANS], layers)
        assert expected.shape == (256, SIDES[side], SIDES[side]) and (expected > 0).mean() > 0.1
        assert np.linalg.norm(maps - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("side", (6, 7))
@pytest.mark.parametrize("widens", (True, False))
def test_gradients_of_a_halving_block(tmp_path, side, widens):
    """All activations are positive, so the outputs are linear in each single value. An even side needs zeros."""
    random = np.random.RandomState(0)
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[2, 3, side, side]))
    # What has no gradient itself passes none on; so the block is on a convolution.
    net.below = L.Convolution(net.data, num_output=3, kernel_size=1, weight_filler=dict(type="gaussian"))
    net.top = dlib_face._block(net, "3_1", net.below, 3, 6 if widens else 3, True)
    proto = net.to_proto()
    proto.force_backward = True
    made = net_of(tmp_path, proto)
    made.blobs["data"].data[...] = random.uniform(1, 2, made.blobs["data"].shape)
    for blobs in made.params.values():
        for blob in blobs:
            blob.data[...] = random.uniform(0.1, 0.5, blob.data.shape)
    output = made.blobs["res3_1"]
    coefficients = random.uniform(-1, 1, output.data.shape)
    # Twice, so that what a backward pass leaves behind is seen.
    for _ in range(2):
        made.forward()
        for blobs in made.params.values():
            for blob in blobs:
                blob.diff[...] = 0
        output.diff[...] = coefficients
        made.backward()
    assert made.blobs["conv3_1a"].data.min() > 0
    # Where the zeros of both sides meet: 3 channels, the last row and column of 3x3, and 2 images.
    assert (output.data == 0).sum() == (3 * 5 * 2 if widens and side == 6 else 0)

    def loss():
        made.forward()
        return float((output.data.astype(float) * coefficients).sum())
    for blob in [made.blobs["data"], *(blob for blobs in made.params.values() for blob in blobs)]:
        gradient = blob.diff.astype(float)
        for place in map(tuple, np.argwhere(np.ones(blob.data.shape, bool))[::max(1, blob.data.size // 7)]):
            value, step = float(blob.data[place]), 0.05
            blob.data[place] = value + step
            above = loss()
            blob.data[place] = value - step
            below = loss()
            blob.data[place] = value
            assert (above - below) / (2 * step) == pytest.approx(gradient[place], rel=5e-3, abs=5e-3)


def test_names_and_shapes_of_the_whole_net(tmp_path):
    net = net_of(tmp_path, backbones.alone("dlib_face_base"))
    assert tuple(net.blobs["data"].shape) == (1, 3, 150, 150) and tuple(net.blobs["descriptor"].shape) == (1, 128)
    convolutions = [net.params[name] for name in net.params if name.startswith("conv")]
    assert [blobs[0].data.shape for blobs in convolutions] == [
        (outputs, inputs, kernel, kernel) for inputs, outputs, kernel in reference.CONVOLUTIONS]
    assert {len(blobs) for blobs in convolutions} == {1}
    assert [blob.data.shape for blob in net.params["descriptor"]] == [(128, 256)]
    own = net_of(tmp_path, backbones.alone("dlib_face"))
    assert set(net.params) - set(own.params) == {"descriptor"} and not set(own.params) - set(net.params)


def test_a_net_of_random_weights_begins_with_the_shortcuts(tmp_path):
    net = net_of(tmp_path, backbones.alone("dlib_face"))
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    net.forward()
    first = net.blobs["pool1"].data[0]
    # Averages of 2x2, four times; 35, 17, 8, 4 and 2 cells a side. Channels that were added are 0.
    for side in (17, 8, 4, 2):
        first = first[:, :2 * side, :2 * side].reshape(len(first), side, 2, side, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(net.blobs["res6_1"].data[0, :32], first, rtol=1e-4, atol=1e-6)
    assert not net.blobs["res6_1"].data[0, 32:].any()


def test_sizes():
    for side, last in SIDES.items():
        assert DLIB.takes((1, side, side)) and DLIB.values((1, side, side)) == 256 * last ** 2
    assert not any(DLIB.takes(shape) for shape in (
        (1, 48, 48), (1, 102, 102), (1, 1, 1), (3, 150, 150), (1, 150, 112), (1, 150)))
    assert DLIB.taken == "1xNxN with N of at least 103"
    toy = backbones.BACKBONES["toy"]
    assert toy.taken == "1x48x48" and toy.takes((1, 48, 48)) and not toy.takes((1, 112, 112))
    assert toy.values((1, 48, 48)) == 12800


def data(side):
    return parts.Data("data", 7, {"train": 10, "val": 10}, (1, side, side), range(1, 8))


@pytest.mark.parametrize("name", ("xie2019a/fer2013-softmax", "xie2019a/ckplus-blaw",
                                   "xie2019b/fer2013-center-l2"))
@pytest.mark.parametrize("side, last", ((112, 1), (150, 2)))
def test_deploy_nets(tmp_path, name, side, last):
    chosen = experiment.load(name, ["net=dlib_face"])
    made = net_of(tmp_path, nets.deploy(chosen.one_training(), data(side)))
    assert {blobs[0].data.shape[1] for name, blobs in made.params.items() if name.startswith("fc1")} == {
        256 * last ** 2}
    made.blobs["data"].reshape(3, 1, side, side)
    made.blobs["data"].data[...] = 0
    assert made.forward()["prob"].shape == (3, 7)


def test_weight_sparseness_has_the_shape_of_fc1():
    """Layers that share weights must agree on their shape: the sparseness loss and FC1."""
    chosen = experiment.load("xie2019b/fer2013-v-l2", ["net=dlib_face"])
    for side, values in ((112, 256), (150, 1024)):
        shapes = [json.loads(layer.python_param.param_str)["shape"]
                  for layer in nets.train_val(chosen, data(side)).layer if layer.name == "sparse_v"]
        assert shapes == [[512, values]]


def test_gabor_needs_another_z():
    for side, values in ((112, 256), (150, 1024)):
        chosen = experiment.load("xie2019a/fer2013-gabor", ["net=dlib_face"])
        with pytest.raises(UserError, match="^xie2019a/fer2013-gabor: losses.gabor needs a z of 12800 values, but z "
                                            f"of the net dlib_face has {values} for images of 1x{side}x{side}$"):
            nets.require_buildable(chosen, data(side))
    nets.require_buildable(experiment.load("xie2019a/fer2013-gsf", ["net=dlib_face"]), data(112))
    nets.require_buildable(experiment.load("xie2019a/fer2013-gabor"), data(227))
    nets.require_buildable(experiment.load("xie2019b/fer2013-l2", ["net=dlib_face"]), data(112))
