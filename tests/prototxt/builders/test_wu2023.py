"""The nets of wu2023 in real Caffe: statistics of both images together, zero from a pair of equals, two backbones."""
import caffe
import numpy as np
import pytest
from caffe import layers as L

from common import experiment
from prototxt import build, nets
from prototxt.builders import parts
from tools.training import pretrained


def load(name, *changes):
    return experiment.load("wu2023/" + name, changes)


def training_net(folder, name, pairs=5, classes=6):
    """The training net on blobs to be filled."""
    chosen = load(name)
    shape = build.expected(chosen).shape
    proto = nets.train_val(chosen, parts.Data("data", classes, {"train": 10}, shape))
    inputs, random = caffe.NetSpec(), np.random.RandomState(0)
    tops = next(layer for layer in proto.layer if layer.name == "train_data").top
    for top in tops:
        inputs[top] = L.Input(shape=dict(dim=[pairs] + (list(shape) if top != "label" else [])))
    joined = inputs.to_proto()
    joined.layer.extend(layer for layer in proto.layer if layer.name != "train_data")
    (folder / "net.prototxt").write_text(str(joined))
    net = caffe.Net(str(folder / "net.prototxt"), caffe.TRAIN)
    for top in tops:
        net.blobs[top].data[...] = np.arange(pairs) % classes if top == "label" else random.uniform(
            -1, 1, net.blobs[top].shape)
    return net


def convolved(net, images):
    weights = net.params["conv1"][0].data.astype(float)
    padded = np.pad(images.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="constant")
    side = images.shape[2]
    return sum(np.einsum("oc,nchw->nohw", weights[:, :, y, x], padded[:, :, y:y + side:2, x:x + side:2])
               for y in range(3) for x in range(3))


def test_statistics_are_those_of_targets_and_references_together(tmp_path):
    """Eq. (4) and (5) over 2M images; those of either alone differ."""
    net = training_net(tmp_path, "synthetic-ndf")
    net.blobs["reference"].data[...] *= 3
    net.blobs["reference"].data[...] += 1
    net.forward()
    targets, references = (convolved(net, net.blobs[name].data) for name in ("data", "reference"))
    both = np.concatenate([targets, references])
    mean, variance, _ = (blob.data for blob in net.params["bn_conv1"])
    count = both.size / both.shape[1]
    np.testing.assert_allclose(mean, both.mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(variance, both.var(axis=(0, 2, 3)) * count / (count - 1), rtol=1e-3)
    assert np.abs(targets.mean(axis=(0, 2, 3)) - mean).max() > 0.01
    expected = (both - both.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(
        both.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(net.blobs["conv1"].data, np.maximum(expected, 0), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_a_pair_of_equal_images_has_no_features_at_all(tmp_path, phase):
    net = training_net(tmp_path, "synthetic-ndf")
    net.blobs["reference"].data[2] = net.blobs["data"].data[2]
    net.forward()
    if phase == "test":
        net.save(str(tmp_path / "trained.caffemodel"))
        chosen, images = load("synthetic-ndf"), {name: net.blobs[name].data.copy() for name in ("data", "reference")}
        (tmp_path / "deploy.prototxt").write_text(str(nets.deploy(chosen, build.expected(chosen))))
        net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "trained.caffemodel"))
        for name, values in images.items():
            net.blobs[name].reshape(*values.shape)
            net.blobs[name].data[...] = values
        net.forward()
    features = net.blobs["features"].data.reshape(5, -1)
    np.testing.assert_array_equal(features[2], 0)
    assert all(np.abs(features[row]).max() > 1e-3 for row in (0, 1, 3, 4))


def test_features_are_the_difference_of_the_halves(tmp_path):
    net = training_net(tmp_path, "synthetic-ndf")
    net.forward()
    pooled = net.blobs["pool5"].data
    assert pooled.shape == (10, 64, 1, 1)
    np.testing.assert_array_equal(net.blobs["features"].data, pooled[:5] - pooled[5:])
    assert net.blobs["fc"].shape[0] == 5


def test_two_backbones_both_learn_from_the_target(tmp_path):
    net = training_net(tmp_path, "synthetic-without-neutral")
    net.forward()
    net.backward()
    np.testing.assert_allclose(net.blobs["features"].data, net.blobs["pool5"].data - net.blobs["pool5_neutral"].data,
                               atol=1e-6)
    assert "reference" not in net.blobs
    for name in ("conv1", "conv1_neutral", "res5b_branch2b_neutral"):
        assert np.abs(net.params[name][0].diff).max() > 0


def test_both_backbones_begin_as_the_given_one(tmp_path):
    one = training_net(tmp_path, "synthetic-baseline")
    one.forward()
    one.save(str(tmp_path / "given.caffemodel"))
    chosen = load("synthetic-without-neutral")
    deploy = str(tmp_path / "deploy.prototxt")
    (tmp_path / "deploy.prototxt").write_text(str(nets.deploy(chosen, build.expected(chosen))))
    fit = pretrained.write_fitting(str(tmp_path / "given.caffemodel"), deploy, str(tmp_path / "out.caffemodel"),
                                    nets.copied_suffix(chosen))
    assert fit.fresh == [] and fit.unfit == []
    net = caffe.Net(deploy, caffe.TEST, weights=str(tmp_path / "out.caffemodel"))
    for name in ("conv1", "bn5b_branch2b", "scale4a_branch1"):
        for blob, twin, given in zip(net.params[name], net.params[name + "_neutral"], one.params[name]):
            np.testing.assert_array_equal(blob.data, given.data)
            np.testing.assert_array_equal(twin.data, given.data)
    net.blobs["data"].data[...] = 0.3
    net.forward()
    assert (net.blobs["features"].data == 0).all()


def test_a_second_backbone_of_its_own_is_kept(tmp_path):
    both = training_net(tmp_path, "synthetic-without-neutral")
    both.save(str(tmp_path / "given.caffemodel"))
    chosen = load("synthetic-without-neutral")
    (tmp_path / "deploy.prototxt").write_text(str(nets.deploy(chosen, build.expected(chosen))))
    pretrained.write_fitting(str(tmp_path / "given.caffemodel"), str(tmp_path / "deploy.prototxt"),
                             str(tmp_path / "out.caffemodel"), nets.copied_suffix(chosen))
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "out.caffemodel"))
    np.testing.assert_array_equal(net.params["conv1_neutral"][0].data, both.params["conv1_neutral"][0].data)
    assert (net.params["conv1_neutral"][0].data != net.params["conv1"][0].data).any()


def test_listed_layers_fill_resnet18(tmp_path):
    """All but fc; fc1000 stays behind, and BatchNorm's statistics come along."""
    with open("models/resnet18.txt") as stream:
        listed = [line.split()[0] for line in stream]
    chosen = load("ckplus-ndf")
    (tmp_path / "deploy.prototxt").write_text(str(nets.deploy(chosen, build.expected(chosen))))
    wanted = pretrained.net_shapes(str(tmp_path / "deploy.prototxt"))
    assert sorted(set(listed) - {"fc1000"}) == sorted(set(wanted) - {"fc"})


def test_classifier_begins_as_torchs_linear():
    """Uniform in +-1/sqrt(512), also where it gets a difference of two features."""
    for name in ("ckplus-baseline", "ckplus-ndf", "ckplus-spndl-without-neutral"):
        chosen = load(name)
        fc = next(layer for layer in nets.deploy(chosen, build.expected(chosen)).layer if layer.name == "fc")
        for filler in (fc.inner_product_param.weight_filler, fc.inner_product_param.bias_filler):
            assert (filler.type, filler.min, filler.max) == (
                "uniform", pytest.approx(-0.0441942), pytest.approx(0.0441942))


def test_solver_is_adam_as_printed():
    solver = build.solver(load("ckplus-ndf"), build.expected(load("ckplus-ndf")), "f", "s")
    assert (solver.type, solver.lr_policy) == ("Adam", "fixed")
    assert (solver.base_lr, solver.momentum, solver.momentum2) == tuple(map(pytest.approx, (1e-3, 0.9, 0.999)))
    assert load("oulu_casia-ndf").solver["max_iter"] == 250 * 1440 * 9 // 10 // 128
    assert load("ckplus-ndf").solver["max_iter"] == round(250 * 883 / 128)
    assert load("raf_db-baseline").solver["max_iter"] == round(150 * 12271 / 128)
