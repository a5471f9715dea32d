"""Stages: each with the weights of the one before, skipped where there are no data."""
import dataclasses
import os

import pytest

from common import experiment, files
from common.errors import UserError
from tests import small_data
from tools.cli import main
from tools.training import caffe_log, pretraining, run, snapshots
from tools.training.caffe_process import Engine

SMALL = ["solver.batch_size=3", "solver.max_iter=4", "solver.test_interval=2", "solver.snapshot=2", "solver.display=1"]
HEAD = {"branches": 2, "fc1": 32, "fc2": 16, "fc4": 16}


def quick(one):
    return dataclasses.replace(one, net="inception_narrow", head=HEAD, halving={})


@pytest.fixture
def small(monkeypatch):
    """The experiments, with few steps and a narrow net."""
    load = experiment.load
    monkeypatch.setattr(experiment, "load", lambda name, changes=(): quick(load(name, SMALL)))
    return experiment.load("liu2017/sfew-2b-nm")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same faces stand for two data sets."""
    folder = tmp_path_factory.mktemp("data")
    prepared = small_data.with_subjects(folder)
    for name in ("fer2013-liu2017", "multi_pie-liu2017", "sfew-liu2017"):
        os.symlink(prepared, str(folder / name))
    return folder


def test_each_stage_begins_with_the_best_of_the_one_before(tmp_path, capfd, data, small):
    weights = pretraining.train(small, str(data), str(tmp_path), Engine(1))
    second = run.Run(str(tmp_path / "liu2017-multi_pie-2b-nm"))
    assert os.path.dirname(weights) == second.path("snapshots")
    last = run.train(small, str(data / "sfew-liu2017"), str(tmp_path / "last"), weights, Engine(1))
    said = capfd.readouterr().out
    assert "stage liu2017/fer2013-softmax: " + str(tmp_path) in said and "skipped" not in said
    fresh = [line for line in said.splitlines() if line.startswith("start fresh")]
    assert fresh[0].startswith("start fresh 5: ") and set(fresh[0].split(": ")[1].split(", ")) == {
        "classifier_multi_pie", "fc3", "relu_fc3", "fc4", "clusters_loss"}
    assert fresh[1] == "start fresh 1: classifier_sfew"
    assert last.snapshots() == [2, 4]


def test_a_stage_without_data_is_skipped_and_said_to_be(tmp_path, capfd, data, small):
    (tmp_path / "data").mkdir()
    assert pretraining.train(small, str(tmp_path / "data"), str(tmp_path / "runs"), Engine(1)) is None
    said = capfd.readouterr().out
    for name in ("fer2013", "multi_pie"):
        assert f"skipped, no prepared data in {tmp_path}/data/{name}-liu2017" in said
    os.symlink(str(data / "fer2013-liu2017"), str(tmp_path / "data" / "fer2013-liu2017"))
    weights = pretraining.train(small, str(tmp_path / "data"), str(tmp_path / "runs"), Engine(1))
    assert "runs/liu2017-fer2013-softmax/snapshots" in weights


def test_the_best_is_the_first_snapshot_of_the_highest_accuracy(tmp_path, monkeypatch, data, small):
    one = run.train(small, str(data / "sfew-liu2017"), str(tmp_path / "run"), None, Engine(1))
    for accuracies, expected in (([.1, .3], 4), ([.3, .1], 2), ([.3, .3], 2)):
        monkeypatch.setattr(caffe_log, "curves", lambda path, found=accuracies: {
            "val accuracy": [(1, .9), (2, found[0]), (4, found[1])]})
        assert snapshots.iteration(one, snapshots.BEST) == expected
        assert pretraining.passed_on(one) == one.weights_of(expected)
    monkeypatch.setattr(caffe_log, "curves", lambda path: {"val accuracy": [(3, .9)]})
    with pytest.raises(UserError, match="no snapshot was tested, with solver.snapshot 2 and solver.test_interval 2"):
        snapshots.iteration(one, snapshots.BEST)


def test_an_experiment_without_stages_is_refused(tmp_path):
    with pytest.raises(UserError, match="liu2017/fer2013-softmax: has no stages before it"):
        pretraining.train(experiment.load("liu2017/fer2013-softmax"), str(tmp_path), str(tmp_path), Engine(1))


COMMAND = ["train", "liu2017/sfew-2b-nm", "--threads", "1", "--processes", "1"]


def test_by_the_command_line(tmp_path, capfd, data, small):
    """The stages lie beside RUN, and RUN begins with the last one's weights."""
    out = str(tmp_path / "runs" / "last")
    assert main.main(COMMAND + ["--data", str(data / "sfew-liu2017"), "--stages", str(data), "--out", out]) == 0
    said = capfd.readouterr().out
    assert sorted(os.listdir(str(tmp_path / "runs"))) == [
        "last", "liu2017-fer2013-softmax", "liu2017-multi_pie-2b-nm"]
    assert said.endswith(f"trained: {out}/snapshots/iter_4.caffemodel\n")
    second = run.Run(str(tmp_path / "runs" / "liu2017-multi_pie-2b-nm"))
    assert run.Run(out).info["weights"] == files.digest(pretraining.passed_on(second))


@pytest.mark.parametrize("changed, said", [
    (["--weights", __file__], "--weights and --stages cannot be used together"),
    (["--data", "nowhere"], "nowhere: no prepared data here")])
def test_wrong_command_lines_are_refused_before_a_stage_is_trained(tmp_path, monkeypatch, capsys, data, small,
                                                                   changed, said):
    monkeypatch.chdir(tmp_path)
    assert main.main(COMMAND + ["--data", "data", "--stages", str(data), "--out", "runs/last"] + changed) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fer: ") and said in lines[0]
    assert not os.path.exists("runs")


def test_stages_of_an_experiment_that_has_none_are_refused_with_a_line(tmp_path, monkeypatch, capsys, data):
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "xie2019a/fer2013-toy-softmax", "--data", str(data / "prepared"), "--stages", "data",
                     "--out", "r"]) == 1
    assert capsys.readouterr().err == "fer: xie2019a/fer2013-toy-softmax: has no stages before it\n"
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("asked, threads", (([], 1), (["--threads", "2"], 2)))
def test_stages_take_the_threads_that_are_told(tmp_path, monkeypatch, data, asked, threads):
    """By --threads, else by OPENBLAS_NUM_THREADS, as the training itself does."""
    given = []
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr(pretraining, "train", lambda last, folder, beside, engine: given.append(engine))
    monkeypatch.setattr("tools.cli.arguments.cores", lambda: 8)
    monkeypatch.setattr("tools.training.groups.train", lambda *arguments: run.Run(str(tmp_path)))
    monkeypatch.setattr("tools.training.groups.runs", lambda one: [])
    assert main.main(["train", "liu2017/sfew-2b-nm", "--data", str(data / "sfew-liu2017"), "--stages", str(data),
                     "--out", str(tmp_path / "run")] + asked) == 0
    assert given == [Engine(threads)]
