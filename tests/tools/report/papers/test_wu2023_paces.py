"""What the figures of [wu2023] are drawn from, and that they are drawn."""
import dataclasses

import numpy as np
import pytest

from common import experiment, files
from data_prep import lmdb_io, prepared_folder
from tests.tools import small_pairs
from tools.evaluation import evaluate, forward, predictions
from tools.report.papers import wu2023_paces
from tools.training import run
from tools.training.caffe_process import Engine
from tools.training.schedules import self_paced

SMALL = ["solver.batch_size=6", "solver.test_interval=50", "solver.display=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_pairs.prepared(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def paced(tmp_path_factory, data):
    chosen = experiment.load("wu2023/synthetic-spndl", SMALL + ["pacing.paces=3", "pacing.more=25", "pacing.epochs=3"])
    return run.train(chosen, data, str(tmp_path_factory.mktemp("runs") / "paced"), None, Engine(1))


def test_accuracy_per_pace_ends_with_the_runs_own(paced):
    found = wu2023_paces.accuracies(paced, "test")
    assert len(found) == 3 and found[-1] == evaluate.evaluate(paced, "test")["accuracy"]
    kept = files.read_json(paced.path("metrics-every-snapshot.json"))["snapshots"]
    assert [one["iteration"] for one in kept] == paced.snapshots()
    assert [one["correct"] / one["total"] for one in kept] == found
    axes = wu2023_paces.accuracy_per_pace({"NDF + SPL": found}, {"baseline": 0.5}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * np.array(found))


def test_losses_run_over_all_paces(paced):
    points = wu2023_paces.losses(paced)
    ends = paced.snapshots()
    assert [iteration for iteration, _ in points] == list(range(ends[-1]))
    figure = wu2023_paces.loss_curves([("with", points), ("without", points)], ends)
    assert len(figure.axes[0].lines) == 2 + len(ends) - 1


def test_epochs_of_paces_by_hand(paced):
    """Three paces of an epoch each; an iteration in the middle of the second pace is 1.5 epochs. Without paces six
    iterations of 6 of 17 images are 36 / 17 epochs."""
    ends = paced.snapshots()
    assert wu2023_paces.pace_epochs(paced) == [1, 2, 3]
    middle = (ends[0] + ends[1]) / 2
    found = wu2023_paces.by_epoch(paced, [(0, 9.0), (middle, 8.0), (ends[2], 7.0)])
    assert found == [(0, 9.0), (pytest.approx(1.5), 8.0), (3, 7.0)]

    class Unpaced(run.Run):
        experiment = dataclasses.replace(paced.experiment, pacing={})
        info = dict(paced.info, iterations=12)
    assert wu2023_paces.by_epoch(Unpaced(paced.folder), [(6, 1.0)]) == [(pytest.approx(36 / 17), 1.0)]


def test_features_mark_what_the_pace_leaves_out(paced):
    shown = wu2023_paces.features(paced, 2, [0, 2])
    selection = self_paced.selection(paced, 2)
    members = np.isin(selection["labels"], [0, 2])
    np.testing.assert_array_equal(shown.selected, selection["selected"][members])
    assert shown.places.shape == (members.sum(), 2) and set(shown.labels) == {0, 2}
    with np.load(paced.path("t-sne-pace02.npz"), allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["places"], shown.places)
    again = wu2023_paces.features(paced, 2, [0, 2])
    for name in ("places", "labels", "selected"):
        np.testing.assert_array_equal(getattr(again, name), getattr(shown, name))
    assert set(wu2023_paces.features(paced, 2, [0, 1]).labels) == {0, 1}
    figure = wu2023_paces.distribution(shown, "pace 2", ["a", "b", "c"])
    assert len(figure.axes[0].collections[-1].get_offsets()) == (~shown.selected).sum()


def test_excluded_samples_are_pictures_with_their_losses(paced, data):
    found = wu2023_paces.excluded(paced, 1, 4)
    selection = self_paced.selection(paced, 1)
    images = lmdb_io.Reader(data + "/train/images")
    texts = {"class{} {:.3f}".format(selection["labels"][record], selection["losses"][record]): record
             for record in np.flatnonzero(~selection["selected"])}
    assert len(found) == 4
    for one in found:
        assert texts[one.text] == one.record
        np.testing.assert_array_equal(one.image, lmdb_io.decode(images[one.record])[0])
    assert wu2023_paces.excluded(paced, 3, 4) == []


def test_average_accuracy_is_the_mean_of_the_diagonal():
    confusion = np.array([[8, 2, 0], [0, 1, 1], [0, 0, 0]])
    np.testing.assert_allclose(predictions.recalls(confusion), [0.8, 0.5])


def test_records_are_found_by_their_numbers(data):
    part = forward.read(data, prepared_folder.read_note(data), "test")
    assert len(part.images) == len(part.references) == 12
