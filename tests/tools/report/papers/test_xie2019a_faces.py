"""Which faces are shown, by hand-made decisions; and what the nets make of them, against pycaffe."""
import caffe
import numpy as np
import pytest

from common import experiment, files
from data_prep.features import GEOMETRIES, gabor
from tests import small_data
from tests.tools import hand_made
from tools.analysis import activations
from tools.evaluation import predictions
from tools.evaluation.predictions import Prediction
from tools.report import faces
from tools.report.papers import xie2019a_faces
from tools.training.run import Run

TEST_FACES = [np.array(pixels.split(), np.uint8).reshape(1, 48, 48)
              for _, pixels, usage in small_data.rows() if usage == "PrivateTest"]
# Of 24 training and 12 validation rows before it.
FIRST_TEST_ROW = 36


def decision(unit, label, predicted, rows=(0,), probability=1.0):
    return Prediction(unit, label, predicted, tuple(probability * (place == predicted) for place in range(3)), rows)


BEFORE = [decision("a", 0, 1), decision("b", 0, 1), decision("c", 1, 1), decision("d", 2, 2), decision("e", 2, 0)]
AFTER = [decision("e", 2, 2, (5, 6)), decision("d", 2, 0), decision("c", 1, 1), decision("b", 0, 2),
         decision("a", 0, 0, (1,))]


def test_gained_are_right_now_and_were_wrong():
    assert [one.unit for one in xie2019a_faces.gained(BEFORE, AFTER)] == ["e", "a"]
    assert [one.unit for one in xie2019a_faces.gained(AFTER, BEFORE)] == ["d"]


def test_svm_is_asked_about_the_frame_that_is_shown():
    won = xie2019a_faces.gained(BEFORE, AFTER)
    assert [one.unit for one in xie2019a_faces.wrong_by({1: 2, 5: 0, 6: 2}, won)] == ["a"]
    assert [one.unit for one in xie2019a_faces.wrong_by({1: 0, 5: 2, 6: 1}, won)] == ["e"]


def test_faces_take_turns_among_classes():
    given = [decision(str(p), 0, 0, probability=p) for p in np.linspace(0.9, 1, 20)] + [
        decision("x", 1, 0, probability=0.5), decision("y", 2, 0, probability=0.4)]
    chosen = faces.spread(given, 14)
    assert len(chosen) == 14
    assert [one.label for one in chosen[:4]] == [0, 1, 2, 0]
    assert chosen[0].probabilities[0] == 1


@pytest.mark.parametrize("losses, expected", [
    ([["center"], ["gabor"], ["gsf"]], (0, 1)), ([["gsf"], [], ["sift"]], (1, 0)),
    ([[], ["center"]], None), ([["gabor"], ["sift"]], None)])
def test_pair_is_the_first_with_and_the_first_without_a_feature_loss(tmp_path, losses, expected):
    runs = []
    for number, names in enumerate(losses):
        runs.append(Run(str(tmp_path / str(number))))
        write_run(runs[-1], names, "m")
    found = xie2019a_faces.pair(runs, "test")
    assert (found and (runs.index(found.baseline), runs.index(found.ours))) == expected


def test_pair_needs_the_same_images(tmp_path):
    runs = [Run(str(tmp_path / name)) for name in "ab"]
    write_run(runs[0], [], "m")
    write_run(runs[1], ["gabor"], "n")
    assert xie2019a_faces.pair(runs, "test") is None


def write_run(run, losses, manifest):
    info = hand_made.info(experiment.load("xie2019a/fer2013-toy-softmax"), manifest=manifest, data=run.folder)
    info["experiment"]["losses"] = dict.fromkeys(losses, {})
    files.write_json(run.path("run.json"), info)
    predictions.write(run.path("decisions-test.csv"), BEFORE)


def test_faces_are_the_pixels_of_the_source(data):
    rows = [FIRST_TEST_ROW + 7, FIRST_TEST_ROW]
    found = faces.images(data, "test", rows)
    assert (found[0] == TEST_FACES[7]).all() and (found[1] == TEST_FACES[0]).all()


def test_gabor_responses_stand_where_the_caption_says(data):
    """Upright bars, 4.76 pixels apart: of the orientations the one along the gradient responds most."""
    bars = np.repeat((np.sin(np.arange(48) * 2 * np.pi / 4.76) * 100 + 128).astype(np.uint8)[None, None, :], 48, axis=1)
    found = xie2019a_faces.gabor_responses(bars, data).mean(axis=(1, 2)).reshape(3, 5)
    assert (found.argmax(axis=1) == 0).all()
    # 4.76 pixels of 48 are 11.3 of 114.
    assert found[:, 0].argmax() == 2
    assert gabor.ORIENTATIONS == 8 and GEOMETRIES["compact"].face == 114


def test_face_maps_are_the_blobs_of_pycaffe(trained):
    images = TEST_FACES[:3]
    found = xie2019a_faces.face_maps(trained, images)
    net = caffe.Net(trained.path("deploy.prototxt"), trained.caffemodel(), caffe.TEST)
    for number, image in enumerate(images):
        net.blobs["data"].data[...] = (image.astype(np.float32) - 127.5) / 128
        net.forward()
        assert np.allclose(found.first[number], net.blobs["conv1"].data[0], atol=1e-5)
        assert np.allclose(found.last[number], net.blobs["conv2"].data[0], atol=1e-5)
    assert found.last.shape == (3, 512, 5, 5) and found.grid == activations.Grid(-0.5, 12)
