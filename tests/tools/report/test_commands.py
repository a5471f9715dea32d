"""The commands that the report prints make again what was made."""
import copy
import shlex
from dataclasses import asdict, replace

import pytest

from common import experiment, files
from data_prep import prepare, prepared_folder
from data_prep.settings import completed, of_note
from tests.tools import hand_made
from tools.cli import main
from tools.cli import prepare as cli_prepare
from tools.report import commands
from tools.report.entries import Entry
from tools.training import groups, run
from tools.training.caffe_process import Engine
from tools.training.run import Run

CHANGES = ["solver.batch_size=8", "solver.max_iter=2", "losses.gabor.weight=1e-5", "losses.gabor.gradient=exact",
           "solver.base_lr=0.0125"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("my runs")
    first = run.train(experiment.load("xie2019a/fer2013-toy-softmax", ["solver.max_iter=1", "solver.batch_size=4"]),
                      data, str(folder / "first"), None, Engine(1))
    return run.train(experiment.load("xie2019a/fer2013-toy-center-gabor", CHANGES), data, str(folder / "run"),
                     first.caffemodel(), Engine(1))


def options(command):
    program, *words = shlex.split(command)
    assert program == "./fer"
    return main.parse(words)


def test_a_run_s_commands(trained, data):
    files.write_json(trained.path("metrics-val.json"), {"total": 12})
    again = commands.again(Entry(trained, "t"))
    prepared, train, evaluate = map(options, again.commands)
    assert completed(cli_prepare.settings(prepared)) == of_note(prepared_folder.read_note(data))
    assert prepared.out == data
    assert (train.data, train.out, train.weights, train.seeds, train.threads, train.gpu) == (
        data, trained.folder, "MODEL.caffemodel", [], 1, None)
    assert sorted(train.set) == sorted(CHANGES[:2] + ["losses.gabor.weight=1e-05"] + CHANGES[3:])
    assert experiment.load(train.experiment, train.set) == trained.experiment
    assert (evaluate.folder, evaluate.split) == (trained.folder, "val")
    assert again.notes == ["MODEL.caffemodel is the caffemodel whose SHA-256 is {}.".format(
        trained.info["weights"])]


def test_another_engine(tmp_path, trained):
    """It was begun on Caffe, continued on PyTorch, and evaluated by both."""
    one = Run(str(tmp_path))
    files.write_json(one.path("run.json"), {**trained.info, "engine": "torch", "weights": None, "trained_before_on": [
        {"engine": "caffe", "gpu": None, "precision": "float32", "up_to": 1, "versions": {}}]})
    files.write_json(one.path("metrics-val.json"), {"total": 12, "engine": "torch"})
    files.write_json(one.path("metrics.json"), {"total": 12, "engine": "caffe"})
    again = commands.again(Entry(one, "t"))
    _, train, *evaluate = map(options, again.commands)
    assert train.engine == "torch"
    assert [(found.split, found.engine) for found in evaluate] == [("val", "torch"), (None, None)]
    assert again.notes == ["It was trained on caffe up to iteration 1, then torch; the command trains all on torch."]


@pytest.mark.parametrize("given", [
    prepare.Settings("synthetic", None, "plain", features=("gabor",)),
    prepare.Settings("fer2013", "/a b/fer2013.csv", "xie2019a", features=("gabor", "gsf"), geometry="literal",
                     features_of="face", seed=3),
    prepare.Settings("raf_db", "/raf", "farzaneh2021", features=(), encoding="png", hold_out=0.1),
    prepare.Settings("fer2013", "/f.csv", "liu2017", features=(), subjects="/who.csv", crops="whole"),
    prepare.Settings("folder", "/my", "plain", features=(), fold_count=5, folds=[1], subject_pattern=r"^(s\d+) ",
                     validation="none"),
    prepare.Settings("mmi", "/mmi", "xie2019b_whole", frames="deformation"),
    prepare.Settings("ckplus", "/ck", "xie2019a", features=("sift",), folds=[1, 3], template="/ck.json"),
    prepare.Settings("folder", "/photos", "plain", features=(), detect="largest"),
    prepare.Settings("folder", "/photos", "plain", features=(), detect="all", template="/ck.json")])
def test_a_preparation_is_asked_for_again(tmp_path, given):
    files_of_it = {key: getattr(given, key) for key in ("source", "subjects", "template")}
    without = dict.fromkeys(files_of_it)
    asked = replace(completed(replace(given, **without)), **files_of_it)
    data = tmp_path / "data" / "fold01" if given.folds else tmp_path / "data"
    files.write_json(str(data / "prepare.json"), {"asked": dict(asdict(asked), source_digest=None)})
    found = options(commands._line(commands._prepare(str(data))))
    again = cli_prepare.settings(found)
    assert completed(replace(again, **without)) == replace(asked, features=list(asked.features), **without)
    assert {key: getattr(again, key) for key in files_of_it} == files_of_it
    assert found.out == str(tmp_path / "data")


def test_seeds_and_folds_are_one_command(tmp_path, trained, data):
    """A group of seeds, each with two folds."""
    folds = tmp_path / "data"
    files.write_json(str(folds / "fold01" / "prepare.json"), prepared_folder.read_note(data))
    for seed in (5, 7):
        group = tmp_path / "group" / f"seed{seed:02d}"
        for fold in ("fold01", "fold02"):
            info = dict(copy.deepcopy(trained.info), data=str(folds / fold), weights=None)
            info["experiment"]["solver"]["random_seed"] = seed
            files.write_json(str(group / fold / "run.json"), info)
        files.write_json(str(group / "group.json"), {"kind": "folds", "members": ["fold01", "fold02"]})
    files.write_json(str(tmp_path / "group" / "group.json"), {"kind": "seeds", "members": ["seed05", "seed07"]})
    whole = Entry(groups.open_(str(tmp_path / "group")), "t")
    train = options(commands.again(whole).commands[1])
    assert (train.data, train.out, train.seeds) == (str(folds), str(tmp_path / "group"), [5, 7])
    assert not any("random_seed" in change for change in train.set)
    single = options(commands.again(Entry(whole.run, "t")).commands[1])
    assert (single.data, single.seeds) == (str(folds / "fold01"), []) and "solver.random_seed=5" in single.set
    assert commands.report([whole]) == "./fer report " + str(tmp_path / "group")
    assert commands.report([whole], "/a b.html") == f"./fer report {tmp_path / 'group'} --out '/a b.html'"


def test_what_no_setting_changes_is_named(tmp_path, trained):
    info = copy.deepcopy(trained.info)
    info["experiment"]["decision"] = "majority"
    del info["experiment"]["head"]["scale"]
    files.write_json(str(tmp_path / "run.json"), info)
    changes, unlike = commands.changed(Run(str(tmp_path)))
    assert unlike == ["head.scale", "decision"] and len(changes) == len(CHANGES)
    info["experiment"]["name"] = "xie2019a/forgotten"
    files.write_json(str(tmp_path / "run.json"), info)
    assert commands.changed(Run(str(tmp_path))) == ([], ["there is no experiment of that name"])


@pytest.mark.parametrize("asked", (["net=dlib_face"], ["net=dlib_face", "losses.center={}", "solver.max_iter=3"]))
def test_another_net_is_so_again(tmp_path, asked):
    files.write_json(str(tmp_path / "run.json"), hand_made.info(experiment.load("xie2019a/fer2013-softmax", asked)))
    assert commands.changed(Run(str(tmp_path))) == (asked, [])


def test_losses_that_were_added_and_removed_are_so_again(tmp_path):
    asked = ["losses.gabor=none", "losses.gsf={}", "losses.gsf.weight=0.5", "solver.max_iter=3"]
    files.write_json(str(tmp_path / "run.json"), hand_made.info(experiment.load(
        "xie2019a/fer2013-toy-center-gabor", asked)))
    changes, unlike = commands.changed(Run(str(tmp_path)))
    assert (sorted(changes), unlike) == (sorted(asked), [])
    assert experiment.load("xie2019a/fer2013-toy-center-gabor", changes) == Run(str(tmp_path)).experiment


def test_an_experiment_of_one_s_own_is_named_by_its_file(tmp_path):
    (tmp_path / "my own.yml").write_text("paper: xie2019a\ndata: mine\nnet: toy\n")
    mine = experiment.opened(str(tmp_path / "my own.yml"), ["losses.center={}", "solver.max_iter=3"])
    files.write_json(str(tmp_path / "run.json"), hand_made.info(mine))
    assert commands.changed(Run(str(tmp_path))) == (["losses.center={}", "solver.max_iter=3"], [])
    (tmp_path / "my own.yml").unlink()
    assert commands.changed(Run(str(tmp_path))) == ([], ["there is no experiment of that name"])


def test_every_committed_experiment_needs_no_change(tmp_path):
    files.claim(str(tmp_path), "run")
    for name in experiment.names():
        files.write_json(str(tmp_path / "run.json"), hand_made.info(experiment.load(name)))
        assert commands.changed(Run(str(tmp_path))) == ([], [])
