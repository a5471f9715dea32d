"""The definitions: committed text is what the builders write, and the nets are the paper's."""
import os

import caffe
import pytest
from google.protobuf import text_format

from common import experiment
from prototxt import build
from prototxt.builders import parts
from tests import small_data

NAMES = build.committed_names()


@pytest.mark.parametrize("name", NAMES)
def test_committed_text_is_what_the_builder_writes(name):
    for path, text in build.committed(name).items():
        with open(os.path.join(experiment.ROOT, path)) as stream:
            assert stream.read() == text, f"{path}: run `./fer python -m prototxt.build`"


def test_every_committed_folder_belongs_to_an_experiment():
    folder = os.path.join(experiment.ROOT, "prototxt")
    found = [os.path.relpath(path, folder) for path, _, names in os.walk(folder) if "solver.prototxt" in names]
    assert sorted(found) == NAMES


def parsed(path, message):
    with open(os.path.join(experiment.ROOT, path)) as stream:
        text_format.Merge(stream.read(), message)
    return message


@pytest.mark.parametrize("name", NAMES)
def test_committed_text_is_caffes_and_hangs_together(name):
    """What Caffe's own parser takes; each layer finds its bottoms in each phase."""
    train_val, deploy, solver = (f"prototxt/{name}/{file}" for file in build.FILES)
    assert parsed(solver, caffe.proto.caffe_pb2.SolverParameter()).net == train_val
    for path, phase in ((train_val, caffe.TRAIN), (train_val, caffe.TEST), (deploy, caffe.TEST)):
        known, layers = set(), []
        for layer in parsed(path, parts.NetParameter()).layer:
            if layer.include and layer.include[0].phase != phase:
                continue
            assert set(layer.bottom) <= known, (path, layer.name)
            known |= set(layer.top)
            layers.append(layer.name)
        assert len(set(layers)) == len(layers)


def test_adaptive_weights_have_the_nets_of_fixed_ones():
    adaptive = [name for name in experiment.names() if experiment.load(name).weighting]
    assert {name.split("-")[-1] for name in adaptive if "kappa" not in name} == {"blaw", "alaw"}
    for name in adaptive:
        own, fixed = experiment.load(name), experiment.load(
            name.replace("blaw", "blfw").replace("alaw", "alfw").partition("-kappa")[0])
        assert own._replace(name="", title="", source="", weighting={}) == fixed._replace(
            name="", title="", source=""), name


def test_toy_net_has_the_papers_shapes(tmp_path):
    data = parts.Data("unused", 7, {"train": 10, "val": 10, "test": 10}, (1, 48, 48))
    text = build.definitions(experiment.load("xie2019a/fer2013-toy-softmax"), data, "f", "s")["deploy.prototxt"]
    (tmp_path / "deploy.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    assert {name: tuple(blob.shape) for name, blob in net.blobs.items()} == {
        "data": (1, 1, 48, 48), "conv1": (1, 128, 16, 16), "pool1": (1, 128, 8, 8), "conv2": (1, 512, 5, 5),
        "fc1": (1, 384), "fc2": (1, 7), "prob": (1, 7)}
    assert {name: tuple(blobs[0].shape) for name, blobs in net.params.items()} == {
        "conv1": (128, 1, 3, 3), "relu1": (128,), "conv2": (512, 128, 2, 2), "relu2": (512,),
        "fc1": (384, 12800), "fc2": (7, 384)}


def parameters(name, *changes):
    data = parts.Data("data", 7, {"train": 1000, "val": 90, "test": 10}, (1, 48, 48))
    texts = build.definitions(experiment.load(name, changes), data, "run", "snap")
    net, solver = caffe.proto.caffe_pb2.NetParameter(), caffe.proto.caffe_pb2.SolverParameter()
    text_format.Merge(texts["train_val.prototxt"], net)
    text_format.Merge(texts["solver.prototxt"], solver)
    return {layer.name: layer for layer in net.layer}, solver


def test_losses_are_where_the_paper_has_them():
    layers, _ = parameters("xie2019a/fer2013-toy-center-gabor", "losses.gabor.weight=0.01")
    assert list(layers["gabor_loss"].bottom) == ["conv2", "gabor"]
    assert list(layers["center_loss"].bottom) == ["fc1", "label"]
    assert layers["gabor_loss"].loss_weight[0] == pytest.approx(0.01)
    assert layers["center_loss"].loss_weight[0] == pytest.approx(8e-3)
    assert '"epoch_size": 1000' in layers["gabor_loss"].python_param.param_str
    for name in ("gabor_loss", "train_data"):
        assert (layers[name].param[0].lr_mult, layers[name].param[0].decay_mult) == (0, 0)
    # Clock, centers and handcrafted features are the training net's alone.
    assert {name for name, layer in layers.items() if layer.include and layer.include[0].phase == caffe.TRAIN} == {
        "train_data", "center_loss", "gabor_loss"}
    assert {name for name, layer in layers.items() if layer.include and layer.include[0].phase == caffe.TEST} == {
        "val_data", "accuracy"}


def test_no_definition_has_lmdbs_locks():
    """Caffe's own Data layer takes them, and so cannot read beside another container's; see LmdbDataLayer."""
    for name in build.committed_names():
        text = build.committed(name)[f"prototxt/{name}/train_val.prototxt"]
        assert not {"Data", "ImageData", "HDF5Data"} & {
            layer.type for layer in build.parse(text, caffe.proto.caffe_pb2.NetParameter()).layer}, name


def test_softmax_alone_reads_no_features():
    layers, _ = parameters("xie2019a/fer2013-toy-softmax")
    assert list(layers["train_data"].top) == ["data", "label"]
    assert "center_loss" not in layers


@pytest.mark.parametrize("count, batch, iterations", [(3589, 97, 37), (700, 100, 7), (90, 90, 1), (97, 97, 1),
                                                      (3583, 100, 36), (10, 100, 1)])
def test_validation_is_seen_once_where_it_divides(count, batch, iterations):
    data = parts.Data("data", 7, {"train": 10, "val": count, "test": 10}, (1, 48, 48))
    chosen = experiment.load("xie2019a/fer2013-toy-softmax")
    assert parts.test_batch(count) == batch
    assert list(build.solver(chosen, data, "run", "snap").test_iter) == [iterations]


def test_solver_has_the_papers_settings():
    _, solver = parameters("xie2019a/fer2013-toy-softmax")
    assert (solver.base_lr, solver.momentum) == (pytest.approx(5e-3), pytest.approx(0.8))
    assert solver.net == "run/train_val.prototxt" and solver.snapshot_prefix == "snap"


def test_committed_definition_trains_as_it_stands(tmp_path):
    """Plain `caffe train` from a root where the data are prepared, with the Python layers."""
    import shutil
    import subprocess
    name = "xie2019a/fer2013-toy-center-gabor"
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    shutil.copytree(os.path.join(experiment.ROOT, "prototxt", name), str(tmp_path / "prototxt" / name))
    os.rename(small_data.prepared(tmp_path), str(tmp_path / "data" / "fer2013"))
    solver = tmp_path / "prototxt" / name / "solver.prototxt"
    text = solver.read_text()
    assert "max_iter: 30000\n" in text
    solver.write_text(text.replace("max_iter: 30000\n", "max_iter: 3\n"))
    process = subprocess.run(["caffe", "train", "-solver", "prototxt/" + name + "/solver.prototxt"],
                             cwd=str(tmp_path), stderr=subprocess.PIPE, encoding="utf-8",
                             env=dict(os.environ, PYTHONPATH=experiment.ROOT, GLOG_logtostderr="1",
                                      GLOG_minloglevel="0"))
    assert process.returncode == 0, process.stderr[-2000:]
    assert "Train net output #1: gabor_loss" in process.stderr
    assert (tmp_path / "models" / "xie2019a-fer2013-toy-center-gabor_iter_3.caffemodel").exists()
