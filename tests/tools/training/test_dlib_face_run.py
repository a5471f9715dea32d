"""dlib's net through the commands: faces that are enlarged, given weights, a training, an evaluation, a prediction."""
import cv2
import numpy as np
import pytest

from common import files
from tests import dlib_reference as reference
from tests import small_data
from tools.cli import main
from tools.report.papers import xie2019a_faces
from tools.training import pretrained
from tools.training.run import Run
from tools.weights import dlib_face, dlib_file

SETTINGS = ["--set", "net=dlib_face", "solver.max_iter=2", "solver.batch_size=4", "solver.snapshot=2",
            "solver.test_interval=2", "--threads", "1"]


def prepare(folder, csv, *more):
    assert main.main(["prepare", "fer2013", csv, "--out", str(folder), "--processes", "1", *more]) == 0
    return str(folder)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return small_data.write_csv(tmp_path_factory.mktemp("csv") / "fer2013.csv", small_data.rows((14, 7, 7)))


@pytest.fixture(scope="module")
def data(tmp_path_factory, csv):
    return prepare(tmp_path_factory.mktemp("data") / "112", csv, "--crops", "whole-112", "--features")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "net.dat").write_bytes(reference.file(*reference.parameters()))
    path = str(folder / "dlib_face.caffemodel")
    dlib_face.write(dlib_file.layers(str(folder / "net.dat")), "net.dat", str(folder / "net.prototxt"), path)
    return path


def test_from_faces_of_48x48_to_predictions(tmp_path, data, weights, capsys):
    out = str(tmp_path / "run")
    assert main.main(["train", "xie2019a/fer2013-softmax", "--data", data, "--out", out, "--weights", weights,
                      *SETTINGS]) == 0
    said = capsys.readouterr().out
    assert "copied 58: conv1, affine1, conv2_1a" in said and "start fresh 2: fc1, fc2\nleft out 1: descriptor" in said
    assert all(np.isfinite(blob.values).all() for blob in pretrained.blobs(out + "/snapshots/iter_2.caffemodel"))
    assert main.main(["evaluate", out]) == 0
    metrics = files.read_json(out + "/metrics.json")
    assert metrics["total"] == 7
    # z has one cell, so the report shows the maps before.
    maps = xie2019a_faces.face_maps(Run(out), [np.full((1, 112, 112), 100, np.uint8)])
    assert maps.name == "res5_3" and min(maps.last.shape[2:]) > 1
    cv2.imwrite(str(tmp_path / "face.png"), np.full((48, 48), 100, np.uint8))
    capsys.readouterr()
    assert main.main(["predict", out, str(tmp_path / "face.png"), "--whole"]) == 0
    assert capsys.readouterr().out.count("%") == 7


def test_what_does_not_fit_is_refused_before_the_training(tmp_path, csv, data, capsys):
    out = str(tmp_path / "run")
    small = prepare(tmp_path / "48", csv, "--features")
    capsys.readouterr()
    assert main.main(["train", "xie2019a/fer2013-softmax", "--data", small, "--out", out, *SETTINGS]) == 1
    assert capsys.readouterr().err == (f"fer: {small}: the images are 1x48x48, but the net dlib_face takes 1xNxN with "
                                       "N of at least 103\n")
    # The net is looked at before the features, which would take hours to make.
    assert main.main(["train", "xie2019a/fer2013-gabor", "--data", data, "--out", out, *SETTINGS]) == 1
    assert capsys.readouterr().err == ("fer: xie2019a/fer2013-gabor: losses.gabor needs a z of 12800 values, but z of "
                                       "the net dlib_face has 256 for images of 1x112x112\n")
    assert not (tmp_path / "run").exists()
