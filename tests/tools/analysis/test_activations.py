"""Which blobs are which, where their cells lie, and which pixels respond."""
import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe.coord_map import coord_map_from_to

from common import experiment
from common.errors import UserError
from prototxt import build, nets
from prototxt.builders import backbones, parts, xie2019a
from tools.analysis import activations
from tools.analysis.activations import Grid

DATA = parts.Data("d", 7, {"train": 10, "val": 10}, (1, 48, 48))


def written(tmp_path, proto):
    path = tmp_path / "deploy.prototxt"
    path.write_text(build.text(proto))
    return str(path)


@pytest.mark.parametrize("name", ["softmax", "blfw", "alfw", "center-norm-gabor"])
def test_blobs_are_those_that_the_losses_are_on(tmp_path, name):
    chosen = experiment.load("xie2019a/fer2013-toy-" + name)
    found = activations.blobs(written(tmp_path, nets.deploy(chosen, DATA)))
    assert found.x == tuple(xie2019a.fc2_input(chosen, branch.suffix) for branch in xie2019a.branches(chosen))
    # The activations are in place.
    assert (found.first, found.z) == ("conv1", "conv2")


def test_net_without_fc_layer(tmp_path):
    with pytest.raises(UserError, match="deploy.prototxt: has no InnerProduct layer"):
        activations.blobs(written(tmp_path, backbones.alone("toy")))


@pytest.mark.parametrize("name", ["toy", "face_resnet", "face_resnet_pad4"])
def test_cells_lie_where_caffe_says(tmp_path, name):
    """Against pycaffe's own map of coordinates, from z to the image."""
    backbone = backbones.BACKBONES[name]
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(backbone.shape)))
    backbone.build(net)
    _, (step,), (origin,) = coord_map_from_to(net[backbone.output], net.data)
    alone = backbones.alone(name)
    grid = activations.grid(written(tmp_path, alone), alone.layer[-1].top[0])
    assert (grid.origin, grid.step) == pytest.approx((origin, step))


def test_toy_net_by_hand(tmp_path):
    """3x3 in steps of 3: 1, 4, ...; pairs of them: 2.5, 8.5, ...; pairs of those, begun one before: -0.5, 11.5, ..."""
    path = written(tmp_path, backbones.alone("toy"))
    assert activations.grid(path, "conv1") == Grid(1, 3)
    assert activations.grid(path, "pool1") == Grid(2.5, 6)
    assert activations.grid(path, "conv2") == Grid(-0.5, 12)


def test_cells_of_a_cropped_image(tmp_path):
    """VGG-16 takes the window from pixel 1 on; a cell of pool5 is about 32 of its pixels, 0 to 31."""
    assert activations.grid(written(tmp_path, backbones.alone("vgg16")), "pool5") == Grid(1 + 15.5, 32)


def test_cells_of_maps_with_zeros_around_them(tmp_path):
    """dlib's net. conv1 3, 5, ...; pool1 5, 9, ...; 3x3 in steps of 2 of those: 9, 17, ...; the zeros begin one before,
    and are cropped. Pairs: 7, 15, ..."""
    path = written(tmp_path, backbones.alone("dlib_face"))
    assert activations.grid(path, "pool1") == Grid(5, 4)
    assert activations.grid(path, "padded3_1") == Grid(1, 8)
    assert activations.grid(path, "cropped3_1") == Grid(9, 8)
    assert activations.grid(path, "pool3_1") == Grid(7, 8)


def test_maps_of_one_cell_give_way_to_larger_ones(tmp_path):
    """Of faces of 112x112, the last block of dlib's net makes one value of each map of the block before. In the net
    below, a pooling makes one of 2x2; then come a layer in place and a sum, of which the first input counts."""
    dlib = backbones.alone("dlib_face")
    assert activations.maps_of(written(tmp_path, dlib), "res6_1") == "res6_1"  # 150x150
    dlib.layer[0].input_param.shape[0].dim[2:] = [112, 112]
    assert activations.maps_of(written(tmp_path, dlib), "res6_1") == "res5_3"
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1, 1, 6, 6]))
    net.large = L.Convolution(net.data, kernel_size=5, num_output=3)
    net.relu = L.ReLU(net.large, in_place=True)
    net.pooled = L.Pooling(net.large, kernel_size=2)
    net.scaled = L.Scale(net.pooled, in_place=True)
    net.other = L.Convolution(net.data, kernel_size=6, num_output=3)
    net.sum = L.Eltwise(net.pooled, net.other)
    path = written(tmp_path, net.to_proto())
    for blob, expected in (("sum", "large"), ("other", "data"), ("pooled", "large"), ("large", "large")):
        assert activations.maps_of(path, blob) == expected


def test_average_over_face_by_hand():
    """Two maps of 2 x 2 with the means 0, 1 / 2, 3; centres at the pixels 1 and 3 of 6."""
    maps = np.array([[[-1.0, 0], [2, 4]], [[1, 2], [2, 2]]], np.float32)
    row = np.array([0, 0, 0.5, 1, 1, 1])
    expected = row[None, :] + 2 * row[:4, None]
    found = activations.average_over_face(maps, Grid(1, 2), (4, 6))
    assert found.dtype == np.float32 and np.allclose(found, expected)


def test_largest_fifth_by_hand():
    response = np.array([[5.0, 1, 9, 2, 2], [0, 7, 3, 2, -4]])
    expected = np.array([[0, 0, 1, 0, 0], [0, 1, 0, 0, 0]], bool)
    assert (activations.largest(response, 0.2) == expected).all()
    assert not activations.largest(response, 0).any()
    assert activations.largest(response, 1).all()


def test_equal_responses_are_not_torn_apart():
    assert activations.largest(np.ones((5, 5)), 0.2).all()


def test_most_varied_maps_come_first():
    maps = np.array([[[0, 1]], [[5, 5]], [[-3, 3]], [[1, 0]]], np.float32)
    assert (activations.most_varied(maps, 3) == maps[[2, 0, 3]]).all()


def test_normalised_joins_branches():
    first, second = np.array([[3.0], [0]]), np.array([[0.0, 4], [0, 0]])
    assert np.allclose(activations.normalised([first, second]), [[0.6, 0, 0.8], [0, 0, 0]])
