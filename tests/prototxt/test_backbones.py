"""Backbones in real Caffe: the names and shapes of every blob."""
import caffe
import numpy as np
import pytest

from prototxt import backbones


def made(folder, name):
    path = folder / (name + ".prototxt")
    path.write_text(str(backbones.alone(name)))
    return caffe.Net(str(path), caffe.TEST)


def residual(stage, convolutions, width, height, breadth):
    """Blobs of a stage's residual blocks, name -> shape."""
    return {"{}{}_{}".format(kind, stage, number): (1, width, height, breadth)
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
