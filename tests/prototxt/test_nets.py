"""Nets in real Caffe: the heads' shapes, what each loss is imposed on, normalisation, and training on small data."""
import dataclasses
import os
import re
import subprocess

import caffe
import cv2
import numpy as np
import pytest
from caffe import layers as L

from common import experiment
from common.errors import UserError
from data_prep import prepare, prepared_folder
from data_prep.datasets.synthetic import draw_face
from prototxt import build, nets
from prototxt.builders import backbones, parts
from tests import numeric, small_data
from tests.paper_nets import fill, net_of, shapes, without_lmdbs
from tools.training import pretrained, run
from tools.training.caffe_process import Engine

TOYS = [name for name in experiment.names() if name.startswith("xie2019a/fer2013-toy")]


def load(name, *changes):
    return experiment.load("xie2019a/" + name, changes)


def test_fc_layers_of_the_face_resnet_have_the_papers_size(tmp_path):
    """II-E: T_fc is about 8.7e6."""
    alfw = load("fer2013-alfw")
    net = net_of(tmp_path, nets.deploy(alfw, build.expected(alfw)))
    weights = {name: tuple(net.params[name][0].shape) for name in ("fc1", "fc2")}
    assert weights == {"fc1": (678, 12800), "fc2": (7, 678)}
    assert sum(np.prod(shape) for shape in weights.values()) == 12800 * 678 + 678 * 7 == 8683146


# Training nets of the face ResNet: experiment, classes, blobs after z.
HEADS = [
    ("fer2013-softmax", 7, {"fc1": 384, "fc2": 7}),
    ("fer2013-center-norm-gabor-gsf", 7, {"fc1": 384, "normalized": 384, "fc2": 7}),
    ("fer2013-sift", 7, {"fc1": 294, "fc2": 7}),
    ("ckplus-alfw", 7, {"fc1": 678, "normalized": 678, "x_gsf": 384, "x_sift": 294, "fc2": 7}),
    ("mmi-alfw", 6, {"fc1": 565, "normalized": 565, "x_gsf": 320, "x_sift": 245, "fc2": 6}),
    ("oulu_casia-blfw", 6, {"fc1_gsf": 320, "normalized_gsf": 320, "fc2_gsf": 6,
                            "fc1_sift": 245, "normalized_sift": 245, "fc2_sift": 6})]


@pytest.mark.parametrize("name, classes, widths", HEADS)
def test_training_net_of_the_face_resnet(tmp_path, name, classes, widths):
    chosen = load(name)
    net = net_of(tmp_path, without_lmdbs(chosen, classes, batch=1), caffe.TRAIN)
    found = shapes(net)
    assert found["res5_6"] == (1, 512, 5, 5)
    after = {blob: shape[1] for blob, shape in found.items() if len(shape) == 2 and shape[0] == 1
             and blob not in ("gabor", "gsf", "sift")}
    assert after == widths
    fill(net)
    losses = {blob: float(value) for blob, value in net.forward().items()}
    assert {blob.split("_")[0] for blob in losses} == {"softmax"} | set(chosen.losses)
    assert np.isfinite(list(losses.values())).all()
    net.backward()
    assert np.abs(net.params["conv1_9x9"][0].diff).sum() > 0


@pytest.mark.parametrize("name, imposed", [
    ("fer2013-center-norm-gabor-gsf", {"center_loss": "normalized", "gabor_loss": "res5_6", "gsf_loss": "normalized"}),
    ("fer2013-gsf", {"gsf_loss": "fc1"}),
    ("fer2013-alfw", {"center_loss": "normalized", "gsf_loss": "x_gsf", "sift_loss": "x_sift"}),
    ("fer2013-blfw", {"center_loss_gsf": "normalized_gsf", "gsf_loss": "normalized_gsf",
                      "center_loss_sift": "normalized_sift", "sift_loss": "normalized_sift"}),
    ("fer2013-toy-center-gabor", {"center_loss": "fc1", "gabor_loss": "conv2"})])
def test_losses_are_imposed_on_the_papers_blobs(name, imposed):
    chosen = load(name)
    layers = {layer.name: layer for layer in nets.train_val(chosen, build.expected(chosen)).layer}
    assert {layer: layers[layer].bottom[0] for layer in layers
            if layer.endswith("_loss") and layer != "softmax_loss" or layer.startswith("center_loss")} == imposed
    for layer in imposed:
        feature = layer.split("_")[0]
        assert layers[layer].bottom[1] == ("label" if feature == "center" else feature)
        assert layers[layer].loss_weight[0] == pytest.approx(chosen.losses[feature]["weight"])


def test_blocks_are_gsf_and_then_sift_whatever_the_order_in_the_file(tmp_path):
    chosen = load("fer2013-toy-alfw")
    turned = dataclasses.replace(chosen, losses=dict(reversed(list(chosen.losses.items()))))
    net = net_of(tmp_path, without_lmdbs(turned, 7, batch=2), caffe.TRAIN)
    fill(net)
    net.forward()
    np.testing.assert_array_equal(net.blobs["x_gsf"].data, net.blobs["normalized"].data[:, :384])
    np.testing.assert_array_equal(net.blobs["x_sift"].data, net.blobs["normalized"].data[:, 384:])


def test_branches_probabilities_are_averaged(tmp_path):
    chosen = load("fer2013-toy-blfw")
    net = net_of(tmp_path, nets.deploy(chosen, build.expected(chosen)))
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    probabilities = net.forward()["prob"]
    branches = [net.blobs["prob_gsf"].data, net.blobs["prob_sift"].data]
    np.testing.assert_allclose(probabilities, (branches[0] + branches[1]) / 2, rtol=1e-6)
    assert np.abs(branches[0] - branches[1]).max() > 1e-4
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("normalize, top", [("fixed", "normalized"), ("learned", "scaled")])
def test_normalisation(tmp_path, normalize, top):
    """x = scale FC1 / |FC1|, its gradient by finite differences, and 0 for a zero vector."""
    chosen = load("fer2013-toy-center-norm-gsf", "head.normalize=" + normalize, "head.scale=5")
    proto = nets.deploy(chosen, build.expected(chosen))
    proto.force_backward = True
    net = net_of(tmp_path, proto, caffe.TRAIN)
    random = np.random.RandomState(1)
    net.blobs["data"].reshape(3, 1, 48, 48)
    net.reshape()
    x, weights = random.randn(3, 384), random.randn(3, 384)
    x[1] = 0
    x[2] *= 1e-3
    split = next(name for name in net._layer_names if name.startswith("fc1_fc1_0_split"))
    net.blobs["fc1"].data[...] = x
    net.forward(start=split, end=top)
    expected = np.divide(5 * x, np.linalg.norm(x, axis=1, keepdims=True), out=np.zeros_like(x), where=x != 0)
    np.testing.assert_allclose(net.blobs[top].data, expected, rtol=1e-5)
    net.blobs[top].diff[...] = weights
    net.backward(start=top, end=split)
    for row in (0, 2):
        gradient = numeric.gradient(
            lambda moved, to=weights[row]: 5 * np.vdot(to, moved) / np.linalg.norm(moved),
            x[row], step=1e-6 * np.abs(x[row]).max())
        np.testing.assert_allclose(net.blobs["fc1"].diff[row], gradient, rtol=1e-3, atol=1e-5 * np.abs(gradient).max())
    assert np.isfinite(net.blobs["fc1"].diff).all()
    if normalize == "learned":
        assert float(net.params["scaled"][0].data) == 5
        assert float(net.params["scaled"][0].diff) == pytest.approx((weights * expected / 5).sum(), rel=1e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = small_data.prepared(tmp_path_factory.mktemp("data"), features=("gabor", "gsf", "sift"))
    return parts.prepared(root, prepared_folder.read_note(root))


@pytest.mark.parametrize("changes", [[], ["head.class_weights=inverse"]])
@pytest.mark.parametrize("name", TOYS)
def test_toy_trains_on_small_data(tmp_path, data, name, changes):
    chosen = experiment.load(name, ["solver.batch_size=8", "solver.base_lr=1e-3", "solver.test_interval=2"] + changes)
    texts = build.definitions(chosen.one_training(gsf=1.2), data, str(tmp_path), str(tmp_path / "snapshot"))
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    fc1 = next(layer for layer in solver.net.params if layer.startswith("fc1"))
    before = solver.net.params[fc1][0].data.copy()
    solver.step(3)
    assert (solver.net.params[fc1][0].data != before).any()
    outputs = {blob: float(solver.net.blobs[blob].data) for blob in solver.net.outputs}
    assert {blob.split("_")[0] for blob in outputs} == {"softmax"} | set(chosen.losses)
    assert np.isfinite(list(outputs.values())).all()
    tested = solver.test_nets[0].forward()
    assert 0 <= float(tested["accuracy"]) <= 1 and not any("center" in blob for blob in tested)
    # Its weights fit the net that predicts.
    solver.net.save(str(tmp_path / "weights.caffemodel"))
    deploy = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "weights.caffemodel"))
    assert deploy.blobs["prob"].shape[1] == 7
    np.testing.assert_array_equal(deploy.params[fc1][0].data, solver.net.params[fc1][0].data)


def test_class_weights_are_of_the_prepared_training_part(data):
    chosen = load("fer2013-toy-alfw", "head.class_weights=inverse")
    assert len(data.class_counts) == 7 and sum(data.class_counts) == 24
    layers = {layer.name: layer for layer in nets.train_val(chosen, data).layer}
    assert f'"counts": {list(data.class_counts)}' in layers["class_weights"].python_param.param_str
    assert list(layers["softmax_loss"].bottom) == ["fc2", "label", "class_weights"]
    assert os.path.isdir(data.lmdb("train", "gsf"))


def test_balanced_class_weights_keep_the_scale_of_the_loss(data):
    counts = (10, 40, 50)
    one = parts.Data("data", 3, {"train": 100, "val": 10}, (1, 48, 48), counts)
    loss = {kind: next(layer for layer in nets.train_val(load(
        "fer2013-toy-softmax", "head.class_weights=" + kind), one).layer if layer.name == "softmax_loss")
        for kind in ("none", "inverse", "balanced")}
    assert [loss[kind].type for kind in loss] == ["SoftmaxWithLoss", "InfogainLoss", "InfogainLoss"]
    assert list(loss["inverse"].loss_weight) == [1]
    # Eq. (13) by hand: 20/29, 5/29, 4/29, so each class has 200/29 of 100 images' weight, and the mean is 6/29.
    assert loss["balanced"].loss_weight[0] == pytest.approx(29 / 6)


def test_adaptive_weights_need_a_choice(data):
    alaw = load("fer2013-toy-alaw")
    with pytest.raises(UserError, match="xie2019a/fer2013-toy-alaw: consists of several trainings"):
        build.definitions(alaw, data, "run", "snapshot")
    layers = {layer.name: layer for layer in nets.train_val(alaw.one_training(gsf=1.25, sift=0.75), data).layer}
    assert layers["gsf_loss"].loss_weight[0] == pytest.approx(1.25e-6)
    assert layers["sift_loss"].loss_weight[0] == pytest.approx(0.75e-6)
    assert layers["center_loss"].loss_weight[0] == pytest.approx(8e-3)


def test_class_weights_without_counts_are_refused(data):
    with pytest.raises(UserError, match="class weights need the training samples of each of 7 classes, not of 0"):
        nets.train_val(load("fer2013-softmax"), dataclasses.replace(data, class_counts=()))


IDENTITIES = 6


@pytest.fixture(scope="module")
def face_model(tmp_path_factory):
    """A caffemodel with the layers of face_model.caffemodel, trained for a moment on who the synthetic faces are."""
    folder = tmp_path_factory.mktemp("face_model")
    faces = [(draw_face(subject, expression, 4)[0], subject) for subject in range(IDENTITIES) for expression in (0, 3)]
    proto = backbones.alone("face_base")
    proto.layer[0].input_param.shape[0].dim[0] = len(faces)
    head = caffe.NetSpec()
    head.fc5, head.label = L.Input(ntop=2, shape=[dict(dim=[len(faces), 512]), dict(dim=[len(faces)])])
    head.identity = backbones.inner_product(head.fc5, IDENTITIES)
    head.loss = L.SoftmaxWithLoss(head.identity, head.label)
    inputs, *rest = head.to_proto().layer
    proto.layer.add(name="label", type="Input", top=["label"]).input_param.shape.add().CopyFrom(
        inputs.input_param.shape[1])
    proto.layer.extend(rest)
    (folder / "net.prototxt").write_text(str(proto))
    (folder / "solver.prototxt").write_text(
        'net: "{}" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 random_seed: 1'.format(folder / "net.prototxt"))
    solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
    for row, (image, subject) in enumerate(faces):
        pixels = cv2.resize(image, (96, 112), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
        solver.net.blobs["data"].data[row] = (pixels - 127.5) / 128
        solver.net.blobs["label"].data[row] = subject
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    solver.step(7)
    assert float(solver.net.blobs["loss"].data) < first
    solver.net.save(str(folder / "face_model.caffemodel"))
    return str(folder / "face_model.caffemodel")


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Ten crops of 227x227 of a few images, with GSF and SIFT."""
    folder = tmp_path_factory.mktemp("crops")
    source = small_data.write_csv(folder / "fer2013.csv", small_data.rows((14, 7, 7)))
    prepare.prepare(prepare.Settings("fer2013", source, "xie2019a", features=["gsf", "sift"]), str(folder / "data"), 1)
    return str(folder / "data")


@pytest.mark.slow
def test_face_resnet_trains_from_the_face_model_with_plain_caffe(tmp_path, crops, face_model):
    chosen = load("fer2013-blfw", "solver.batch_size=2", "solver.max_iter=2", "solver.display=1")
    data = parts.prepared(crops, prepared_folder.read_note(crops))
    for file, text in build.definitions(chosen, data, str(tmp_path), str(tmp_path / "w")).items():
        (tmp_path / file).write_text(text)
    process = subprocess.run(
        ["caffe", "train", "-solver", str(tmp_path / "solver.prototxt"), "-weights", face_model],
        stderr=subprocess.PIPE, encoding="utf-8",
        env=dict(os.environ, PYTHONPATH=experiment.ROOT, GLOG_logtostderr="1", GLOG_minloglevel="0"))
    assert process.returncode == 0, process.stderr[-2000:]
    assert "Ignoring source layer fc5" in process.stderr and "Ignoring source layer conv1b" not in process.stderr
    trained = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "w_iter_2.caffemodel"))
    assert_fine_tuned(trained, face_model)


def assert_fine_tuned(trained, face_model):
    """Near the weights that it began with, and not equal to them."""
    start = next(layer for layer in pretrained.read(face_model).layer if layer.name == "conv5_1").blobs[0].data
    copied, start = trained.params["conv5_1"][0].data.ravel(), np.array(start, np.float32)
    assert 0 < np.abs(copied - start).max() < 0.01 < np.abs(start).max()


@pytest.mark.slow
def test_face_resnet_trains_from_the_face_model_with_adaptive_weights(tmp_path, crops, face_model, capfd):
    """`./fer train --weights`: it says what is copied, and the first round's trainings all begin there."""
    chosen = load("fer2013-alaw", "solver.batch_size=2", "weighting.rounds=1", "weighting.restart_iterations=2")
    trained = run.train(chosen, crops, str(tmp_path / "run"), face_model, Engine(1), processes=2)
    printed = capfd.readouterr().out
    assert "copied 53: relu1a, conv1b," in printed and "start fresh 3: conv1_9x9, fc1, fc2" in printed
    assert re.search(r"left out \d+: .*conv1a.*fc5, identity", printed)
    for deploy, model in ((trained.path("deploy.prototxt"), trained.caffemodel()),
                          (trained.path("trials", "sift.prototxt"), trained.path("trials", "sift.caffemodel"))):
        assert_fine_tuned(caffe.Net(deploy, caffe.TEST, weights=model), face_model)
