"""The nets of [liu2017] in real Caffe: shapes, what each branch learns from, and how a stage goes on from another."""
import dataclasses
import json
import os
import re
import subprocess

import caffe
import numpy as np
import pytest
from caffe import layers as L

from common import experiment
from common.errors import UserError
from prototxt import build, nets
from prototxt.builders import parts
from tests import small_data

VARIANTS = {"1b-n1": (1, "tuplet"), "2b-n1": (2, "tuplet"), "1b-nm": (1, "clusters"), "2b-nm": (2, "clusters")}
SMALL = ("solver.batch_size=3", "solver.max_iter=8", "solver.display=1", "solver.test_interval=4", "solver.snapshot=4")


def load(name, *changes):
    return experiment.load("liu2017/" + name, changes)


def data_of(classes=7):
    return parts.Data("data", classes, {"train": 60, "val": 10}, (1, 48, 48))


def net_of(folder, proto, phase=caffe.TEST):
    (folder / "net.prototxt").write_text(str(proto))
    return caffe.Net(str(folder / "net.prototxt"), phase)


def without_lmdbs(one, classes=7):
    """The training net on blobs to be filled."""
    proto = nets.train_val(one, data_of(classes))
    positives = 2 if "tuplet" in one.losses else one.tuplets.get("positives", 1)
    images = one.solver["batch_size"] * (positives + one.tuplets.get("negatives", 0))
    inputs = caffe.NetSpec()
    inputs.data = L.Input(shape=dict(dim=[images, 1, 48, 48]))
    inputs.label = L.Input(shape=dict(dim=[images]))
    joined = inputs.to_proto()
    joined.layer.extend(layer for layer in proto.layer if "_data" not in layer.name)
    return joined


def filled(net, tuplet):
    net.blobs["data"].data[...] = np.random.RandomState(0).randn(*net.blobs["data"].shape)
    net.blobs["label"].data[...] = -1
    net.blobs["label"].data[::tuplet] = np.arange(len(net.blobs["label"].data[::tuplet])) % 7
    return net


def test_inception_has_the_published_shapes(tmp_path):
    net = net_of(tmp_path, nets.deploy(load("ckplus-2b-nm"), data_of()))
    assert {name: tuple(net.blobs[name].shape[1:]) for name in (
        "conv1", "pool1", "conv2_reduce", "conv2", "pool2", "inception3a", "inception3b", "pool3", "inception4a",
        "pool4", "fc1", "fc2", "classifier_ckplus", "prob")} == {
            "conv1": (64, 24, 24), "pool1": (64, 12, 12), "conv2_reduce": (64, 12, 12), "conv2": (192, 12, 12),
            "pool2": (192, 6, 6), "inception3a": (256, 6, 6), "inception3b": (480, 6, 6), "pool3": (480, 3, 3),
            "inception4a": (512, 3, 3), "pool4": (512, 1, 1), "fc1": (4096,), "fc2": (1024,),
            "classifier_ckplus": (7,), "prob": (7,)}
    types = [layer.type for layer in nets.deploy(load("ckplus-2b-nm"), data_of()).layer]
    # Three convolutions before three modules of six, and two FC layers: each has a PReLU.
    assert types.count("Convolution") == 3 + 3 * 6 and types.count("PReLU") == 3 + 3 * 6 + 2 and "ReLU" not in types


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_deploy_is_the_classification_branch_alone(tmp_path, variant):
    proto = nets.deploy(load("ckplus-" + variant), data_of())
    assert {layer.name for layer in proto.layer} & {"fc3", "fc4", "tuplet_loss", "clusters_loss"} == set()
    assert [str(layer) for layer in proto.layer] == [
        str(layer) for layer in nets.deploy(load("ckplus-1b-n1"), data_of()).layer]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_where_the_loss_of_tuplets_lies(tmp_path, variant):
    branches, loss = VARIANTS[variant]
    one = load("synthetic-" + variant, *SMALL)
    net = filled(net_of(tmp_path, without_lmdbs(one), caffe.TRAIN), 8 if loss == "tuplet" else 12)
    net.forward()
    net.clear_param_diffs()
    net.backward()
    assert ("fc4" in net.blobs) == ("fc3" in net.blobs) == (branches == 2)
    bottom = {1: "fc2", 2: "fc4"}[branches]
    assert [layer.bottom[0] for layer in without_lmdbs(one).layer if layer.name == loss + "_loss"] == [bottom]
    moved = {name for name, blobs in net.params.items() if all(np.abs(blob.diff).sum() > 0 for blob in blobs)}
    assert set(net.params) - moved == set()
    if branches == 2:
        # Eq. (13): FC4 = P1^T FC2 + P2^T FC3, without a bias.
        weights, = net.params["fc4"]
        fc2, fc3 = net.blobs["fc2"].data, net.blobs["fc3"].data
        np.testing.assert_allclose(net.blobs["fc4"].data, fc2 @ weights.data[:, :fc2.shape[1]].T
                                   + fc3 @ weights.data[:, fc2.shape[1]:].T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_softmax_sees_the_queries_alone(tmp_path, variant):
    one = load("synthetic-" + variant, *SMALL)
    tuplet = 8 if VARIANTS[variant][1] == "tuplet" else 12
    net = filled(net_of(tmp_path, without_lmdbs(one), caffe.TRAIN), tuplet)
    net.forward()
    scores = net.blobs["classifier_synthetic"].data[::tuplet].astype(float)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(3), net.blobs["label"].data[::tuplet].astype(int)]
    assert float(net.blobs["softmax_loss"].data) == pytest.approx(losses.mean(), rel=1e-4)


def test_metric_of_the_setting_reaches_the_layer():
    """The printed one is the layer's default and not written, so that definitions stay as they were."""
    def metric(*changes):
        layers = nets.train_val(load("ckplus-2b-nm", *changes), data_of()).layer
        loss, = (layer for layer in layers if layer.name == "clusters_loss")
        return json.loads(loss.python_param.param_str).get("metric")
    assert [metric(), metric("losses.clusters.metric=printed"), metric("losses.clusters.metric=consistent")] == [
        None, None, "consistent"]
    with pytest.raises(UserError, match="metric is 'euclidean', expected one of printed, consistent"):
        load("ckplus-2b-nm", "losses.clusters.metric=euclidean")


def test_both_losses_weigh_the_same():
    for layer in nets.train_val(load("multi_pie-2b-nm"), data_of(4)).layer:
        if layer.name in ("softmax_loss", "clusters_loss"):
            assert list(layer.loss_weight) in ([], [1])


def test_a_step_has_the_papers_images(tmp_path):
    for name, classes, images in (("ckplus-2b-nm", 7, 144), ("sfew-1b-nm", 7, 144), ("mmi-2b-nm", 6, 120),
                                  ("multi_pie-2b-nm", 4, 72)):
        text = str(nets.train_val(load(name), data_of(classes)))
        numbers = [int(re.search(rf'\\"{key}\\": (\d+)', text).group(1)) for key in (
            "batch_size", "positives", "negatives")]
        assert numbers[0] * (numbers[1] + numbers[2]) == images and numbers[2] == classes - 1, name


def test_stages():
    for data in ("ckplus", "mmi", "sfew"):
        for variant in VARIANTS:
            found = experiment.stages(load(f"{data}-{variant}"))
            assert [one.name for one in found] == ["liu2017/fer2013-softmax", "liu2017/multi_pie-" + variant,
                                                   f"liu2017/{data}-{variant}"]
            assert found[1].losses.keys() == found[2].losses.keys() and found[1].head == found[2].head


def test_a_stage_takes_over_by_name_all_but_the_classifier(tmp_path):
    """Also in plain Caffe: no two stages have a layer of one name and other shapes, and none takes the position."""
    def shapes(one, classes):
        net = net_of(tmp_path, nets.learned(one, data_of(classes)))
        return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}
    first, second, third = (shapes(one, classes) for one, classes in zip(
        experiment.stages(load("mmi-2b-nm")), (7, 4, 6)))
    assert set(first) - set(second) == {"classifier_fer2013"}
    assert set(second) - set(first) == {"classifier_multi_pie", "fc3", "relu_fc3", "fc4", "clusters_loss"}
    assert set(third) ^ set(second) == {"classifier_multi_pie", "classifier_mmi"}
    for before, after in ((first, second), (second, third)):
        assert all(before[name] == after[name] for name in set(before) & set(after))
    names = [layer.name for name in ("mmi-2b-nm", "multi_pie-2b-nm", "fer2013-softmax")
             for layer in nets.train_val(load(name), data_of()).layer if layer.name.startswith("train_data")]
    assert len(set(names)) == 3


def test_losses_that_do_not_go_together_are_refused():
    one = load("ckplus-2b-nm")
    for losses in ({"tuplet": {}, "clusters": {}}, {"center": {}}):
        with pytest.raises(UserError, match="expected none or one of tuplet, clusters, fixed_clusters"):
            nets.train_val(dataclasses.replace(one, losses=losses), data_of())


def test_fixed_threshold_is_there_too(tmp_path):
    one = load("synthetic-2b-nm", *SMALL)
    fixed = {"fixed_clusters": {"weight": 1, "threshold": 1.0, "tau": 1.0, "normalization": "batch"}}
    net = filled(net_of(tmp_path, without_lmdbs(dataclasses.replace(one, losses=fixed)), caffe.TRAIN), 12)
    assert float(net.forward()["fixed_clusters_loss"]) >= 0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.with_subjects(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", ["synthetic-" + variant for variant in sorted(VARIANTS)] + ["synthetic-softmax"])
def test_trains_with_plain_caffe(tmp_path, data, name):
    from data_prep import prepared_folder
    prepared = parts.prepared(data, prepared_folder.read_note(data))
    for file, text in build.definitions(load(name, *SMALL), prepared, str(tmp_path), str(tmp_path / "s")).items():
        (tmp_path / file).write_text(text)
    process = subprocess.run(["caffe", "train", "-solver", str(tmp_path / "solver.prototxt")], stderr=subprocess.PIPE,
                             env=dict(os.environ, PYTHONPATH=experiment.ROOT, GLOG_minloglevel="0",
                                      GLOG_logtostderr="1"), encoding="utf-8", cwd=experiment.ROOT)
    assert process.returncode == 0, process.stderr[-2000:]
    losses = [float(value) for value in re.findall(r"softmax_loss = (\S+)", process.stderr)]
    assert len(losses) >= 8 and np.isfinite(losses).all()
    assert len(re.findall(r"Test net output #\d+: accuracy", process.stderr)) == 2
