"""When the learning rate is halved, by hand; and trainings in which it is, killed too."""
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from common import experiment
from tests import small_data
from tools.training import caffe_log, chain, pretrained, run, run_state
from tools.training.caffe_process import Engine
from tools.training.schedules import plateau
from tools.training.schedules.plateau import Epoch

CHANGES = ["solver.batch_size=8", "solver.max_iter=20", "solver.test_interval=4", "solver.display=1",
           "solver.base_lr=0.01", "halving.patience=1"]


def epochs(*rows):
    return [Epoch(*row) for row in rows]


@pytest.mark.parametrize("rows, due", [
    ([(1, 2.0, .2)], False),
    ([(1, 2.0, .2), (1, 2.5, .3)], False),             # a quarter more is not above a quarter
    ([(1, 2.0, .2), (1, 2.51, .3)], True),
    ([(1, 2.0, .2), (1, 2.4, .3), (1, 2.6, .4)], True),  # above the lowest, not the last
    ([(1, 2.0, .5), (1, 1.9, .4), (1, 1.8, .5)], False),
    ([(1, 2.0, .5), (1, 1.9, .4), (1, 1.8, .5), (1, 1.7, .4)], True),   # three without more than .5
    ([(1, 2.0, .5), (1, 1.9, .4), (1, 1.8, .6), (1, 1.7, .5), (1, 1.6, .5)], False),
    ([(1, 2.0, .9), (1, 1.9, .4), (1, 1.8, .5), (1, 1.7, .4), (2, 1.6, .4), (2, 1.5, .4)], False),  # counts anew
    ([(1, 2.0, .9), (1, 1.9, .4), (1, 1.8, .5), (1, 1.7, .4), (2, 1.6, .4), (2, 1.5, .4), (2, 1.4, .4)], True)])
def test_due_by_hand(rows, due):
    assert plateau.due(epochs(*rows), loss_rise=0.25, patience=3) is due


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.with_subjects(tmp_path_factory.mktemp("data"), (24, 14, 14))


def quick():
    # The net of the synthetic faces is quicker.
    return dataclasses.replace(experiment.load("liu2017/fer2013-softmax", CHANGES), net="inception_narrow",
                               head={"branches": 2, "fc1": 64, "fc2": 32, "fc4": 32})


@pytest.fixture(scope="module")
def one():
    return quick()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data, one):
    return run.train(one, data, str(tmp_path_factory.mktemp("runs") / "run"), None, Engine(1))


def test_the_rate_is_halved_and_the_best_weights_reloaded(trained, one):
    found = plateau.history(trained)
    assert len(found) == 5 and {entry.rate for entry in found} > {1}
    for number in range(1, 5):
        due = plateau.due(found[:number], **one.halving)
        assert found[number].rate == found[number - 1].rate + due
    for span, rate in zip(chain.spans(trained), sorted({entry.rate for entry in found})):
        with open(span.segment.path("solver.prototxt")) as stream:
            assert f"\nbase_lr: {0.01 / 2 ** (rate - 1):g}\n" in stream.read()
        assert span.end - span.start == 4 * sum(entry.rate == rate for entry in found)
        log = caffe_log.curves(span.segment.path("caffe.log"))
        assert dict(log["val accuracy"])[span.end - span.start] == [
            entry.accuracy for entry in found if entry.rate == rate][-1]
    second = next(number for number, entry in enumerate(found) if entry.rate == 2)
    lowest = int(np.argmin([entry.loss for entry in found[:second]])) + 1
    initial = pretrained.read(trained.path("rates", "02", "initial.caffemodel"))
    # 24 images, 8 a step: 4 steps are an epoch and 8 images.
    position = next(layer for layer in initial.layer if layer.name == "train_data_fer2013").blobs[0].data
    assert list(position) == [32 * lowest // 24, 32 * lowest % 24]


def test_it_ends_as_any_run(trained):
    assert trained.snapshots()[-1] == 20 and os.path.exists(trained.caffemodel())
    assert not os.path.exists(trained.path("rates", "01", "snapshots"))


def test_watching_counts_over_all_rates(trained):
    state, accuracies = run_state.Watch(trained).state(), [entry.accuracy for entry in plateau.history(trained)]
    assert (state.finished, state.iteration, state.total, state.done, state.work) == (True, 20, 20, 20, 20)
    assert state.accuracy == (20, pytest.approx(accuracies[-1]))
    assert state.best[1] == pytest.approx(max(accuracies))


def test_stopped_after_each_pass_it_ends_in_the_same_bytes(tmp_path, monkeypatch, data, one, trained):
    """What an epoch achieved is written at the second try only: each epoch is trained, and not known to be."""
    import common.files
    folder, written = str(tmp_path / "run"), []
    original = common.files.write_json

    def failing(path, value):
        if path.endswith("halving.json"):
            written.append(path)
            if len(written) % 2:
                raise KeyboardInterrupt
        original(path, value)
    monkeypatch.setattr(common.files, "write_json", failing)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            run.train(one, data, folder, None, Engine(1))
    again = run.train(one, data, folder, None, Engine(1))
    assert read(again.caffemodel()) == read(trained.caffemodel())
    assert plateau.history(again) == plateau.history(trained)


KILLED = """
import sys
from tests.tools.training.schedules import test_plateau
from tools.training import run
from tools.training.caffe_process import Engine
run.train(test_plateau.quick(), sys.argv[1], sys.argv[2], None, Engine(1))
"""


@pytest.mark.slow
def test_killed_within_two_epochs_it_ends_in_the_same_bytes(tmp_path, data, trained):
    """At the first rate, and then after a halving."""
    folder = str(tmp_path / "run")
    command = [sys.executable, "-c", KILLED, data, folder]
    for rate, reached in (("01", "Iteration 2 ("), ("02", "Iteration 1 (")):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=experiment.ROOT)
        log = os.path.join(folder, "rates", rate, "caffe.log")
        while not (os.path.exists(log) and reached in read(log).decode()):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not run.Run(folder).snapshots() == trained.snapshots()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, cwd=experiment.ROOT).returncode == 0
    assert read(run.Run(folder).caffemodel()) == read(trained.caffemodel())
    assert plateau.history(run.Run(folder)) == plateau.history(trained)


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_given_weights_are_what_it_begins_with(tmp_path, data, one, trained):
    more = run.train(dataclasses.replace(one, solver=dict(one.solver, max_iter=4)), data, str(tmp_path / "run"),
                     trained.caffemodel(), Engine(1))
    assert os.path.exists(more.path("rates", "01", "initial.caffemodel"))
    assert plateau.history(more)[0].loss < plateau.history(trained)[0].loss
