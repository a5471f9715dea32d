"""`./fer export`: the model's probabilities, its metadata, the program of the documentation, and what is refused."""
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import caffe
import cv2
import numpy as np
import onnxruntime
import pytest

from common import experiment, files
from common.errors import UserError
from common.experiment import ROOT
from data_prep import lmdb_io
from data_prep.images import read_image
from tests.tools import hand_made, small_pairs
from tests.tools.conversion.test_onnx_layers import session
from tools.cli import main
from tools.conversion import export, onnx_layers
from tools.evaluation import predict, predicted_faces
from tools.training import groups, pretrained, run
from tools.training.caffe_process import Engine
from tools.training.run import Run


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The path of the model of a run on grey images, and what the command printed."""
    out = str(tmp_path_factory.mktemp("models") / "small.onnx")
    return out, export.export(trained, out)


def model(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pixels(folder, name):
    """All images of a database, as they were prepared."""
    reader = lmdb_io.Reader(os.path.join(folder, "test", name))
    return [lmdb_io.decode(reader[record])[0] for record in range(len(reader))]


def test_probabilities_are_those_of_caffe(exported, trained, data):
    images = (np.float32(pixels(data, "images")) - 127.5) / 128
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=trained.caffemodel())
    net.blobs["data"].reshape(*images.shape)
    net.blobs["data"].data[...] = images
    expected = net.forward()["prob"]
    found, = model(exported[0]).run(["prob"], {"data": images})
    assert len(np.unique(expected, axis=0)) == len(images) == 12
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_says_what_was_compared(exported):
    compared, difference = exported[1]
    assert compared == "compared with Caffe on 12 images of the test split"
    assert float(re.fullmatch(r"largest difference of a probability: (\S+)", difference).group(1)) < 1e-5


def test_metadata(exported, trained):
    notes = model(exported[0]).get_modelmeta().custom_metadata_map
    with open(trained.path("snapshots/iter_12.caffemodel"), "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    preprocessing = json.loads(notes.pop("preprocessing"))
    assert notes == {"experiment": "xie2019a/fer2013-toy-center-gabor", "iteration": "12", "caffemodel_sha256": digest,
                     "decision": "mean", "classes": json.dumps(
                         ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"])}
    assert preprocessing == {"width": 48, "height": 48, "channels": "grey", "mean": [127.5], "scale": [1 / 128],
                             "registration": "none", "region": 48, "crops": [[0, 0, 48, False]], "stretched": False,
                             "illumination": False}


def test_a_snapshot_is_exported(trained, data, tmp_path):
    out = str(tmp_path / "early.onnx")
    assert main.main(["export", trained.folder + "@4", "--out", out]) == 0
    weights = trained.path("snapshots/iter_4.caffemodel")
    with open(weights, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    notes = model(out).get_modelmeta().custom_metadata_map
    assert (notes["iteration"], notes["caffemodel_sha256"]) == ("4", digest)
    images = (np.float32(pixels(data, "images")) - 127.5) / 128
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=weights)
    net.blobs["data"].reshape(*images.shape)
    net.blobs["data"].data[...] = images
    np.testing.assert_allclose(model(out).run(["prob"], {"data": images})[0], net.forward()["prob"], atol=1e-6)


@pytest.mark.parametrize("name, expected", [
    ("farzaneh2021/raf_db-dacl", {
        "width": 224, "height": 224, "channels": "BGR", "region": 256, "crops": [[16, 16, 224, False]],
        "illumination": False}),
    ("liu2017/ckplus-1b-nm", {
        "width": 48, "height": 48, "channels": "grey", "mean": [0.0], "scale": [1.0], "registration": "template",
        "region": 60, "crops": [[6, 6, 48, False]], "illumination": True})])
def test_preprocessing_of_other_papers(tmp_path, name, expected):
    other = Run(hand_made.run(tmp_path / "run", name))
    files.write_json(other.path("data.json"), {**hand_made.note(other.experiment.data), "template": {
        "dataset": "synthetic", "margins": dict.fromkeys(("left", "right", "top", "bottom"), 0.1)}})
    notes = export.metadata(other, predict.preparation(other), hand_made.ITERATIONS)
    preprocessing = json.loads(notes["preprocessing"])
    assert {**preprocessing, **expected} == preprocessing
    assert len(preprocessing["mean"]) == len(preprocessing["scale"]) == (3 if expected["channels"] == "BGR" else 1)


def test_program_of_the_documentation(exported, trained, data, tmp_path):
    """It predicts an image as `./fer predict` does, without the modules of the project."""
    with open(os.path.join(ROOT, "docs", "export.md"), encoding="utf-8") as stream:
        program, = re.findall("^```python\n(.*?)^```", stream.read(), flags=re.S | re.M)
    (tmp_path / "program.py").write_text(program)
    face = pixels(data, "images")[3][0]
    assert cv2.imwrite(str(tmp_path / "face.png"), face)
    done = subprocess.run([sys.executable, "program.py", exported[0], "face.png"], cwd=str(tmp_path), encoding="utf-8",
                          env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                          stdout=subprocess.PIPE, check=True)
    predictor = predict.Predictor(trained, whole=True)
    [seen] = predictor.each([("face.png", lambda: read_image(str(tmp_path / "face.png")))])
    expected = predicted_faces.line("face.png", 1, 1, seen.faces[0], predictor.classes)
    assert "face.png: " + ", ".join(done.stdout.splitlines()) == expected


def test_a_net_of_pairs(tmp_path):
    """Features of the reference are subtracted: both inputs count."""
    changes = ["solver.max_iter=2", "solver.batch_size=6", "solver.test_interval=2", "solver.snapshot=2",
               "head.subtracted=reference"]
    folder = small_pairs.prepared(tmp_path)
    paired = run.train(experiment.load("wu2023/synthetic-ndf", changes), folder, str(tmp_path / "run"), None, Engine(1))
    out = str(tmp_path / "pairs.onnx")
    assert export.export(paired, out)[0] == "compared with Caffe on 12 images of the test split"
    assert sorted(put.name for put in model(out).get_inputs()) == ["data", "reference"]


def test_other_images_where_the_data_are_gone(trained, tmp_path):
    moved = shutil.copytree(trained.folder, str(tmp_path / "moved"))
    files.write_json(moved + "/run.json", {**trained.info, "data": "/gone"})
    compared, difference = export.export(Run(moved), str(tmp_path / "model.onnx"))
    assert compared.startswith("compared with Caffe on random images, because the data of the run are not there "
                               "(/gone: no prepared data here;")
    assert float(difference.rpartition(" ")[2]) < 1e-5


def test_a_model_that_differs_is_not_written(trained, tmp_path, monkeypatch):
    def wrong(graph, layer):
        graph.chain(layer, [("Relu", [], {})], layer.bottoms[0].name)
    monkeypatch.setitem(onnx_layers.WRITERS, "PReLU", wrong)
    out = str(tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"model.onnx: not written, because onnxruntime's probabilities differ from "
                                        r"Caffe's by up to \d.\de-\d+, expected at most 1e-04"):
        export.export(trained, out)
    assert os.listdir(str(tmp_path)) == []


def test_not_a_number_differs(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "compare", lambda *_: iter([0.0, float("nan"), 0.0]))
    with pytest.raises(UserError, match="differ"):
        export.export(trained, str(tmp_path / "model.onnx"))
    assert os.listdir(str(tmp_path)) == []


def test_replaces_only_its_own_files(trained, exported, tmp_path, capsys):
    out = str(tmp_path / "model.onnx")
    shutil.copy(exported[0], out)
    assert main.main(["export", trained.folder, "--out", out]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == out
    (tmp_path / "thesis.onnx").write_text("years of work")
    assert main.main(["export", trained.folder, "--out", str(tmp_path / "thesis.onnx")]) == 1
    assert capsys.readouterr().err.endswith("thesis.onnx: exists and was not made by caffe-fer; give another name, or "
                                            "remove it\n")
    assert (tmp_path / "thesis.onnx").read_text() == "years of work"


def test_a_group_and_an_unfinished_run_are_refused(trained, tmp_path, capsys):
    shutil.copytree(trained.folder, str(tmp_path / "group" / "seed01"))
    hand_made.group(tmp_path / "group", "seeds")
    for word in ("", "@best"):
        assert main.main(["export", str(tmp_path / "group") + word, "--out", "m.onnx"]) == 1
        assert capsys.readouterr().err.endswith(
            f"group: is a group; give one of its runs: {tmp_path}/group/seed01{word}\n")
    shutil.rmtree(str(tmp_path / "group" / "seed01" / "snapshots"))
    with pytest.raises(UserError, match="no snapshot of iteration 12"):
        export.export(groups.open_(str(tmp_path / "group" / "seed01")), str(tmp_path / "m.onnx"))


FAST = ("toy", "one_map", "resnet_small", "inception_narrow")
DEPLOYS = sorted(os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, "prototxt", "*", "deploy", "*")))


@pytest.mark.parametrize("deploy", [pytest.param(
    path, marks=[] if os.path.basename(path).startswith(FAST) else pytest.mark.slow) for path in DEPLOYS])
def test_all_nets_of_the_papers(tmp_path, deploy):
    """With random weights, before the probabilities, which are all 0 or 1 for some of them."""
    shutil.copy(os.path.join(ROOT, deploy), str(tmp_path / "net.prototxt"))
    pretrained.write_fresh(deploy, 1, str(tmp_path / "w.caffemodel"))
    net = caffe.Net(deploy, caffe.TEST, weights=str(tmp_path / "w.caffemodel"))
    random = np.random.RandomState(0)
    for name in net.inputs:
        net.blobs[name].reshape(2, *net.blobs[name].shape[1:])
        net.blobs[name].data[...] = random.uniform(-1, 1, net.blobs[name].shape)
    net.forward()
    inputs = {name: np.array(net.blobs[name].data) for name in net.inputs}
    names = [*net.bottom_names["prob"], "prob"]
    *scores, probabilities = session(tmp_path, net, names).run(names, inputs)
    for name, found in zip(names, scores):
        expected = net.blobs[name].data
        assert np.abs(expected[0] - expected[1]).max() > 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_there_are_nets_of_the_papers():
    assert len(DEPLOYS) > 40
