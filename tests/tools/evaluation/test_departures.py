"""In what a run departs from its paper: each kind by itself, on notes written by hand."""
import dataclasses

import pytest

from common import experiment, files
from data_prep import alignment
from published import values
from tests.tools import hand_made
from tools.evaluation import departures, evaluate
from tools.reproduce import results
from tools.training.caffe_process import Engine
from tools.training.run import Run, described

FER = {"train": 28709, "val": 3589, "test": 3589}
CK = {"images": 1033, "units": 415, "subjects": 106}


def note(data, counts, published=None, folds=(), **asked):
    dataset, protocol = data.split("-")
    return {"asked": dict(dict(dataset=dataset, protocol=protocol, crops="xie2019a", geometry="literal",
                               features_of="crop", hold_out=0.0), **asked),
            "manifest": "of the images", "folds": list(folds), "found_counts": counts,
            "published_counts": published or counts}


def begun(folder, name, data, changes=(), weights=None, source="/gone/data", **info):
    run = Run(str(folder))
    chosen = experiment.load(name, changes)
    files.write_json(run.path("run.json"), hand_made.info(
        chosen, **{**described(chosen, source, data, weights, Engine(1)), **info}))
    files.write_json(run.path("data.json"), data)
    return run


def told(runs):
    return [dataclasses.astuple(departure) for departure in departures.of_runs(runs)]


@pytest.fixture
def fer():
    return note("fer2013-xie2019a", FER)


GSF = "xie2019a/fer2013-center-norm-gsf"


def test_nothing_departs(tmp_path, fer):
    assert told([begun(tmp_path / "run", GSF, fer, weights="0123456789abcdef0123")]) == []


@pytest.mark.parametrize("changes, asked, counts, found", (
    (["solver.max_iter=4", "losses.gsf.weight=1e-3"], {}, FER, [
        ("losses.gsf.weight", "0.001", "1e-06"), ("solver.max_iter", "4", "30000")]),
    # Neither changes the weights.
    (["solver.display=1", "solver.snapshot=5", "solver.test_interval=7"], {}, FER, []),
    (["solver.random_seed=3"], {}, FER, [("solver.random_seed", "3", "1")]),
    ([], {"crops": "whole"}, FER, [("crops", "whole", "xie2019a")]),
    ([], {"geometry": "compact"}, FER, [("geometry of the features", "compact", "literal")]),
    ([], {"features_of": "face"}, FER, [("features of", "face", "crop")]),
    ([], {"hold_out": 0.1}, FER, [("held out for validation", "10% of the training images", "none")]),
    ([], {}, dict(FER, train=4200), [("train images", "4200", "28709")]),
    # Parts that are not there are no departure: without them nothing of theirs is measured.
    ([], {}, dict(FER, val=0), []),
    ([], {"protocol": "liu2017", "crops": "xie2019a"}, FER, [("data", "fer2013-liu2017", "fer2013-xie2019a")])))
def test_settings_and_data(tmp_path, changes, asked, counts, found):
    data = note("fer2013-xie2019a", counts, FER, **asked)
    assert told([begun(tmp_path / "run", GSF, data, changes, "0" * 64)]) == found


@pytest.mark.parametrize("name, data, frames, found", (
    ("xie2019a/mmi-softmax", "mmi-xie2019a", "deformation", None),
    ("xie2019a/mmi-softmax", "mmi-xie2019a", "middle", ("middle", "deformation")),
    # Prepared before there was a choice.
    ("xie2019a/mmi-softmax", "mmi-xie2019a", None, ("middle", "deformation")),
    # "Three peak frames."
    ("xie2019b/mmi-l2", "mmi-xie2019b", "deformation", None), ("xie2019b/mmi-l2", "mmi-xie2019b", "middle", None),
    # "Three frames in the middle of each image sequence."
    ("liu2017/mmi-2b-nm", "mmi-liu2017", "middle", None), ("liu2017/mmi-2b-nm", "mmi-liu2017", None, None),
    ("liu2017/mmi-2b-nm", "mmi-liu2017", "deformation", ("deformation", "middle"))))
def test_frames_of_a_sequence(tmp_path, name, data, frames, found):
    asked = {} if frames is None else {"frames": frames}
    what = "frames of a sequence (middle, deformation)"
    given = told([begun(tmp_path / "run", name, note(data, {"images": 615}, **asked))])
    assert [one for one in given if "frames" in one[0]] == ([(what,) + found] if found else [])


def test_features_that_take_no_part_are_not_told(tmp_path):
    data = note("fer2013-xie2019a", FER, geometry="compact", features_of="face")
    assert told([begun(tmp_path / "run", "xie2019a/fer2013-softmax", data, weights="0" * 64)]) == []


def test_another_net(tmp_path, fer):
    found = dict((what, (here, paper)) for what, here, paper in told([begun(
        tmp_path / "run", GSF, fer, ["net=toy", "solver.max_iter=4"])]))
    assert found["net"] == ("toy", "face_resnet") and found["solver.max_iter"] == ("4", "30000")
    assert found["weights"] == ("none", "face_model.caffemodel")


def test_the_weights_of_another_net(tmp_path, fer):
    found = told([begun(tmp_path / "run", GSF, fer, ["net=dlib_face"], weights="0" * 64)])
    assert found == [("weights", "sha256 " + "0" * 16, "face_model.caffemodel"), ("net", "dlib_face", "face_resnet")]


def test_another_engine(tmp_path, fer):
    assert told([begun(tmp_path / "run", GSF, fer, weights="0" * 64, engine="torch")]) == [("engine", "torch", "caffe")]


@pytest.mark.parametrize("name, weights, found", (
    (GSF, None, [("weights", "none", "face_model.caffemodel")]),
    ("xie2019a/fer2013-toy-softmax", "0123456789abcdef0123", [("weights", "sha256 0123456789abcdef", "none")]),
    ("xie2019a/fer2013-toy-softmax", None, [])))
def test_weights(tmp_path, name, weights, found):
    data = note("fer2013-xie2019a" if name == GSF else "fer2013-plain", FER, crops="xie2019a" if name == GSF else
                "whole")
    assert told([begun(tmp_path / "run", name, data, weights=weights)]) == found


def test_an_experiment_that_is_there_no_more(tmp_path, fer):
    run = begun(tmp_path / "run", GSF, fer)
    info = run.info
    info["experiment"]["name"] = "xie2019a/of-long-ago"
    files.write_json(run.path("run.json"), info)
    assert told([run]) == [("experiment", "xie2019a/of-long-ago", "not among the experiments")]


def test_an_experiment_of_one_s_own_is_not_the_papers(tmp_path, fer):
    """Also if it has the settings, the data and the file name of one."""
    (tmp_path / "fer2013-center-norm-gsf.yml").write_text(
        "paper: xie2019a\ndata: fer2013-xie2019a\nnet: face_resnet\nlosses: {center: {}, gsf: {}}\n"
        "head: {normalize: fixed}\n")
    mine = experiment.opened(str(tmp_path / "fer2013-center-norm-gsf.yml"))
    run = begun(tmp_path / "run", GSF, fer, weights="0" * 64)
    files.write_json(run.path("run.json"), hand_made.info(mine, **described(mine, "/gone", fer, "0" * 64, Engine(1))))
    assert told([run]) == [("experiment", "xie2019a/fer2013-center-norm-gsf.yml", "not among the experiments")]
    assert evaluate.published([run], "test", 3589) is None


def test_added_and_removed_losses(tmp_path, fer):
    run = begun(tmp_path / "run", GSF, fer, ["losses.gsf=none", "losses.sift={}"], weights="0" * 64)
    found = told([run])
    assert ("losses.gsf.weight", "none", "1e-06") in found and ("losses.sift.weight", "1e-06", "none") in found


@pytest.mark.parametrize("layout", ("xie2019b-fer2013-w-l2", "xie2019b/fer2013-w-l2"))
def test_stages_bring_their_departures(tmp_path, fer, layout):
    """A pruned run begins with the one without, which `train --stages` and `reproduce` leave in other places."""
    stage = begun(tmp_path / layout, "xie2019b/fer2013-w-l2", fer, ["solver.max_iter=4", "solver.snapshot=4"])
    files.write_text(stage.weights_of(4), "weights")
    files.write_text(stage.path("snapshots", "iter_4.solverstate"), "state")
    name, folder = "xie2019b/fer2013-w-l2-cp", tmp_path / "xie2019b" / "fer2013-w-l2-cp"
    run = begun(folder, name, fer, ["solver.max_iter=4"], files.digest(stage.weights_of(4)))
    # The stage's own: its changed length is that of the run, and told once.
    assert told([run]) == [("xie2019b/fer2013-w-l2: weights", "none", "face_model.caffemodel"),
                           ("solver.max_iter", "4", "20000")]
    other = begun(folder, name, fer, weights="f" * 64)
    assert told([other]) == [("weights", "sha256 " + "f" * 16, "those of xie2019b/fer2013-w-l2")]
    none = begun(folder, name, fer)
    assert told([none]) == [("weights", "none", "those of xie2019b/fer2013-w-l2")]


def template(dataset):
    return {"dataset": dataset, "protocol": "plain", "faces": 675, "margins": dict.fromkeys(alignment.MARGINS, .3)}


def folds(tmp_path, count, found=CK, seeds=1, **settled):
    """Runs of folds of CK+, whose folder of data is there. settled: of the folds' notes."""
    names = [f"fold{fold:02d}" for fold in range(1, count + 1)]
    settled = settled or {"template": template("ckplus")}
    files.write_json(str(tmp_path / "data" / "prepare.json"), dict(
        note("ckplus-xie2019a", found, CK, names), **settled))
    fold = dict(note("ckplus-xie2019a", {"train": 800}, {"none": 0}, folds=()), published_counts={}, **settled)
    return [begun(tmp_path / str(seed) / name, "xie2019a/ckplus-center-norm-gsf", fold, weights="0" * 64,
                  source=str(tmp_path / "data" / name)) for seed in range(seeds) for name in names]


def test_folds(tmp_path):
    assert told(folds(tmp_path / "all", 10)) == []
    assert told(folds(tmp_path / "some", 3)) == [("folds", "3 of 10", "10")]
    assert told(folds(tmp_path / "fewer", 10, dict(CK, units=414))) == [("units", "414", "415")]
    assert told(folds(tmp_path / "seeds", 10, seeds=2)) == [("trainings", "2 with other seeds", "one")]


def test_a_template_of_other_faces_than_the_paper_s(tmp_path):
    """Data that do not tell theirs were aligned to the shipped one."""
    assert told(folds(tmp_path / "other", 10, template=template("mmi"))) == [("template", "of mmi", "of ckplus")]
    assert told(folds(tmp_path / "old", 10, template=None)) == [("template", "of fer2013", "of ckplus")]
    aligned = note("mmi-liu2017", {"images": 624}, {"images": 624}, crops="liu2017")
    assert departures.of_data(dict(aligned, template=template("fer2013")), "mmi-liu2017", ()) == []


def test_a_figure_of_other_images_or_tested_on_other_data(tmp_path, fer):
    run = begun(tmp_path / "run", GSF, fer, weights="0" * 64)
    figure = values.of_experiment(GSF, "test")
    assert departures.of_figure(figure, [run], 3589) == []
    assert departures.of_figure(figure, [run], 12) == [departures.Departure("images", "12", "3589")]
    tested = dataclasses.replace(figure, trained_on="fer2013-xie2019a", data="ckplus-xie2019b_whole", total=415,
                                 unit="sequence")
    assert departures.of_figure(tested, [run], 400, note("synthetic-plain", {}, crops="whole")) == [
        departures.Departure("test data", "synthetic-plain", "ckplus-xie2019b_whole"),
        departures.Departure("test crops", "whole", "xie2019b-ckplus"),
        departures.Departure("sequences", "400", "415")]


def test_what_an_evaluation_says_of_the_published_figure(tmp_path, fer):
    run = begun(tmp_path / "run", GSF, fer, weights="0" * 64)
    assert evaluate.published([run], "test", 3589) == {
        "value": "72.36", "correct": 2597, "total": 3589, "comparable": True, "departures": []}
    run = begun(tmp_path / "run", GSF, fer)
    assert evaluate.published([run], "test", 12) == {
        "value": "72.36", "correct": 2597, "total": 3589, "comparable": False, "departures": [
            {"what": "weights", "here": "none", "paper": "face_model.caffemodel"},
            {"what": "images", "here": "12", "paper": "3589"}]}


def test_a_run_without_its_parts_is_no_result(tmp_path, fer):
    run = begun(tmp_path / "run", GSF, fer)
    assert results.problem(run.folder) == "not measured"
