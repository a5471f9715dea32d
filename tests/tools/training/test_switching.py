"""A run that was begun on one engine and continues on the other."""
import dataclasses
import os
import shutil

import pytest

from common import experiment, files, machine
from common.errors import UserError
from common.machine import DEFAULT, Device
from tests.tools.conftest import SMALL
from tests.tools.training.test_engines import assert_same_weights
from tools.cli import main
from tools.evaluation import departures, evaluate
from tools.training import groups, run, switching
from tools.training.caffe_process import Engine

NAME = "xie2019a/fer2013-toy-center-gabor"
TORCH = Device("torch")


@pytest.fixture(scope="module")
def on_torch(tmp_path_factory, data, small):
    return run.train(small, data, str(tmp_path_factory.mktemp("torch") / "run"), None, Engine(1, TORCH))


@pytest.fixture(autouse=True)
def default_device(monkeypatch):
    """`main` sets the device of this process."""
    for name in (machine.ENGINE, machine.CARD, machine.PRECISION):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def stopped(whole, folder, *gone):
    """A copy of a run as after a kill, without the snapshots of some iterations."""
    shutil.copytree(whole.folder, str(folder))
    one = run.Run(str(folder))
    for iteration in gone:
        one.remove_snapshot(iteration)
    return one


def edit(one, **changes):
    files.write_json(one.path("run.json"), {**one.info, **changes})


@pytest.mark.parametrize("begun, goes_on", (("caffe", "torch"), ("torch", "caffe")))
def test_it_goes_on_from_its_last_snapshot(tmp_path, trained, on_torch, capsys, begun, goes_on):
    whole = {"caffe": trained, "torch": on_torch}
    one = stopped(whole[begun], tmp_path / "a run", 8, 12)
    kept, versions = files.digest(one.weights_of(4)), one.info["versions"]
    assert main.main(["train", one.folder, "--engine", goes_on]) == 0
    assert capsys.readouterr().out == (
        f"{one.folder}: was trained on {begun}, and continues on {goes_on} from iteration 4\n"
        f"trained: {one.weights_of(12)}\n")
    assert files.digest(one.weights_of(4)) == kept
    assert files.digest(one.weights_of(12)) != files.digest(whole[begun].weights_of(12))
    for engine in whole.values():
        assert_same_weights(one, engine)
    info = one.info
    assert (info["engine"], info["gpu"], info["precision"]) == (goes_on, None, "float32")
    assert info["trained_before_on"] == [
        {"engine": begun, "gpu": None, "precision": "float32", "up_to": 4, "versions": versions}]
    assert ("torch" in info["versions"]) == (goes_on == "torch")
    assert one.trained_on == f"{begun} up to iteration 4, then {goes_on}"
    assert one.engines == {"caffe", "torch"}
    # Given again, and stopped once more, it stays what it is now.
    one.remove_snapshot(12)
    assert main.main(["train", one.folder]) == 0
    assert capsys.readouterr().out == f"trained: {one.weights_of(12)}\n"
    assert one.info == info


def test_it_departs_from_the_paper(tmp_path, trained, on_torch):
    def found(one):
        return [departure for departure in departures.of_runs([one]) if departure.what == "engine"]
    assert found(trained) == []
    assert found(on_torch) == [departures.Departure("engine", "torch", "caffe")]
    one = stopped(trained, tmp_path / "run")
    edit(one, trained_before_on=[{"engine": "torch", "gpu": "0", "precision": "bf16", "up_to": 4, "versions": {}}])
    assert found(one) == [departures.Departure(
        "engine", "torch on card 0 in bf16 up to iteration 4, then caffe", "caffe")]
    older = stopped(trained, tmp_path / "older")
    files.write_json(older.path("run.json"), {key: value for key, value in older.info.items()
                                              if key not in ("engine", "precision")})
    assert found(older) == []


def test_an_older_run_continues_on_caffe(tmp_path, trained, small, data, capsys):
    """Its run.json names no engine."""
    one = stopped(trained, tmp_path / "run", 12)
    files.write_json(one.path("run.json"), {key: value for key, value in one.info.items()
                                            if key not in ("engine", "precision")})
    assert one.device == DEFAULT and one.trained_on == "caffe"
    assert main.main(["train", one.folder]) == 0
    assert files.digest(one.caffemodel()) == files.digest(trained.caffemodel())
    assert one.info["engine"] == "caffe"
    assert run.train(small, data, one.folder, None, Engine(1)).info == one.info


def test_the_command_that_begins_a_run_does_not_change_its_engine(tmp_path, data, trained, capsys):
    one = stopped(trained, tmp_path / "run", 12)
    before = {name: files.digest(one.path(name)) for name in ("run.json", "snapshots/iter_8.caffemodel")}
    words = ["train", NAME, "--data", data, "--out", one.folder, "--threads", "1", "--set", *SMALL]
    assert main.main(words + ["--engine", "torch"]) == 1
    assert capsys.readouterr().err == (f"fer: {one.folder}: belongs to another run, whose engine was caffe, not torch; "
                                       "give another --out\n")
    assert before == {name: files.digest(one.path(name)) for name in before}


def test_where_nothing_is_trained_yet_nothing_is_said_to_be(tmp_path, trained):
    one = stopped(trained, tmp_path / "run", 4, 8, 12)
    switching.change(one, TORCH)
    assert (one.device, one.trained_on, one.engines) == (TORCH, "torch", {"torch"})
    other = stopped(trained, tmp_path / "other", 12)
    switching.change(other, Device("torch", "0"))  # such as a card that is not there
    switching.change(other, TORCH)
    assert other.trained_on == "caffe up to iteration 8, then torch"
    switching.change(other, DEFAULT)
    assert (other.trained_on, other.engines, other.device) == ("caffe", {"caffe"}, DEFAULT)
    # A training inside of a schedule has a snapshot.
    inner = stopped(trained, tmp_path / "inner", 4, 8, 12)
    files.write_text(inner.path("rounds", "01", "gsf", "snapshots", "iter_2.caffemodel"), "")
    switching.change(inner, TORCH)
    assert inner.trained_on == "caffe up to iteration 0, then torch"


def test_a_finished_run_stays_what_it_is(tmp_path, trained, capsys):
    one = stopped(trained, tmp_path / "run")
    before = files.digest(one.path("run.json"))
    assert main.main(["train", one.folder, "--engine", "torch"]) == 0
    assert capsys.readouterr().out == f"trained: {one.weights_of(12)}\n"
    assert files.digest(one.path("run.json")) == before


def test_twice_there_and_back(tmp_path, trained):
    one = stopped(trained, tmp_path / "run", 8, 12)
    switching.change(one, TORCH)
    for iteration, device in ((8, DEFAULT), (9, TORCH)):
        files.write_text(one.weights_of(iteration), "")
        switching.change(one, device)
    assert one.trained_on == ("caffe up to iteration 4, then torch up to iteration 8, then caffe up to iteration 9, "
                              "then torch")


def test_what_the_device_refuses_is_one_line_and_the_run_can_go_on(tmp_path, trained, capsys):
    one = stopped(trained, tmp_path / "run", 12)
    assert main.main(["train", one.folder, "--engine", "torch", "--precision", "tf32"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"fer: {one.folder}: engine train ended with status 1: ")
    assert "-precision tf32 is for graphics cards (-gpu); on the processor, expected float32 or bf16" in error
    assert main.main(["train", one.folder, "--engine", "caffe"]) == 0
    assert one.trained_on == "caffe"
    assert files.digest(one.caffemodel()) == files.digest(trained.caffemodel())


def test_without_pytorch_the_run_stays_what_it_is(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    one = stopped(trained, tmp_path / "run", 12)
    before = files.digest(one.path("run.json"))
    assert main.main(["train", one.folder, "--engine", "torch"]) == 1
    assert capsys.readouterr().err == "fer: --engine torch: PyTorch is not installed\n"
    assert files.digest(one.path("run.json")) == before


def test_the_version_of_pytorch_is_that_of_its_package():
    found = run.versions(TORCH)["torch"]
    with open(run.importlib.util.find_spec("torch").submodule_search_locations[0] + "/version.py") as stream:
        assert f"'{found}'" in stream.read() and found[0].isdigit()


def begun_group(tmp_path, trained):
    """Seeds: the first one finished, the second one stopped, the third not begun."""
    group = groups.Group(str(tmp_path / "group"), "seeds", ["seed01", "seed02", "seed03"])
    groups.begin(group)
    for name, gone in (("seed01", ()), ("seed02", (12,))):
        one = stopped(trained, group.path(name), *gone)
        chosen = one.info["experiment"]
        edit(one, experiment={**chosen, "solver": {**chosen["solver"], "random_seed": int(name[-1])}})
    return group, [run.Run(group.path(name)) for name in group.members]


def test_a_group_goes_on_as_each_of_its_runs_does(tmp_path, trained, monkeypatch):
    """Also after it was switched to another engine, and stopped."""
    group, (first, second, third) = begun_group(tmp_path, trained)
    told = []

    def train(this, chosen, data, weights, digest, engine, processes, fresh_head):
        told.append((os.path.basename(this.folder), engine.device))
    monkeypatch.setattr(run, "_train", train)
    monkeypatch.setattr(groups.children, "in_order", lambda processes, start, arguments, work, jobs: map(work, jobs))

    def given(*words):
        told.clear()
        assert main.main(["train", group.folder, *words]) == 1  # the third run is still not there
        return dict(told)
    assert given() == {"seed01": DEFAULT, "seed02": DEFAULT, "seed03": DEFAULT}
    assert given("--engine", "torch") == {"seed01": DEFAULT, "seed02": TORCH, "seed03": TORCH}
    assert (first.trained_on, second.trained_on) == ("caffe", "caffe up to iteration 8, then torch")
    assert given() == {"seed01": DEFAULT, "seed02": TORCH, "seed03": TORCH}
    assert second.trained_on == "caffe up to iteration 8, then torch"


def test_what_a_first_round_has_trained_is_not_thrown_away(tmp_path, trained, data, small):
    one = stopped(trained, tmp_path / "run", 4, 8, 12)
    inner = one.path("rounds", "01", "training", "snapshots", "iter_4.caffemodel")
    os.makedirs(os.path.dirname(inner))
    shutil.copy(trained.weights_of(4), inner)
    with pytest.raises(UserError, match="belongs to another run, whose engine was caffe, not torch; give another"):
        run.train(small, data, one.folder, None, Engine(1, TORCH))
    assert os.path.exists(inner)


def test_a_run_of_torch_is_printed_with_its_options(tmp_path, on_torch, capsys):
    one = stopped(on_torch, tmp_path / "run", 12)
    edit(one, gpu="0,1", precision="bf16")
    assert main.main(["evaluate", one.folder]) == 1
    assert (f"`./fer train {one.folder} --engine torch --gpu 0,1 --precision bf16` continues the training"
            in capsys.readouterr().err)
    assert main.main(["train", one.folder]) == 1
    assert capsys.readouterr().err == (
        f"fer: {one.folder}: was begun on card 0,1; continue it with --engine torch --gpu 0,1 --precision bf16; give "
        "--engine torch as well to continue on another device\n")


def test_evaluated_by_another_engine(tmp_path, trained, capsys):
    one = stopped(trained, tmp_path / "run")
    by = {}
    for engine in ("caffe", "torch"):
        assert main.main(["evaluate", one.folder, "--split", "val", "--engine", engine]) == 0
        by[engine] = files.read_json(evaluate.metrics_path(one, "val"))
        assert by[engine].pop("engine") == engine
    same = [key for key, value in by["caffe"].items() if key not in ("auc", "roc")]
    assert {key: by["torch"][key] for key in same} == {key: by["caffe"][key] for key in same}
    assert departures.of_engine({"engine": "caffe"}) == departures.of_engine({}) == []
    assert departures.of_engine({"engine": "torch"}) == [departures.Departure("evaluated by", "torch", "caffe")]


def test_settings_that_differ_are_still_refused(tmp_path, on_torch, data, small):
    one = stopped(on_torch, tmp_path / "run", 12)
    for device, key in ((DEFAULT, "engine"), (Device("torch", "0"), "gpu"),
                        (Device("torch", None, "bf16"), "precision")):
        with pytest.raises(UserError, match=f"belongs to another run, whose {key} was"):
            run.train(small, data, one.folder, None, Engine(1, device))
    assert dataclasses.asdict(one.device).items() <= one.info.items()
    assert experiment.load(NAME, SMALL) == one.experiment
