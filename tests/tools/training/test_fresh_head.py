"""Fine-tuning to other classes: which layers start afresh, that the others do not, and who says so."""
import os

import caffe
import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from tests.tools import small_pairs
from tests.tools.conftest import SMALL
from tools.cli import main
from tools.evaluation import evaluate
from tools.report import commands
from tools.report.entries import Entry
from tools.training import pretrained, run
from tools.training.caffe_process import Engine
from tools.training.schedules import self_paced

STILL = [*(change for change in SMALL if "gabor" not in change), "solver.max_iter=4", "solver.base_lr=0",
         "head.fc1=128"]
# fc1 does not fit; fc2 has another name here, with the number of classes.
COPIED, OTHER = ("conv1", "relu1", "conv2", "relu2"), ("fc1", "fc2_7")


@pytest.fixture(scope="module")
def still():
    """Another head than that of the trained run, whose fc1 has 384 outputs; its weights stay those of the start."""
    return experiment.load("xie2019b/fer2013-toy-softmax", STILL)


def weights(path):
    return {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in pretrained.read(path).layer
            if layer.blobs}


def test_layers_that_do_not_fit_start_afresh_and_are_named(tmp_path, data, still, trained, capsys):
    fresh = run.train(still, data, str(tmp_path / "random"), None, Engine(1))
    tuned = run.train(still, data, str(tmp_path / "tuned"), trained.weights_of(8), Engine(1), fresh_head=True)
    said = capsys.readouterr().out.splitlines()
    assert "start fresh 2: fc2_7, fc1" in said and "copied 4: conv1, relu1, conv2, relu2" in said
    assert "does not fit: layer fc1 has blobs ((384, 12800), (384,)), the net ((128, 12800), (128,))" in said
    source, random, ended = (weights(path) for path in (
        trained.weights_of(8), fresh.caffemodel(), tuned.caffemodel()))
    for name, expected in [(name, source) for name in COPIED] + [(name, random) for name in OTHER]:
        for here, there in zip(ended[name], expected[name]):
            np.testing.assert_array_equal(here, there)
    assert np.abs(source["conv1"][0] - random["conv1"][0]).max() > 0
    assert tuned.info["fresh_head"] == ["fc1"]
    assert tuned.info["weights_from"] == {
        "path": trained.weights_of(8), "experiment": trained.experiment.name, "iteration": 8}
    assert tuned.info["weights"] == files.digest(trained.weights_of(8))


def test_without_the_option_they_are_refused_with_a_hint(tmp_path, data, still, trained, capsys):
    with pytest.raises(UserError) as error:
        run.train(still, data, str(tmp_path / "run"), trained.caffemodel(), Engine(1))
    assert str(error.value) == (
        f"{trained.caffemodel()}: layer fc1 has blobs ((384, 12800), (384,)), the net ((128, 12800), (128,)); with "
        "--fresh-head such layers start afresh")
    assert os.listdir(str(tmp_path)) == []
    assert main.main(["train", still.name, "--data", data, "--out", str(tmp_path / "run"), "--fresh-head"]) == 1
    assert capsys.readouterr().err == "fer: --fresh-head needs --weights\n"


def test_weights_that_fit_are_taken_as_a_whole(tmp_path, data, small, trained, capsys):
    given = run.train(small, data, str(tmp_path / "run"), trained.caffemodel(), Engine(1), fresh_head=True)
    assert "start fresh 0: none" in capsys.readouterr().out and given.info["fresh_head"] == []
    without = run.train(small, data, str(tmp_path / "without"), trained.caffemodel(), Engine(1))
    assert "fresh_head" not in without.info
    assert files.digest(given.caffemodel()) == files.digest(without.caffemodel())


def model(path, shapes):
    net = caffe.proto.caffe_pb2.NetParameter(name="net")
    for name, shape in shapes.items():
        blob = net.layer.add(name=name, type="InnerProduct").blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend([0.5] * int(np.prod(shape)))
    path.write_bytes(net.SerializeToString())
    return str(path)


def net_of(path, outputs):
    """A net of fully connected layers side by side. outputs: name -> number of outputs of 3 inputs."""
    lines = ['layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }']
    lines += [f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" inner_product_param {{ '
              f'num_output: {count} bias_term: false }} }}' for name, count in outputs.items()]
    path.write_text("\n".join(lines))
    return str(path)


def test_where_nothing_fits_nothing_can_be_begun_with(tmp_path):
    net = net_of(tmp_path / "net.prototxt", {"a": 4, "b": 5})
    for fresh_head in (False, True):
        with pytest.raises(UserError) as error:
            pretrained.write_fitting(model(tmp_path / "w", {"a": (7, 3), "c": (2,)}), net, str(tmp_path / "out"),
                                     fresh_head=fresh_head)
        assert str(error.value) == f"{tmp_path}/w: no layer has the shapes of the net's; it has a, c, the net a, b"
    assert not (tmp_path / "out").exists()


def test_long_lists_of_layers_are_cut(tmp_path):
    names = [f"fc{number}" for number in range(1, 9)]
    net = net_of(tmp_path / "net.prototxt", dict.fromkeys(["same", *names], 4))
    with pytest.raises(UserError) as error:
        pretrained.write_fitting(model(tmp_path / "w", {"same": (4, 3), **dict.fromkeys(names, (7, 3))}), net,
                                 str(tmp_path / "out"))
    assert str(error.value).count("has blobs ((7, 3),), the net ((4, 3),)") == 5
    assert str(error.value).endswith("; and 3 more layers; with --fresh-head such layers start afresh")
    with pytest.raises(UserError) as error:
        pretrained.write_fitting(model(tmp_path / "w", dict.fromkeys("xyz", (1,))), net, str(tmp_path / "out"))
    assert str(error.value).endswith(
        "no layer matches the net's; it has x, y, z, the net fc1, fc2, fc3, fc4, fc5 and 4 more")


def test_the_command_line_names_a_snapshot_of_a_run(tmp_path, data, still, trained, capsys):
    out = str(tmp_path / "run")
    words = ["train", still.name, "--data", data, "--out", out, "--threads", "1", "--set", *STILL, "--weights"]
    assert main.main([*words, trained.folder + "@5", "--fresh-head"]) == 1
    assert f"{trained.folder}: no snapshot of iteration 5; it has 4, 8, 12" in capsys.readouterr().err
    assert not os.path.exists(out)
    assert main.main([*words, trained.folder + "@4", "--fresh-head"]) == 0
    tuned = run.Run(out)
    assert tuned.info["weights"] == files.digest(trained.weights_of(4)) and tuned.info["weights_from"]["iteration"] == 4
    # The same command has nothing to do, and what it noted stays, also where --fresh-head is not said again.
    before = tuned.info
    assert main.main([*words, trained.folder + "@4"]) == 0
    assert run.Run(out).info == before
    assert "--fresh-head" in commands.again(Entry(tuned, "t")).commands[1]
    # It has a result, which is that of other weights than the paper's.
    metrics = evaluate.evaluate(tuned, "test")
    assert metrics["total"] == 12


def test_self_paced_learning_ranks_by_a_net_whose_head_is_fresh(tmp_path, monkeypatch):
    """The selection before the first pace needs all layers. The head is that of a run with random weights."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    three = small_pairs.prepared(tmp_path / "a")
    monkeypatch.setattr(small_pairs, "CLASSES", 2)
    two = small_pairs.prepared(tmp_path / "b")
    source = run.train(experiment.load("wu2023/synthetic-baseline", [
        "solver.max_iter=2", "solver.batch_size=6", "solver.test_interval=2"]), three, str(tmp_path / "source"), None,
        Engine(1))
    chosen = experiment.load("wu2023/synthetic-spl", [
        "pacing.paces=1", "pacing.epochs=1", "solver.batch_size=6", "solver.test_interval=50", "solver.snapshot=2"])
    kept = []
    write = pretrained.write_fresh
    monkeypatch.setattr(pretrained, "write_fresh", lambda *arguments: write(*arguments) or kept.append(
        weights(arguments[2])))
    tuned = run.train(chosen, two, str(tmp_path / "tuned"), source.caffemodel(), Engine(1), fresh_head=True)
    run.train(chosen, two, str(tmp_path / "random"), None, Engine(1))
    assert tuned.info["fresh_head"] == ["fc"] and len(kept) == 2
    begun, random = kept
    np.testing.assert_array_equal(begun["fc"][0], random["fc"][0])
    np.testing.assert_array_equal(begun["conv1"][0], weights(source.caffemodel())["conv1"][0])
    assert self_paced.selection(tuned, 1)["selected"].any()
