"""Snapshots by name: which one is meant, what it is used for, and that its results do not replace those of the last."""
import os
import shutil

import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from data_prep import prepared_folder
from published import values
from tests.tools import hand_made
from tests.tools.conftest import SMALL
from tools.cli import main
from tools.evaluation import departures, evaluate, forward
from tools.training import chain, run, snapshots

NAME = "xie2019a/fer2013-toy-center-gabor"


@pytest.mark.parametrize("text, expected", (
    ("run", ("run", None)), ("run@500", ("run", 500)), ("run@best", ("run", "best")), ("run@0", ("run", 0)),
    ("run@500/", ("run", 500)), ("a@b/run", ("a@b/run", None)), ("a@b/run@best", ("a@b/run", "best")),
    # There is a folder and a file of these names.
    ("here@500", ("here@500", None)), ("here@500@7", ("here@500", 7)), ("w@5", ("w@5", None)),
    # Without a folder, the @ is a part of a name.
    ("none@other", ("none@other", None)), ("me@home.caffemodel", ("me@home.caffemodel", None)),
    ("@500", ("@500", None))))
def test_what_a_text_names(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "here", "here@500"):
        os.mkdir(folder)
    (tmp_path / "w@5").write_text("")
    assert snapshots.split(text) == expected


@pytest.mark.parametrize("word", ("", "last", "Best", "-5", "5.0", "5e2", "٥"))
def test_other_words_are_refused(tmp_path, word):
    with pytest.raises(UserError) as error:
        snapshots.split(f"{tmp_path}@{word}")
    assert str(error.value) == (
        f"{tmp_path}@{word}: names no snapshot; expected {tmp_path}@ITERATION or {tmp_path}@best")


@pytest.mark.parametrize("accuracies, expected", (
    ({2: .5, 4: .7, 6: .6}, 4), ({2: .7, 4: .7, 6: .6}, 2), ({2: .1, 4: .2, 6: .3}, 6),
    # Between two snapshots, and before training, Caffe tests too.
    ({0: .9, 2: .5, 3: .9, 4: .6, 5: .9}, 4)))
def test_the_best_is_the_first_of_the_highest(tmp_path, accuracies, expected):
    one = run.Run(hand_made.run(tmp_path / "run", NAME, iterations=(2, 4, 6)))
    hand_made.log(one.folder, [1.0], accuracies)
    assert snapshots.iteration(one, snapshots.BEST) == expected
    assert (snapshots.iteration(one, None), snapshots.iteration(one, 2)) == (6, 2)


def test_the_best_of_several_trainings_counts_the_iterations_of_the_run(tmp_path):
    """Two trainings of 10 iterations: the second one's iteration 10 is the run's 20."""
    one = run.Run(hand_made.run(tmp_path / "run", NAME, iterations=(10, 20)))
    files.write_json(one.path(chain.FILE), [["first", 0, 10], ["second", 10, 20]])
    hand_made.log(tmp_path / "run" / "first", [1.0], {10: .4})
    hand_made.log(tmp_path / "run" / "second", [1.0], {5: .9, 10: .5})
    assert snapshots.iteration(one, snapshots.BEST) == 20


def test_without_a_test_on_validation_there_is_no_best(tmp_path):
    one = run.Run(hand_made.run(tmp_path / "run", NAME, iterations=(2, 4)))
    for log in (None, {3: .5}, {}):
        if log is not None:
            hand_made.log(one.folder, [1.0], log)
        with pytest.raises(UserError, match="run: no snapshot was tested, with solver.snapshot 1000 and "
                                            "solver.test_interval 1000, or the data have no validation split"):
            snapshots.iteration(one, snapshots.BEST)


@pytest.fixture
def copied(tmp_path, trained):
    shutil.copytree(trained.folder, str(tmp_path / "run"))
    return run.Run(str(tmp_path / "run"))


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def right(one, iteration, split="test"):
    """How many of the 12 faces are right, from one forward pass over all of them."""
    part = forward.read(one.info["data"], prepared_folder.read_note(one.info["data"]), split)
    prob = forward.of_split(one.experiment, part, one.path("deploy.prototxt"), one.weights_of(iteration), ["prob"])
    return int((prob["prob"].reshape(12, 7).argmax(axis=1) == part.labels).sum())


def test_an_evaluation_of_a_snapshot_has_files_of_its_own(copied, capsys):
    assert main.main(["evaluate", copied.folder]) == 0
    last = {name: read(copied.path(name)) for name in ("metrics.json", "decisions-test.csv")}
    before = set(os.listdir(copied.folder))
    capsys.readouterr()
    assert main.main(["evaluate", copied.folder + "@4"]) == 0
    of_4 = right(copied, 4)
    assert capsys.readouterr().out == f"test (iteration 4): {of_4} of 12 images correct, {100 * of_4 / 12:.2f}%\n"
    assert set(os.listdir(copied.folder)) - before == {"metrics@4.json", "decisions-test@4.csv"}
    metrics = files.read_json(copied.path("metrics@4.json"))
    assert (metrics["correct"], metrics["iterations"]) == (of_4, [4])
    assert main.main(["evaluate", copied.folder + "@best", "--split", "val"]) == 0
    best = files.read_json(copied.path("metrics-val@best.json"))
    # Of the three snapshots, by Caffe's own tests.
    assert best["correct"] == right(copied, best["iterations"][0], "val") and best["iterations"][0] in (4, 8, 12)
    assert capsys.readouterr().out.startswith(
        f"val (best on the validation split, iteration {best['iterations'][0]}): ")
    assert {name: read(copied.path(name)) for name in last} == last
    assert files.read_json(copied.path("metrics.json"))["iterations"] == [12]


def test_a_run_that_begins_anew_removes_the_results_of_snapshots(copied, data):
    for name in ("metrics@4.json", "metrics-val@best.json", "metrics-on-x-y@4.json", "decisions-test@4.csv",
                 "report@4.html", "mine@4.json"):
        files.write_text(copied.path(name), "")
    shutil.rmtree(copied.path("snapshots"))
    run.train(experiment.load(NAME, [*SMALL, "solver.max_iter=4"]), data, copied.folder, None, run.Engine(1))
    assert [name for name in sorted(os.listdir(copied.folder)) if "@" in name] == ["mine@4.json"]


@pytest.mark.parametrize("word, said", (
    ("@5", "run: no snapshot of iteration 5; it has 4, 8, 12\n"), ("@bset", "run@bset: names no snapshot; expected "),
    ("@", "run@: names no snapshot; expected ")))
@pytest.mark.parametrize("command", (["evaluate"], ["predict"]))
def test_a_snapshot_that_is_not_there_is_named(copied, capsys, command, word, said):
    assert main.main([*command, copied.folder + word, *["x.png"] * (command == ["predict"])]) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and "continues the training" not in told


def test_a_run_that_has_not_ended_says_how_it_continues(copied, capsys):
    os.unlink(copied.weights_of(12))
    assert main.main(["evaluate", copied.folder]) == 1
    assert capsys.readouterr().err == (f"fer: {copied.folder}: no snapshot of iteration 12; it has 4, 8. "
                                       f"`./fer train {copied.folder}` continues the training\n")
    # What it has can be evaluated.
    assert main.main(["evaluate", copied.folder + "@8"]) == 0


def test_a_long_list_of_snapshots_stays_short(tmp_path):
    one = run.Run(hand_made.run(tmp_path / "run", NAME, iterations=range(1, 101)))
    with pytest.raises(UserError) as error:
        one.caffemodel(500)
    assert str(error.value).endswith("no snapshot of iteration 500; it has 1, 2, 3, 4, ..., 97, 98, 99, 100")


@pytest.mark.parametrize("command", (["watch", "RUN", "--once"], ["respond-ratio", "RUN"],
                                     ["features", "--svm", "--run", "RUN"]))
@pytest.mark.parametrize("word", ("@4", "@best"))
def test_other_commands_refuse_a_snapshot(copied, capsys, command, word):
    assert main.main([part.replace("RUN", copied.folder + word) for part in command]) == 1
    assert capsys.readouterr().err == "fer: {}{}: {} takes a run, not one of its snapshots; give {}\n".format(
        copied.folder, word, command[0], copied.folder)


def test_every_snapshot_is_not_one(copied, capsys):
    for word in ("@4", "@best"):
        assert main.main(["evaluate", copied.folder + word, "--every-snapshot"]) == 1
        assert "--every-snapshot evaluates all snapshots of a run" in capsys.readouterr().err


GSF = "xie2019a/fer2013-center-norm-gsf"


@pytest.mark.parametrize("snapshot, found", (
    (None, None), (30, None), (20, "iteration 20"), ("best", "best on the validation split, iteration 10")))
def test_a_figure_of_another_snapshot_is_not_compared(tmp_path, snapshot, found):
    """The last one is 30; whoever names it gets the same weights."""
    one = run.Run(hand_made.run(tmp_path / "run", GSF, iterations=(10, 20, 30)))
    hand_made.log(one.folder, [1.0], {10: .6, 20: .5, 30: .4})
    told = [departure for departure in departures.of_figure(values.of_experiment(GSF, "test"), [one], snapshot=snapshot)
            if departure.what == "snapshot"]
    assert told == ([departures.Departure("snapshot", found, "the last one")] if found else [])


def test_each_run_of_a_group_has_its_own_best_one(tmp_path):
    runs = [run.Run(hand_made.run(tmp_path / str(best), GSF, iterations=(10, 20))) for best in (10, 20)]
    for one, best in zip(runs, (10, 20)):
        hand_made.log(one.folder, [1.0], {10: .5, 20: .5 + (best - 15) / 100})
    told = departures.of_figure(values.of_experiment(GSF, "test"), runs, snapshot="best")
    assert departures.Departure("snapshot", "best on the validation split, iterations 10, 20", "the last one") in told


def test_weights_of_another_run_are_told_with_their_iteration(tmp_path):
    """The paper's net began with a face model, which no run of this project is."""
    source = run.Run(hand_made.run(tmp_path / "source", NAME, iterations=(2, 4)))
    begun = run.Run(hand_made.run(tmp_path / "run", GSF))
    files.write_json(begun.path("run.json"), {
        **begun.info, "weights": "0" * 64, "weights_from": run.origin(source.weights_of(2)),
        "fresh_head": ["fc1", "fc2"]})
    told = [str(departure) for departure in departures.of_runs([begun])]
    assert f"weights: those of {NAME}, iteration 2 (paper: face_model.caffemodel)" in told
    assert "layers that start afresh: fc1, fc2 (paper: none)" in told
    # A file may be the paper's.
    files.write_json(begun.path("run.json"), {
        **begun.info, "weights_from": run.origin(str(tmp_path / "face_model.caffemodel")), "fresh_head": []})
    assert not any(departure.what in ("weights", "layers that start afresh")
                   for departure in departures.of_runs([begun]))


def test_where_weights_come_from(tmp_path):
    source = run.Run(hand_made.run(tmp_path / "source", NAME, iterations=(2, 4)))
    path = source.weights_of(2)
    assert run.origin(path) == {"path": path, "experiment": NAME, "iteration": 2}
    os.makedirs(str(tmp_path / "other" / "snapshots"))
    shutil.copy(path, str(tmp_path / "other" / "snapshots"))
    for moved in (tmp_path / "other" / "snapshots" / "iter_2.caffemodel", tmp_path / "w.caffemodel"):
        assert run.origin(str(moved)) == {"path": str(moved), "experiment": None, "iteration": None}


def test_group_metrics_of_a_snapshot(tmp_path, trained, capsys):
    """Two folds whose best snapshots differ: 8 and 4."""
    runs = [run.Run(shutil.copytree(trained.folder, str(tmp_path / name))) for name in ("fold01", "fold02")]
    hand_made.group(tmp_path, "folds")
    for one, log in zip(runs, ({4: .1, 8: .3, 12: .2}, {4: .3, 8: .2, 12: .1})):
        hand_made.log(one.folder, [1.0], log)
    expected = right(trained, 8) + right(trained, 4)
    assert main.main(["evaluate", str(tmp_path) + "@best"]) == 0
    assert capsys.readouterr().out.startswith(
        f"test (best on the validation split, iterations 8, 4): {expected} of 24 images correct")
    metrics = files.read_json(str(tmp_path / "metrics@best.json"))
    assert (metrics["iterations"], metrics["correct"]) == ([8, 4], expected)
    assert not os.path.exists(str(tmp_path / "metrics.json"))
    decided = evaluate.predictions.read(str(tmp_path / "decisions-test@best.csv"))
    assert len(decided) == 24 and np.sum([one.right for one in decided]) == expected
