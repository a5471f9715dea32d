"""`./fer train RUN`: a run continues with all that it was begun with, and ends in the same bytes."""
import os
import shutil

import pytest

from common import experiment, files
from common.errors import UserError
from tests import small_data
from tests.tools.conftest import SMALL
from tools.cli import main
from tools.training import groups, run
from tools.training.caffe_process import Engine

NAME = "xie2019b/fer2013-toy-softmax"
# What differs from the experiment's own settings, all of which a continued run must keep.
CHANGES = [change for change in SMALL if "gabor" not in change] + [
    "solver.random_seed=7", "losses.center={}", "losses.center.weight=0.25", "head.normalize=fixed",
    "head.fc1=128"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, trained):
    """A run with its own settings, threads, weights and fresh layers, through the command line."""
    out = str(tmp_path_factory.mktemp("whole") / "run")
    assert main.main(["train", NAME, "--data", data, "--out", out, "--threads", "2", "--weights", trained.folder + "@8",
                      "--fresh-head", "--set", *CHANGES]) == 0
    return run.Run(out)


@pytest.fixture
def stopped(tmp_path, whole):
    """As after a kill between its second and its third snapshot."""
    shutil.copytree(whole.folder, str(tmp_path / "run"))
    one = run.Run(str(tmp_path / "run"))
    os.unlink(one.weights_of(12))
    return one


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_it_continues_from_its_last_snapshot_with_what_it_was_begun_with(stopped, whole, capsys):
    before = os.stat(stopped.weights_of(8)).st_mtime_ns
    assert main.main(["train", stopped.folder]) == 0
    assert capsys.readouterr().out == f"trained: {stopped.weights_of(12)}\n"
    assert os.stat(stopped.weights_of(8)).st_mtime_ns == before
    assert read(stopped.caffemodel()) == read(whole.caffemodel())
    assert stopped.info == whole.info
    # Written out, so that not both can lack the same.
    info = stopped.info
    assert (info["threads"], info["weights_from"]["iteration"], info["fresh_head"]) == (2, 8, ["fc1"])
    kept = info["experiment"]
    assert (kept["solver"]["random_seed"], kept["losses"], kept["head"]["normalize"]) == (
        7, {"center": {"weight": 0.25, "normalization": "batch"}}, "fixed")


def test_a_finished_run_is_left_as_it_is(whole, capsys):
    before = {name: read(whole.path(name)) for name in ("run.json", "snapshots/iter_12.caffemodel", "caffe.log")}
    assert main.main(["train", whole.folder + "/"]) == 0
    assert {name: read(whole.path(name)) for name in before} == before
    assert capsys.readouterr().out == f"trained: {whole.caffemodel()}\n"


def test_an_experiment_that_has_changed_since_does_not_matter(stopped, whole, monkeypatch):
    monkeypatch.setattr(experiment, "load", None)
    assert read(run.resume(stopped).caffemodel()) == read(whole.caffemodel())


@pytest.mark.parametrize("gone", ("the weights", "what was taken from them"))
def test_before_the_first_snapshot_it_begins_with_the_same_weights(tmp_path, data, whole, trained, gone):
    source = str(tmp_path / "w.caffemodel")
    shutil.copy(trained.weights_of(8), source)
    one = run.Run(str(tmp_path / "run"))
    shutil.copytree(whole.folder, one.folder)
    shutil.rmtree(one.path("snapshots"))
    files.write_json(one.path("run.json"), {**one.info, "weights_from": run.origin(source)})
    os.unlink(source if gone == "the weights" else one.path("initial.caffemodel"))
    assert read(run.resume(one).caffemodel()) == read(whole.caffemodel())
    assert one.info["fresh_head"] == ["fc1"]


@pytest.mark.parametrize("change", (os.unlink, lambda path: os.truncate(path, 100)))
def test_before_the_first_snapshot_weights_that_are_gone_are_named(tmp_path, whole, trained, change):
    source = str(tmp_path / "w.caffemodel")
    shutil.copy(trained.weights_of(8), source)
    one = run.Run(str(tmp_path / "run"))
    shutil.copytree(whole.folder, one.folder)
    shutil.rmtree(one.path("snapshots"))
    os.unlink(one.path("initial.caffemodel"))
    files.write_json(one.path("run.json"), {**one.info, "weights_from": run.origin(source)})
    change(source)
    with pytest.raises(UserError) as error:
        run.resume(one)
    assert str(error.value) == (f"{one.folder}: has no snapshot yet, and the weights that it begins with, {source}, "
                                "are gone or were changed; give the command that began it")


def test_data_that_were_prepared_anew_are_refused(tmp_path, small):
    data = small_data.prepared(tmp_path)
    one = run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    os.unlink(one.weights_of(12))
    note = files.read_json(data + "/prepare.json")
    files.write_json(data + "/prepare.json", {**note, "manifest": "another"})
    with pytest.raises(UserError, match="prepared: was prepared anew since .*/run was trained"):
        run.resume(one)


@pytest.mark.parametrize("words, option", (
    (["--data", "d"], "data"), (["--out", "o"], "out"), (["--weights", "w"], "weights"), (["--stages", "d"], "stages"),
    (["--fresh-head"], "fresh-head"), (["--seeds", "0"], "seeds"), (["--threads", "1"], "threads"),
    (["--set", "solver.max_iter=3"], "set")))
def test_it_takes_nothing_that_it_was_not_begun_with(whole, capsys, words, option):
    assert main.main(["train", whole.folder, *words]) == 1
    assert capsys.readouterr().err == (f"fer: {whole.folder}: continues as it was begun; leave out --{option}, or give "
                                       "an experiment instead\n")


def test_a_run_continues_where_it_was_begun_on_a_card_or_on_the_processor(tmp_path, whole, capsys, monkeypatch):
    monkeypatch.setattr(groups, "resume", lambda folder, processes, device: groups.open_(folder))
    on_card = run.Run(str(tmp_path / "card"))
    shutil.copytree(whole.folder, on_card.folder)
    files.write_json(on_card.path("run.json"), {**on_card.info, "gpu": "0"})
    group = groups.Group(str(tmp_path / "group"), "seeds", ["seed01", "seed02"])
    groups.begin(group)
    shutil.copytree(on_card.folder, group.path("seed02"))  # the first one has not begun
    another = "give --engine caffe as well to continue on another device\n"
    processor = f"fer: {whole.folder}: was begun on the processor; leave out --gpu; {another}"
    for folder, words, said in (
            (whole.folder, [], ""), (whole.folder, ["--gpu", "0"], processor),
            (on_card.folder, ["--gpu", "0"], ""), (on_card.folder, ["--gpu=0"], ""),
            (on_card.folder, [], f"fer: {on_card.folder}: was begun on card 0; continue it with --gpu 0; {another}"),
            (on_card.folder, ["--gpu", "1"],
             f"fer: {on_card.folder}: was begun on card 0; continue it with --gpu 0; {another}"),
            (group.folder, [], f"fer: {group.folder}: was begun on card 0; continue it with --gpu 0; {another}")):
        assert main.main(["train", folder, *words]) == (1 if said else 0)
        assert capsys.readouterr().err == said
    os.unlink(on_card.weights_of(12))
    assert main.main(["evaluate", on_card.folder]) == 1
    assert f"`./fer train {on_card.folder} --gpu 0` continues the training" in capsys.readouterr().err


def test_what_is_no_run_and_no_experiment(tmp_path, whole, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs(NAME)
    for words, status, said in (
            ([str(tmp_path)], 1, f"fer: {tmp_path}: no run here; `./fer train EXPERIMENT --data DIR --out {tmp_path}` "
             "makes one\n"),
            ([str(tmp_path), "--data", "d"], 1, f"fer: {tmp_path}: no run here; `./fer train EXPERIMENT --data DIR "
             f"--out {tmp_path}` makes one\n"),
            (["nothing"], 1, "fer: there is no experiment 'nothing'; `./fer experiments` lists them all; and no folder "
             "has this name\n"),
            ([whole.folder + "@8"], 1, f"fer: {whole.folder}@8: a run continues from its last snapshot; give "
             f"{whole.folder}, or an experiment with --weights {whole.folder}@8\n"),
            (["nothing", "--data", "d", "--out", "o"], 1, "fer: there is no experiment 'nothing'; `./fer experiments` "
             "lists them all; and no folder has this name\n"),
            # The name of an experiment is one, also where a folder has it.
            ([NAME], 2, "fer: the following arguments are required: --data, --out; see ./fer train --help\n"),
            ([NAME, "--data", "d"], 2, "fer: the following arguments are required: --out; see ./fer train --help\n")):
        try:
            assert main.main(["train", *words]) == status
        except SystemExit as end:
            assert end.code == status
        assert capsys.readouterr().err == said
