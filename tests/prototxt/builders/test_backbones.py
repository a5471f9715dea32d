"""Backbones in real Caffe: the names and shapes of every blob."""
import os

import caffe
import numpy as np
import pytest

from common.experiment import ROOT
from prototxt.builders import backbones
from tests import caffe_nets


def made(folder, name):
    path = folder / (name + ".prototxt")
    path.write_text(str(backbones.alone(name)))
    return caffe.Net(str(path), caffe.TEST)


def residual(stage, convolutions, width, height, breadth):
    """Blobs of a stage's residual blocks, name -> shape."""
    return {f"{kind}{stage}_{number}": (1, width, height, breadth)
            for number in range(1, convolutions + 1)
            for kind in (("conv",) if number % 2 else ("conv", "res"))}


def face_blobs(*sides):
    """Blobs after the first convolution; sides: (height, width) of conv1b, pool1b, conv2, pool2, ... pool4."""
    expected = {}
    for name, width, side in zip(("conv1b", "pool1b", "conv2", "pool2", "conv3", "pool3", "conv4", "pool4"),
                                 (64, 64, 128, 128, 256, 256, 512, 512), sides):
        expected[name] = (1, width) + side
    for stage, convolutions, pool in ((2, 2, "pool1b"), (3, 4, "pool2"), (4, 10, "pool3"), (5, 6, "pool4")):
        expected.update(residual(stage, convolutions, *expected[pool][1:]))
    return expected


SQUARES = {"face_resnet": (227, 110, 108, 54, 52, 26, 24, 12, 10, 5),
           "face_resnet_pad4": (227, 114, 112, 56, 54, 27, 25, 13, 11, 6)}


@pytest.mark.parametrize("name", sorted(SQUARES))
def test_face_resnet_has_the_papers_sides(tmp_path, name):
    side, first, *others = SQUARES[name]
    net = made(tmp_path, name)
    assert {blob: tuple(net.blobs[blob].shape) for blob in net.blobs if "_split_" not in blob} == dict(
        face_blobs(*((side, side) for side in others)),
        data=(1, 1, side, side), conv1_9x9=(1, 32, first, first))
    assert net.blobs["res5_6"].count == {"face_resnet": 12800, "face_resnet_pad4": 512 * 6 * 6}[name]


def test_face_base_has_the_published_blobs(tmp_path):
    net = made(tmp_path, "face_base")
    sides = [(108, 92), (54, 46), (52, 44), (26, 22), (24, 20), (12, 10), (10, 8), (5, 4)]
    assert {blob: tuple(net.blobs[blob].shape) for blob in net.blobs if "_split_" not in blob} == dict(
        face_blobs(*sides), data=(1, 3, 112, 96), conv1a=(1, 32, 110, 94), fc5=(1, 512))
    # 27 convolutions, each followed by a PReLU of its own, and fc5.
    kinds = [layer.type for layer in backbones.alone("face_base").layer]
    assert (kinds.count("Convolution"), kinds.count("PReLU"), kinds.count("InnerProduct")) == (27, 27, 1)
    assert [tuple(blob.shape) for blob in net.params["conv1a"]] == [(32, 3, 3, 3), (32,)]


@pytest.mark.parametrize("name", sorted(SQUARES))
def test_every_layer_but_the_first_convolution_is_copied_from_the_base(tmp_path, name):
    base, fine = made(tmp_path, "face_base"), made(tmp_path, name)
    shapes = [{layer: tuple(tuple(blob.shape) for blob in blobs) for layer, blobs in net.params.items()}
              for net in (base, fine)]
    assert set(shapes[0]) - set(shapes[1]) == {"conv1a", "fc5"}
    assert set(shapes[1]) - set(shapes[0]) == {"conv1_9x9"}
    assert all(shapes[0][layer] == shapes[1][layer] for layer in set(shapes[0]) & set(shapes[1]))
    base.save(str(tmp_path / "base.caffemodel"))
    fine.copy_from(str(tmp_path / "base.caffemodel"))
    for layer in ("conv1b", "relu1a", "conv4_10", "relu5_6"):
        np.testing.assert_array_equal(fine.params[layer][0].data, base.params[layer][0].data)


def test_fillers_and_multipliers_are_the_published_ones():
    layers = {layer.name: layer for layer in backbones.alone("face_resnet").layer}
    for name, layer in layers.items():
        if layer.type != "Convolution":
            continue
        assert [(spec.lr_mult, spec.decay_mult) for spec in layer.param] == [(1, 1), (2, 0)]
        param, residual_one = layer.convolution_param, "_" in name and name != "conv1_9x9"
        assert param.weight_filler.type == ("gaussian" if residual_one else "xavier"), name
        assert list(param.pad) == [1 if residual_one else 0], name
        if residual_one:
            assert param.weight_filler.std == pytest.approx(0.01)
    assert [layers["res2_2"].bottom[index] for index in (0, 1)] == ["pool1b", "conv2_2"]
    assert [layers["res4_4"].bottom[index] for index in (0, 1)] == ["res4_2", "conv4_4"]


def test_residual_block_adds_its_input(tmp_path):
    net = made(tmp_path, "face_base")
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    net.forward()
    np.testing.assert_allclose(net.blobs["res3_4"].data,
                               net.blobs["res3_2"].data + net.blobs["conv3_4"].data, rtol=1e-5)


def resnet18_layers(projected=False):
    """Name -> shapes of its blobs, as ResNet-18 is defined. projected: whether stage 2 has a projection, too."""
    layers = {"conv1": ["64x3x7x7"], "bn_conv1": ["64", "64", "1"], "scale_conv1": ["64", "64"]}
    below = 64
    for stage, width in ((2, 64), (3, 128), (4, 256), (5, 512)):
        for block, branches in (("a", ("branch1", "branch2a", "branch2b")), ("b", ("branch2a", "branch2b"))):
            for branch in branches[width == below and not projected and block == "a":]:
                kernel = 1 if branch == "branch1" else 3
                came = below if block == "a" and branch != "branch2b" else width
                layers[f"res{stage}{block}_{branch}"] = [f"{width}x{came}x{kernel}x{kernel}"]
                layers[f"bn{stage}{block}_{branch}"] = [str(width), str(width), "1"]
                layers[f"scale{stage}{block}_{branch}"] = [str(width)] * 2
        below = width
    return dict(layers, fc1000=["1000x512", "1000"])


def test_resnet18_has_the_listed_layers(tmp_path):
    with open(os.path.join(ROOT, "models", "resnet18.txt")) as stream:
        listed = {name: shapes for name, *shapes in map(str.split, stream)}
    assert listed == resnet18_layers()
    assert len(listed) == 3 * 20 + 1
    for name, projection in (("resnet18_base", 0), ("resnet18_projected_base", 64 * 64 + 2 * 64)):
        net = made(tmp_path, name)
        assert {layer: ["x".join(map(str, blob.shape)) for blob in blobs]
                for layer, blobs in net.params.items()} == resnet18_layers(bool(projection))
        # torchvision's number of weights, and those of the projection.
        assert sum(blob.count for layer, blobs in net.params.items() for blob in blobs
                   if not layer.startswith("bn")) == 11689512 + projection
    assert set(resnet18_layers(True)) - set(listed) == {"res2a_branch1", "bn2a_branch1", "scale2a_branch1"}


# Sides of conv1, pool1 and the stages 3 to 5, by hand: each convolution and the pooling, all of stride 2, make
# (side + 1) // 2 of a side, since their padding is half of the kernel, rounded down.
@pytest.mark.parametrize("side, sides", [
    (224, (112, 56, 28, 14, 7)), (160, (80, 40, 20, 10, 5)), (100, (50, 25, 13, 7, 4)), (97, (49, 25, 13, 7, 4)),
    (33, (17, 9, 5, 3, 2))])
def test_pooling_of_resnet18_pads_one_pixel_and_rounds_down(tmp_path, side, sides):
    net = made(tmp_path, "resnet18")
    net.blobs["data"].reshape(1, 3, side, side)
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, (1, 3, side, side))
    net.forward()
    assert tuple(net.blobs[name].shape[2] for name in ("conv1", "pool1", "res3b", "res4b", "res5b")) == sides
    below = np.pad(net.blobs["conv1"].data[0], ((0, 0), (1, 1), (1, 1)), mode="constant", constant_values=-np.inf)
    expected = [[below[:, 2 * y:2 * y + 3, 2 * x:2 * x + 3].max(axis=(1, 2)) for x in range(sides[1])]
                for y in range(sides[1])]
    np.testing.assert_array_equal(net.blobs["pool1"].data[0], np.transpose(expected, (2, 0, 1)))


def test_first_block_of_resnet18_adds_its_input_and_the_projected_one_does_not(tmp_path):
    bottoms = {name: next(list(layer.bottom) for layer in backbones.alone(name).layer if layer.name == "res2a")
               for name in ("resnet18", "resnet18_projected")}
    assert bottoms == {"resnet18": ["pool1", "res2a_branch2b"],
                       "resnet18_projected": ["res2a_branch1", "res2a_branch2b"]}
    net = made(tmp_path, "resnet18")
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    net.params["scale2a_branch2b"][0].data[...] = 0
    net.params["scale2a_branch2b"][1].data[...] = np.arange(64)
    net.forward()
    np.testing.assert_array_equal(net.blobs["res2a"].data,
                                  net.blobs["pool1"].data + np.float32(np.arange(64)).reshape(1, -1, 1, 1))


def test_convolutions_of_resnet18_begin_as_torchvisions_do(tmp_path):
    """kaiming_normal_ with mode "fan_out": a variance of 2 / (outputs * kernel^2)."""
    caffe.set_random_seed(1)
    net = made(tmp_path, "resnet18_base")
    for name, outputs, kernel in (("conv1", 64, 7), ("res2b_branch2a", 64, 3), ("res3a_branch1", 128, 1),
                                  ("res4a_branch2a", 256, 3), ("res5a_branch1", 512, 1)):
        assert net.params[name][0].data.std() == pytest.approx((2 / (outputs * kernel ** 2)) ** 0.5, rel=0.03), name
    for weights in net.params["fc1000"]:
        bound = 1 / 512 ** 0.5
        assert 0.99 * bound < np.abs(weights.data).max() <= np.float32(bound)
        assert weights.data.std() == pytest.approx(bound / 3 ** 0.5, rel=0.05)


@pytest.mark.parametrize("name, means, deviations", [
    ("resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("resnet18_raf", (0.5752, 0.4495, 0.4012), (0.2086, 0.1911, 0.1827)),
    ("resnet18_projected", (123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255))])
def test_resnets_get_the_pixels_that_they_were_trained_with(name, means, deviations):
    """As the code of the papers has them: RGB from 0 to 1, minus the mean, over the standard deviation. Here BGR."""
    images = np.random.RandomState(0).randint(0, 256, (2, 3, 5, 4)).astype(np.uint8)
    got = backbones.BACKBONES[name].transform(images)
    assert got.dtype == np.float32
    for image, result in zip(images, got):
        for channel in range(3):
            expected = (image[2 - channel] / 255 - means[channel]) / deviations[channel]
            np.testing.assert_allclose(result[2 - channel], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, sides", [
    ("resnet18", {"conv1": (64, 112), "pool1": (64, 56), "res2b": (64, 56), "res3b": (128, 28), "res4b": (256, 14),
                  "res5b": (512, 7), "pool5": (512, 1)}),
    ("resnet_small", {"conv1": (16, 28), "res3b": (16, 28), "res4b": (32, 14), "res5b": (64, 7), "pool5": (64, 1)})])
def test_resnets_have_the_papers_sides(tmp_path, name, sides):
    net = made(tmp_path, name)
    assert {blob: tuple(net.blobs[blob].shape) for blob in sides} == {
        blob: (1, width, side, side) for blob, (width, side) in sides.items()}
    assert backbones.BACKBONES[name].width == net.blobs["res5b"].shape[1]


def test_resnet_block_normalises_adds_and_rectifies(tmp_path):
    net = made(tmp_path, "resnet_small")
    random = np.random.RandomState(0)
    for name, blobs in net.params.items():
        if name.startswith("bn"):
            for blob, low in zip(blobs, (-1, 0.5, 2)):
                blob.data[...] = random.uniform(low, low + 1, blob.shape)
        elif name.startswith("scale"):
            for blob in blobs:
                blob.data[...] = random.uniform(0.5, 1.5, blob.shape)
    net.blobs["data"].data[...] = random.uniform(-1, 1, net.blobs["data"].shape)
    net.forward()

    def channels(values):
        return values.reshape(1, -1, 1, 1)

    def branch(name, below, stride=1):
        weights = net.params["res" + name][0].data
        kernel = weights.shape[2]
        padded = np.pad(below, ((0, 0), (0, 0)) + ((kernel // 2,) * 2,) * 2, mode="constant")
        side = (below.shape[2] - 1) // stride + 1
        out = sum(np.einsum("oc,nchw->nohw", weights[:, :, y, x], padded[
            :, :, y:y + stride * side:stride, x:x + stride * side:stride][:, :, :side, :side])
            for y in range(kernel) for x in range(kernel))
        mean, variance, count = (blob.data for blob in net.params["bn" + name])
        normal = (out - channels(mean / count)) / np.sqrt(channels(variance / count) + 1e-5)
        scale, shift = (blob.data for blob in net.params["scale" + name])
        return channels(scale) * normal + channels(shift)
    below = net.blobs["res3b"].data.astype(float)
    first = np.maximum(branch("4a_branch2a", below, 2), 0)
    expected = np.maximum(branch("4a_branch1", below, 2) + branch("4a_branch2b", first), 0)
    np.testing.assert_allclose(net.blobs["res4a"].data, expected, rtol=1e-3, atol=1e-3)
    same = net.blobs["res4a"].data.astype(float)
    first = np.maximum(branch("4b_branch2a", same), 0)
    np.testing.assert_allclose(net.blobs["res4b"].data, np.maximum(same + branch("4b_branch2b", first), 0),
                               rtol=1e-3, atol=1e-3)


def test_statistics_continue_as_torchs_if_they_count_as_ten_iterations(tmp_path):
    """torch's running statistics keep 0.9 of themselves: 9 = 0.9 * 10 parts of the old, one of the batch's."""
    layer = next(layer for layer in backbones.alone("resnet_small").layer if layer.type == "BatchNorm")
    layer.bottom[:] = layer.top[:] = ["data"]
    net = caffe_nets.net(tmp_path, f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 8 dim: 2 }} }} }}
        layer {{ {layer} }}""")
    mean, variance, count = net.params["bn_conv1"]
    mean.data[...], variance.data[...], count.data[...] = (20, -30), (5, 40), 10
    values = np.random.RandomState(0).uniform(-3, 5, (8, 2))
    net.blobs["data"].data[...] = values
    net.forward()
    assert float(count.data) == 10
    np.testing.assert_allclose(mean.data / 10, 0.9 * np.array([2, -3]) + 0.1 * values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance.data / 10, 0.9 * np.array([.5, 4]) + 0.1 * values.var(axis=0, ddof=1),
                               rtol=1e-5)


def test_batch_norms_statistics_are_left_alone_by_the_solver(tmp_path):
    """Momentum and weight decay would move them; they are the batch's, averaged."""
    net = backbones.alone("resnet_small")
    text = str(net) + """
        layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 1 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "pool5" top: "fc"
                inner_product_param { num_output: 3 weight_filler { type: "msra" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }"""
    solver = caffe_nets.solver(tmp_path, text, base_lr=1, momentum=0.9, weight_decay=0.9)
    solver.net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, solver.net.blobs["data"].shape)
    frozen = solver.net.params["conv1"][0].data.copy()
    expected = 0
    for number in range(2):
        net_input = solver.net.blobs["data"].data.copy()
        weights = solver.net.params["conv1"][0].data.copy() if number else frozen
        padded = np.pad(net_input, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="constant")
        convolved = sum(np.einsum("oc,nchw->nohw", weights[:, :, y, x], padded[:, :, y:y + 56:2, x:x + 56:2])
                        for y in range(3) for x in range(3))
        solver.step(1)
        expected = 0.9 * expected + convolved.mean(axis=(0, 2, 3))
        mean, _, count = solver.net.params["bn_conv1"]
        np.testing.assert_allclose(mean.data, expected, rtol=1e-4, atol=1e-5)
    assert float(count.data[0]) == pytest.approx(1.9)


# Pooling layers, name -> (kind, kernel, stride, pad, side of the output), by hand: Caffe rounds (side - kernel) up to
# whole strides. Only those inside the inception modules, which keep the side, are padded.
POOLS = {
    "toy": {"pool1": ("MAX", 2, 2, 0, 8)},
    "face_resnet": {"pool1b": ("MAX", 2, 2, 0, 54), "pool2": ("MAX", 2, 2, 0, 26), "pool3": ("MAX", 2, 2, 0, 12),
                    "pool4": ("MAX", 2, 2, 0, 5)},
    "face_resnet_pad4": {"pool1b": ("MAX", 2, 2, 0, 56), "pool2": ("MAX", 2, 2, 0, 27),
                         "pool3": ("MAX", 2, 2, 0, 13), "pool4": ("MAX", 2, 2, 0, 6)},
    "one_map": {},
    "inception": {"pool1": ("MAX", 3, 2, 0, 12), "pool2": ("MAX", 3, 2, 0, 6), "pool3a": ("MAX", 3, 1, 1, 6),
                  "pool3b": ("MAX", 3, 1, 1, 6), "pool3": ("MAX", 3, 2, 0, 3), "pool4a": ("MAX", 3, 1, 1, 3),
                  "pool4": ("AVE", 0, 1, 0, 1)},
    "vgg16": {"pool1": ("MAX", 2, 2, 0, 112), "pool2": ("MAX", 2, 2, 0, 56), "pool3": ("MAX", 2, 2, 0, 28),
              "pool4": ("MAX", 2, 2, 0, 14), "pool5": ("MAX", 2, 2, 0, 7)},
    # 112 -> 56 without pad. With a pad of 1 it would be 57, but resnet18 rounds down.
    "resnet18_projected": {"pool1": ("MAX", 3, 2, 0, 56), "pool5": ("AVE", 0, 1, 0, 1)},
    "resnet18": {"pool1": ("MAX", 3, 2, 1, 56), "pool5": ("AVE", 0, 1, 0, 1)},
    "resnet18_raf": {"pool1": ("MAX", 3, 2, 1, 56), "pool5": ("AVE", 0, 1, 0, 1)},
    "resnet_small": {"pool5": ("AVE", 0, 1, 0, 1)}}


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pools(tmp_path, name):
    net, found = (None if name == "vgg16" else made(tmp_path, name)), {}
    for layer in backbones.alone(name).layer:
        if layer.type == "Pooling":
            param = layer.pooling_param
            assert (param.pad_h, param.pad_w, param.kernel_h, param.stride_h) == (0, 0, 0, 0)
            kind = {param.MAX: "MAX", param.AVE: "AVE"}[param.pool]
            assert param.global_pooling == (kind == "AVE")
            side = net.blobs[layer.top[0]].shape[2] if net else POOLS[name][layer.name][4]
            found[layer.name] = (kind, param.kernel_size, param.stride, param.pad, side)
    assert found == POOLS[name]


@pytest.mark.parametrize("name, bottoms", (
    ("toy", {"pool1": "conv1"}), ("inception", {"pool1": "conv1", "pool2": "conv2", "pool3a": "pool2"}),
    ("resnet18", {"pool1": "conv1"}), ("resnet18_projected", {"pool1": "conv1"})))
def test_values_of_pools(tmp_path, name, bottoms):
    net = made(tmp_path, name)
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    net.forward()
    for pool, bottom in bottoms.items():
        _, kernel, stride, pad, side = POOLS[name][pool]
        below = net.blobs[bottom].data[0]
        for y, x in ((0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1), (side // 2, 1)):
            top, left = y * stride - pad, x * stride - pad
            window = below[:, max(top, 0):top + kernel, max(left, 0):left + kernel]
            np.testing.assert_array_equal(net.blobs[pool].data[0, :, y, x], window.max(axis=(1, 2)), pool)
