"""The vote of Eq. (12), the counts, and the files that an evaluation leaves."""
import csv
import os
import shutil

import numpy as np
import pytest

from common import files
from common.errors import UserError
from data_prep import lmdb_io, prepare, prepared_folder
from prototxt.builders import backbones
from tests import small_data
from tools.cli import main
from tools.evaluation import evaluate, forward, predictions
from tools.training import run
from tools.training.caffe_process import Engine


def test_vote_by_hand():
    # Unit a: two of three crops say class 1, but the sum of probabilities says class 0.
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.2, 0.8], [0.45, 0.55]], np.float32)
    decided = predictions.vote(["a", "a", "b", "a"], [0, 0, 0, 0], [5, 6, 7, 6], probabilities)
    assert [(d.unit, d.label, d.predicted, d.rows, d.right) for d in decided] == [
        ("a", 0, 0, (5, 6), True), ("b", 0, 1, (7,), False)]
    np.testing.assert_allclose(decided[0].probabilities, [0.6, 0.4], rtol=1e-6)


def test_highest_probability_by_hand():
    # Two of three frames and the mean say class 0, the surest frame class 1.
    probabilities = np.array([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]], np.float32)
    decided, = predictions.vote(["a"] * 3, [1] * 3, [4, 5, 6], probabilities, "highest")
    assert (decided.predicted, decided.right, decided.rows) == (1, True, (4, 5, 6))
    np.testing.assert_allclose(decided.probabilities, [0.8, 0.9], rtol=1e-6)
    assert predictions.vote(["a"] * 3, [1] * 3, [4, 5, 6], probabilities)[0].predicted == 0


def test_net_input_is_around_0_and_what_is_normalised_stays():
    np.testing.assert_array_equal(forward.net_input(np.uint8([[[0, 255]]])), np.float32([[[-127.5, 127.5]]]) / 128)
    colour = np.uint8([[[200]], [[100]], [[50]]])
    plain = forward.net_input(colour, backbones.IMAGENET_CAFFE)
    np.testing.assert_array_equal(plain, np.float32([[[96]], [[-17]], [[-73]]]))
    # (200 / 255 - 0.406) / 0.225 for blue, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.485) / 0.229, by hand.
    np.testing.assert_allclose(forward.net_input(colour, backbones.IMAGENET).ravel(), [1.68139, -0.28501, -1.26167],
                               atol=1e-5)
    normalised = np.array([-1.5, 2], np.float32)
    np.testing.assert_array_equal(forward.net_input(normalised), normalised)


def test_first_of_equal_classes_wins():
    assert predictions.vote(["a"], [1], [0], np.array([[0.5, 0.5]]))[0].predicted == 0


def test_unit_with_two_labels_is_refused():
    with pytest.raises(UserError, match=r"unit a has records of several labels: \[0, 1\]"):
        predictions.vote(["a", "a"], [0, 1], [0, 1], np.ones((2, 2)))


def test_counts_by_hand():
    decided = [predictions.Prediction("u", label, predicted, (), ()) for label, predicted in
                 [(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)]]
    assert predictions.count(decided, ("x", "y", "z")) == {
        "correct": 3, "total": 5, "accuracy": 0.6, "average_accuracy": 0.5, "classes": ["x", "y", "z"],
        "confusion": [[1, 1, 0], [0, 2, 0], [1, 0, 0]]}


def test_evaluation_of_a_run(trained, data):
    metrics = evaluate.evaluate(trained, "test")
    assert metrics == files.read_json(trained.path("metrics.json"))
    assert (metrics["paper"], metrics["unit"], metrics["total"], metrics["published"]) == (
        "xie2019a", "image", 12, None)
    assert np.trace(metrics["confusion"]) == metrics["correct"] and np.sum(metrics["confusion"]) == 12
    assert metrics["accuracy"] == metrics["correct"] / 12
    decided = predictions.read(trained.path("decisions-test.csv"))
    assert sum(decision.right for decision in decided) == metrics["correct"]
    # Against one picture at a time through the net.
    import caffe
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=trained.caffemodel())
    images = lmdb_io.Reader(os.path.join(data, "test", "images"))
    for record, decision in enumerate(decided):
        net.blobs["data"].data[0] = (lmdb_io.decode(images[record])[0].astype(float) - 127.5) / 128
        np.testing.assert_allclose(net.forward()["prob"].ravel(), decision.probabilities, atol=2e-6)


def test_other_parts_do_not_touch_metrics_json(trained):
    assert evaluate.evaluate(trained, "val")["split"] == "val"
    assert files.read_json(trained.path("metrics-val.json"))["split"] == "val"
    with open(trained.path("decisions-val.csv")) as stream:
        assert len(list(csv.DictReader(stream))) == 12


def test_val_accuracy_is_what_caffe_measured(trained):
    from tools.training import caffe_log
    measured = caffe_log.curves(trained.path("caffe.log"))["val accuracy"][-1][1]
    evaluate.evaluate(trained, "val")
    # Twelve faces do not fill Caffe's batch of 100, which goes round: 100 = 8 * 12 + 4.
    decided = predictions.read(trained.path("decisions-val.csv"))
    right = [decision.right for decision in decided]
    assert round(100 * measured) == sum(right[index % 12] for index in range(200, 300))


def test_every_snapshot_is_evaluated_and_kept(tmp_path, trained, monkeypatch):
    trained, expected = run.Run(shutil.copytree(trained.folder, str(tmp_path / "run"))), {}
    for iteration in (4, 8, 12):
        part = forward.read(trained.info["data"], prepared_folder.read_note(trained.info["data"]), "test")
        prob = forward.of_split(trained.experiment, part, trained.path("deploy.prototxt"),
                                trained.path("snapshots", f"iter_{iteration}.caffemodel"), ["prob"])["prob"]
        expected[iteration] = int((prob.reshape(12, 7).argmax(axis=1) == part.labels).sum())
    assert evaluate.saved_snapshots(trained, "test") == []
    found = list(evaluate.every_snapshot(trained, "test"))
    assert found == [{"iteration": iteration, "correct": right, "total": 12} for iteration, right in expected.items()]
    assert files.read_json(trained.path("metrics-every-snapshot.json")) == {
        "split": "test", "snapshots": found, "engine": "caffe"}
    assert evaluate.saved_snapshots(trained, "val") == []
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "predict", None)
        assert list(evaluate.every_snapshot(trained, "test")) == found
    # Those of another engine do not count as those of this one.
    patched = {"split": "test", "snapshots": [dict(one, correct=0) for one in found], "engine": "torch"}
    files.write_json(trained.path("metrics-every-snapshot.json"), patched)
    assert evaluate.saved_snapshots(trained, "test") == patched["snapshots"]
    assert list(evaluate.every_snapshot(trained, "test")) == found
    assert evaluate.saved_snapshots(trained, "test") == found
    # Of other snapshots it says nothing.
    monkeypatch.setattr(run.Run, "snapshots", lambda _: [4, 12])
    assert evaluate.saved_snapshots(trained, "test") == []


def test_the_best_snapshot_is_the_first_of_equal_ones():
    right = {4: 3, 8: 7, 12: 7, 16: 5}
    assert evaluate.best([{"iteration": at, "correct": one, "total": 9} for at, one in right.items()])["iteration"] == 8


def test_every_snapshot_of_folds_on_the_command_line(tmp_path, trained, capsys):
    """Each run's own best counts: 2 of the first, 5 of the second; last ones 1 and 4."""
    runs = [run.Run(shutil.copytree(trained.folder, str(tmp_path / name))) for name in ("fold01", "fold02")]
    files.write_json(str(tmp_path / "group.json"), {"kind": "folds", "members": ["fold01", "fold02"]})
    for one, rights in zip(runs, ((0, 2, 1), (5, 3, 4))):
        for split in ("val", "test"):
            files.write_json(evaluate.snapshots_path(one, split), {"split": split, "snapshots": [
                {"iteration": at, "correct": right, "total": 12} for at, right in zip((4, 8, 12), rights)]})
    assert main.main(["evaluate", str(tmp_path), "--every-snapshot", "--split", "test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "test: fold01 iteration 8: 2/12, 16.67%"
    assert lines[-2:] == ["test: last: 5/24, 20.83%, each run with its own",
                          "test: best on this part: 7/24, 29.17%, each run with its own"]
    assert main.main(["evaluate", str(tmp_path / "fold01"), "--every-snapshot"]) == 0
    assert "val: best on this part: 2/12, 16.67%, iteration 8" in capsys.readouterr().out
    assert main.main(["evaluate", str(tmp_path), "--every-snapshot", "--data", "d"]) == 1
    assert "--every-snapshot evaluates on the data of the run" in capsys.readouterr().err


def test_untrained_and_incomplete_runs_are_refused(tmp_path, data, small):
    with pytest.raises(UserError, match="no run here"):
        evaluate.evaluate(run.Run(str(tmp_path)), "test")
    stopped = run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    os.unlink(stopped.path("snapshots", "iter_12.caffemodel"))
    with pytest.raises(UserError, match="no snapshot of iteration 12; it has 4, 8"):
        evaluate.evaluate(stopped, "test")
    with pytest.raises(UserError, match="no snapshot of iteration 12; it has 4, 8"):
        list(evaluate.every_snapshot(stopped, "test"))


def test_data_prepared_anew_are_refused(tmp_path, small):
    data = small_data.prepared(tmp_path)
    trained = run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    files.remove(data)
    other = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((24, 12, 11)))
    prepare.prepare(prepare.Settings("fer2013", other), data, 1)
    with pytest.raises(UserError, match="was prepared anew since"):
        evaluate.evaluate(trained, "test")


def test_copies_of_training_images_are_counted_apart(tmp_path, small):
    rows = list(small_data.rows())
    # A test face with the pixels of a training face, of its own class and of another one.
    rows[-1][1] = rows[int(rows[-1][0])][1]
    rows[-2][1] = rows[0][1]
    source, data = small_data.write_csv(tmp_path / "fer2013.csv", rows), str(tmp_path / "data")
    note = prepare.prepare(prepare.Settings("fer2013", source), data, 1)
    assert note["copies"] == 2
    trained = run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    metrics = evaluate.evaluate(trained, "test")
    right = [decision.right for decision in predictions.read(trained.path("decisions-test.csv"))]
    assert metrics["without_copies"] == {"correct": sum(right[:-2]), "total": 10}
    assert metrics["correct"] == sum(right)


def test_average_accuracy_is_over_the_classes_that_have_units():
    """One of two of the first class is right, none is of the second, and the third's only one is right."""
    decided = [predictions.Prediction("u", label, predicted, (0, 0, 0), (0,)) for label, predicted in (
        (0, 0), (0, 2), (2, 2))]
    found = predictions.count(decided, ["a", "b", "c"])
    assert (found["correct"], found["total"], found["average_accuracy"]) == (2, 3, (1 / 2 + 1) / 2)
