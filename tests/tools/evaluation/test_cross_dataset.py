"""Testing on another data set: classes matched by name, units left out, and the files that are written."""
import dataclasses
import os

import caffe
import cv2
import numpy as np
import pytest

from common import files
from common.errors import UserError
from data_prep import lmdb_io, prepare
from tests import small_data
from tools.cli import main
from tools.evaluation import cross_dataset, evaluate, predictions, roc
from tools.evaluation import groups as metrics_of_groups
from tools.evaluation.predictions import Prediction
from tools.report import figures

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize("trained, tested, without, expected", [
    (SEVEN, SEVEN, (), (list(SEVEN), [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6])),
    (SEVEN[:6], SEVEN, (), (list(SEVEN[:6]), [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])),
    (SEVEN, SEVEN, ("neutral",), (list(SEVEN[:6]), [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])),
    # Other order, other spelling, and classes that one side has alone.
    (("sad", "happy", "contempt"), ("Anger", "Happiness", "sad"), (), (["sad", "happy"], [0, 1], [2, 1])),
    (("a", "b", "c"), ("c", "b"), (), (["b", "c"], [1, 2], [1, 0]))])
def test_classes_are_matched_by_name(trained, tested, without, expected):
    assert dataclasses.astuple(cross_dataset.match(trained, tested, without)) == expected


def test_without_common_classes_it_is_refused():
    with pytest.raises(UserError, match="the classes of the data, x, y, have 0 in common; expected at least two"):
        cross_dataset.match(SEVEN, ("x", "y"))
    with pytest.raises(UserError, match="have 1 in common"):
        cross_dataset.match(SEVEN, ("happy", "y"))
    with pytest.raises(UserError, match="class 'boredom' to leave out: the data have angry"):
        cross_dataset.match(SEVEN, SEVEN, ("boredom",))


def test_restriction_by_hand():
    # Trained on a, b, c; the data have c, d, a. Of d there is nothing to be known; b may not be chosen.
    matching = cross_dataset.match(("a", "b", "c"), ("c", "d", "a"))
    found = [Prediction("one", 0, 1, (0.2, 0.5, 0.3), (0,)), Prediction("two", 1, 0, (0.9, 0.1, 0.0), (1,)),
             Prediction("three", 2, 0, (0.6, 0.1, 0.3), (2,)), Prediction("four", 2, 2, (0.0, 0.3, 0.7), (3,))]
    decided = cross_dataset.restrict(found, matching)
    assert [(one.unit, one.label, one.predicted) for one in decided] == [
        ("one", 1, 1), ("three", 0, 0), ("four", 0, 1)]
    np.testing.assert_allclose([one.probabilities for one in decided], [[0.4, 0.6], [2 / 3, 1 / 3], [0, 1]])
    # With b in the choice the first is wrong.
    assert cross_dataset.count_all(found, matching) == {"correct": 1, "total": 3}
    assert predictions.count(decided, matching.names)["correct"] == 2


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A folder of three classes, two of them FER2013's, without a test split."""
    folder = tmp_path_factory.mktemp("others")
    for name, label in (("anger", 0), ("contempt", 1), ("Happy", 3)):
        for part, count in (("train", 3), ("val", 1)):
            os.makedirs(str(folder / "faces" / part / name))
            for number in range(count):
                image = np.random.RandomState((label, number)).randint(0, 120, (48, 48)).astype(np.uint8)
                image[6 * label:6 * label + 6] += 100
                cv2.imwrite(str(folder / "faces" / part / name / f"{part}{number}.png"), image)
    prepare.prepare(prepare.Settings("folder", str(folder / "faces"), features=[]), str(folder / "data"), 1)
    return str(folder / "data")


def test_of_a_run(trained, others, capsys):
    before = set(os.listdir(trained.folder))
    metrics = cross_dataset.evaluate_on(trained, others)
    assert set(os.listdir(trained.folder)) - before == {"metrics-on-folder-plain.json",
                                                        "decisions-on-folder-plain.csv"}
    assert metrics == files.read_json(cross_dataset.metrics_path(trained, "folder-plain"))
    assert (metrics["trained_on"], metrics["dataset"], metrics["split"], metrics["unit"]) == (
        "fer2013", "folder-plain", "train+val", "image")
    assert metrics["classes"] == ["angry", "happy"] and metrics["total"] == 8 and metrics["left_out"] == 4
    assert metrics["all_trained_classes"]["total"] == 8
    assert metrics["all_trained_classes"]["correct"] <= metrics["correct"]
    # Against one picture at a time through the net.
    net, right = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=trained.caffemodel()), 0
    decided = predictions.read(trained.path("decisions-on-folder-plain.csv"))
    for split in ("train", "val"):
        images = lmdb_io.Reader(os.path.join(others, split, "images"))
        for record in range(len(images)):
            image, label = lmdb_io.decode(images[record])
            net.blobs["data"].data[0] = (image.astype(float) - 127.5) / 128
            probabilities = net.forward()["prob"].ravel()
            # Folders are sorted: Happy, anger, contempt.
            if label != 2:
                right += (probabilities[3] > probabilities[0]) == (label == 0)
    assert metrics["correct"] == right == sum(one.right for one in decided)
    labels, probabilities = (np.array([getattr(one, what) for one in decided]) for what in ("label", "probabilities"))
    assert metrics["auc"] == pytest.approx(roc.measures(labels, probabilities)["auc"])
    assert main.main(["evaluate", trained.folder, "--data", others]) == 0
    assert f"fer2013 on folder-plain: {right} of 8 images correct" in capsys.readouterr().out


def test_own_data_give_the_own_result(trained, data):
    """The test split of what it was trained with, as if it were another set."""
    own, crossed = evaluate.evaluate(trained, "test"), cross_dataset.evaluate_on(trained, data)
    for key in ("correct", "total", "confusion", "classes", "auc", "sensitivity", "specificity", "split", "unit"):
        assert own[key] == pytest.approx(crossed[key]) if isinstance(own[key], float) else own[key] == crossed[key]
    assert crossed["left_out"] == 0 and crossed["all_trained_classes"]["correct"] == crossed["correct"]


def test_classes_can_be_left_out(trained, data):
    metrics = cross_dataset.evaluate_on(trained, data, without=["neutral", "sad"])
    assert metrics["classes"] == ["angry", "disgust", "fear", "happy", "surprise"]
    assert metrics["total"] + metrics["left_out"] == 12 and metrics["left_out"] == 3


def test_images_of_another_shape_are_refused(tmp_path, trained):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((7, 7, 7)))
    prepare.prepare(prepare.Settings("fer2013", source, "xie2019a", features=[]), str(tmp_path / "data"), 1)
    with pytest.raises(UserError, match="the images are 1x227x227, but .* takes 1x48x48"):
        cross_dataset.evaluate_on(trained, str(tmp_path / "data"))


def test_roc_figure_shows_each_curve(trained, data):
    cross_dataset.evaluate_on(trained, data)
    decided = predictions.read(trained.path("decisions-on-fer2013-plain.csv"))
    curve = roc.mean(list(roc.curves(np.array([one.label for one in decided]),
                                     np.array([one.probabilities for one in decided])).values()))
    figure = figures.roc_curves({"softmax": curve, "L2": curve})
    assert [text.get_text().split(",")[0] for text in figure.axes[0].get_legend().get_texts()] == ["softmax", "L2"]


def test_metrics_of_an_evaluation_have_the_measures(trained):
    metrics = evaluate.evaluate(trained, "val")
    decided = predictions.read(trained.path("decisions-val.csv"))
    expected = roc.measures(*predictions.scores(decided))
    assert {what: metrics[what] for what in roc.MEASURES} == pytest.approx(expected, abs=1e-6)


def test_seeds_have_the_mean_of_the_measures():
    of_seeds = [dict(accuracy=0.5, correct=1, total=2, confusion=[[1]], auc=0.5, sensitivity=0.2, specificity=1.0),
                dict(accuracy=1.0, correct=2, total=2, confusion=[[1]], auc=0.7, sensitivity=0.4, specificity=0.5)]
    assert {what: metrics_of_groups._of_seeds(of_seeds)[what] for what in roc.MEASURES} == {
        "auc": pytest.approx(0.6), "sensitivity": pytest.approx(0.3), "specificity": 0.75}
