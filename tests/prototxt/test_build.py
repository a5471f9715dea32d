"""The definitions: committed text is what the builders write, and the nets are the paper's."""
import dataclasses
import json
import os

import caffe
import hypothesis
import pytest
from google.protobuf import text_format
from hypothesis import strategies

from common import experiment, files
from common.errors import UserError
from prototxt import build, nets
from prototxt.builders import parts
from tests import small_data

NAMES = build.committed_names()
PAPERS = sorted({name.partition("/")[0] for name in NAMES})


@pytest.fixture(scope="module")
def committed():
    return build.all_committed()


def read(path):
    with open(os.path.join(experiment.ROOT, path), encoding="utf-8") as stream:
        return stream.read()


def test_committed_text_is_what_the_builder_writes(committed):
    folder = os.path.join(experiment.ROOT, "prototxt")
    there = [os.path.relpath(os.path.join(inner, name), experiment.ROOT)
             for inner, _, names in os.walk(folder) for name in names if name.endswith(".prototxt")]
    assert sorted(there) == sorted(committed), "run `./fer python -m prototxt.build`"
    different = [path for path, text in committed.items() if read(path) != text]
    assert not different, "run `./fer python -m prototxt.build`"


def test_every_experiment_has_a_deploy_net_and_what_trains_in_one_go_a_solver(committed):
    assert {path for path in committed if not path.split("/")[2] == "deploy"} == {
        f"prototxt/{name}/{file}.prototxt" for name in NAMES for file in ("train_val", "solver")}
    listed = []
    for path in committed:
        if path.split("/")[2] == "deploy":
            _, *comment = [line for line in read(path).splitlines() if line.startswith("#")]
            names = " ".join(line.lstrip("# ") for line in comment)
            assert names.startswith("For: ")
            listed += [path.split("/")[1] + "/" + name for name in names[len("For: "):].split(", ")]
    assert sorted(listed) == experiment.names()


@pytest.mark.parametrize("paper", PAPERS)
def test_each_deploy_net_is_there_once(committed, paper):
    """And is its experiments', but for its name."""
    bodies = {}
    for path in committed:
        if path.startswith(f"prototxt/{paper}/deploy/"):
            net = parsed(path, parts.NetParameter())
            assert path == f"prototxt/{paper}/deploy/{net.name}.prototxt"
            net.name = ""
            bodies[path] = net.SerializeToString(deterministic=True)
    assert len(set(bodies.values())) == len(bodies) > 0


def test_deploy_net_is_the_experiments():
    chosen = experiment.load("xie2019b/fer2013-toy-dropout")
    net = parsed("prototxt/xie2019b/deploy/toy-fc1_512-dropout_0.5-7.prototxt", parts.NetParameter())
    expected = nets.deploy(chosen, build.expected(chosen))
    expected.name = "toy-fc1_512-dropout_0.5-7"
    assert net == expected


def test_two_deploy_nets_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(build, "names", lambda: ["wu2023/synthetic-baseline", "wu2023/synthetic-ndf"])
    assert len(build.committed_deploys()) == 2
    monkeypatch.setattr(nets, "deploy_name", lambda *_: "toy")
    with pytest.raises(UserError, match="prototxt/wu2023/deploy/toy.prototxt: the deploy nets of "
                       "wu2023/synthetic-baseline and wu2023/synthetic-ndf differ"):
        build.committed_deploys()


@pytest.fixture
def root(tmp_path):
    """With the folder of an earlier call of `write`, and files that somebody else has put there."""
    files.claim(str(tmp_path / "prototxt"), "prototxt")
    for name in ("a/old", "a/deploy"):
        (tmp_path / "prototxt" / name).mkdir(parents=True)
    header = "# Generated from experiments/a/old.yml by ./fer python -m prototxt.build; do not edit.\n"
    for name in ("a/old/solver.prototxt", "a/old/train_val.prototxt", "a/deploy/old.prototxt"):
        (tmp_path / "prototxt" / name).write_text(header)
    (tmp_path / "prototxt/a/deploy/mine.prototxt").write_text("# Mine\n" + header)
    (tmp_path / "prototxt/a/notes.txt").write_text(header)
    return tmp_path


def tree(root):
    return sorted(str(path.relative_to(root / "prototxt")) for path in (root / "prototxt").glob("*/**/*"))


def test_stale_files_go_and_those_of_others_stay(root):
    texts = {"prototxt/b/new/solver.prototxt": "# Generated from experiments/b/new.yml\n"}
    build.write(str(root), texts)
    assert tree(root) == ["a/deploy", "a/deploy/mine.prototxt", "a/notes.txt", "b/new", "b/new/solver.prototxt"]
    assert (root / "prototxt/b/new/solver.prototxt").read_text() == texts["prototxt/b/new/solver.prototxt"]


def test_generated_files_are_replaced(root):
    text = "# Generated from experiments/a/old.yml\nmax_iter: 1\n"
    build.write(str(root), {"prototxt/a/old/solver.prototxt": text})
    assert (root / "prototxt/a/old/solver.prototxt").read_text() == text


def test_file_that_was_not_generated_is_not_replaced(root):
    before = tree(root)
    with pytest.raises(UserError, match="prototxt/a/deploy/mine.prototxt: exists and is not a generated"):
        build.write(str(root), {"prototxt/b/new.prototxt": "", "prototxt/a/deploy/mine.prototxt": ""})
    assert tree(root) == before


NET = """\
name: "small"
layer {
  name: "images"
  type: "Input"
  top: "data"
  input_param {
    shape {
      dim: [1, 3, 48, 40]
    }
  }
}
layer {
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  param {
    lr_mult: 1
    decay_mult: 100
  }
  param {
    lr_mult: 0.1
    decay_mult: 0
  }
  convolution_param {
    num_output: 64
    bias_term: false
    pad: 3
    kernel_size: [7, 5]
    weight_filler {
      type: "gaussian"
      std: 1e-05
    }
  }
}
layer {
  name: "loss"
  type: "Python"
  bottom: "conv1"
  bottom: "data"
  top: "loss"
  loss_weight: 0.008
  include {
    phase: TRAIN
  }
  python_param {
    module: "layers.loss"
    layer: "Loss"
    param_str: '{"name": "loss", "path": "C:\\\\\\\\x"}'
  }
}
"""
SOLVER = """\
net: "it\\'s \\"here\\"/\\303\\251.prototxt"
test_iter: 37
test_initialization: false
base_lr: 0.005
lr_policy: "multistep"
gamma: 0.33333334
weight_decay: 0.0001
stepvalue: [1000, 2000]
solver_mode: CPU
momentum2: 0.999
"""


def test_a_net_is_written_as_caffes_own():
    """One setting a line, in caffe.proto's order; several numbers of one setting share it."""
    net = parts.NetParameter(name="small")
    net.layer.add(name="images", type="Input", top=["data"]).input_param.shape.add(dim=[1, 3, 48, 40])
    convolution = net.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"])
    convolution.param.add(lr_mult=1, decay_mult=100)
    convolution.param.add(lr_mult=0.1, decay_mult=0)
    settings = convolution.convolution_param
    settings.num_output, settings.bias_term, settings.weight_filler.std = 64, False, 1e-5
    settings.weight_filler.type = "gaussian"
    settings.pad.append(3)
    settings.kernel_size.extend([7, 5])
    loss = net.layer.add(name="loss", type="Python", bottom=["conv1", "data"], top=["loss"], loss_weight=[8e-3])
    loss.include.add(phase=caffe.TRAIN)
    loss.python_param.module, loss.python_param.layer = "layers.loss", "Loss"
    loss.python_param.param_str = json.dumps({"name": "loss", "path": "C:\\x"})
    assert build.text(net) == NET
    assert build.parse(NET, parts.NetParameter()) == net


def test_a_solver_is_written_as_caffes_own():
    solver = caffe.proto.caffe_pb2.SolverParameter(
        net="it's \"here\"/\u00e9.prototxt", momentum2=0.999, base_lr=0.005, gamma=1 / 3, weight_decay=1e-4,
        test_iter=[37], lr_policy="multistep", stepvalue=[1000, 2000], test_initialization=False,
        solver_mode=caffe.proto.caffe_pb2.SolverParameter.CPU)
    assert build.text(solver) == SOLVER
    assert build.parse(SOLVER, caffe.proto.caffe_pb2.SolverParameter()) == solver


@hypothesis.given(strategies.floats(width=32, allow_nan=False))
def test_floats_are_read_as_those_of_eight_digits(value):
    """As text_format writes them with eight digits, by which the nets of earlier runs were written."""
    solver = caffe.proto.caffe_pb2.SolverParameter(base_lr=value)
    eight = text_format.MessageToString(solver, float_format=".8g")
    text = build.text(solver)
    assert len(text) <= len(eight)
    assert build.parse(text, caffe.proto.caffe_pb2.SolverParameter()) == build.parse(
        eight, caffe.proto.caffe_pb2.SolverParameter())


@hypothesis.given(strategies.text(strategies.characters(blacklist_categories=["Cs"])))
def test_strings_are_read_as_they_were(value):
    net = parts.NetParameter(name=value)
    assert build.parse(build.text(net), parts.NetParameter()) == net


@pytest.mark.parametrize("path", ("xie2019b/deploy/toy-fc1_512-dropout_0.5-7", "wu2023/deploy/resnet_small-6",
                                  "liu2017/deploy/inception_narrow-fc1_512-fc2_128-synthetic-7"))
def test_caffe_reads_a_committed_deploy_net(path):
    net = caffe.Net(os.path.join(experiment.ROOT, "prototxt", path + ".prototxt"), caffe.TEST)
    assert net.blobs["prob"].data.shape == (1, int(path[-1]))


def test_files_of_a_run_say_where_they_are_from():
    data = parts.Data("unused", 7, {"train": 10, "val": 10, "test": 10}, (1, 48, 48))
    for text in build.definitions(experiment.load("xie2019a/fer2013-toy-softmax"), data, "f", "s").values():
        assert text.startswith("# Generated from the experiment xie2019a/fer2013-toy-softmax and the settings in the "
                               "run's run.json; do not edit.\n")


def parsed(path, message):
    return build.parse(read(path), message)


def hangs_together(path, phase):
    """Each layer finds its bottoms, and no two have one name."""
    tops, layers = set(), []
    for layer in parsed(path, parts.NetParameter()).layer:
        if layer.include and layer.include[0].phase != phase:
            continue
        assert set(layer.bottom) <= tops, (path, layer.name)
        tops |= set(layer.top)
        layers.append(layer.name)
    return len(set(layers)) == len(layers) > 0


@pytest.mark.parametrize("name", NAMES)
def test_committed_definitions_hang_together(name):
    train_val, solver = (f"prototxt/{name}/{file}.prototxt" for file in ("train_val", "solver"))
    assert parsed(solver, caffe.proto.caffe_pb2.SolverParameter()).net == train_val
    assert hangs_together(train_val, caffe.TRAIN)
    # A net without a validation split has nothing for the TEST phase but what serves both.
    if parsed(solver, caffe.proto.caffe_pb2.SolverParameter()).test_iter:
        assert hangs_together(train_val, caffe.TEST)


def test_committed_deploy_nets_hang_together(committed):
    assert all(hangs_together(path, caffe.TEST) for path in committed if path.split("/")[2] == "deploy")


def test_adaptive_weights_have_the_nets_of_fixed_ones():
    adaptive = [name for name in experiment.names() if experiment.load(name).weighting]
    assert {name.split("-")[-1] for name in adaptive if "kappa" not in name} == {"blaw", "alaw"}
    for name in adaptive:
        own, fixed = experiment.load(name), experiment.load(
            name.replace("blaw", "blfw").replace("alaw", "alfw").partition("-kappa")[0])
        assert dataclasses.replace(own, name="", title="", source="", weighting={}) == dataclasses.replace(
            fixed, name="", title="", source=""), name


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
    for name in NAMES:
        net = parsed(f"prototxt/{name}/train_val.prototxt", parts.NetParameter())
        assert not {"Data", "ImageData", "HDF5Data"} & {layer.type for layer in net.layer}, name


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
