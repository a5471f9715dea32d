"""Experiments: defaults, changes, and unknown or wrong keys."""
import os

import pytest

from data_prep.errors import UserError
from prototxt import experiment

NAME = "xie2019a/fer2013-toy-center-gabor"


@pytest.mark.parametrize("name", experiment.names())
def test_all_load(name):
    loaded = experiment.load(name)
    assert loaded.name == name and loaded.paper == name.split("/")[0]


def test_defaults_and_changes():
    assert experiment.load(NAME).losses["gabor"]["weight"] == 1e-6
    changed = experiment.load(NAME, ["losses.gabor.weight=1e-3", "solver.max_iter=7", "losses.gabor.gradient=exact"])
    assert changed.losses["gabor"]["weight"] == 1e-3
    assert changed.solver["max_iter"] == 7
    assert changed.losses["gabor"]["gradient"] == "exact"
    assert experiment.load(NAME).solver["max_iter"] == 1000


@pytest.mark.parametrize("change, said", [
    ("solver.max_ier=7", "--set solver.max_ier=7: expected KEY=VALUE with a key of the experiment"),
    ("solver=7", "expected KEY=VALUE"), ("max_iter=7", "expected KEY=VALUE"),
    ("solver.max_iter", "expected KEY=VALUE"), ("solver.max_iter.x=7", "expected KEY=VALUE"),
    ("solver.max_iter=many", "'many' is no number"), ("losses.sift.weight=1", "expected KEY=VALUE")])
def test_wrong_changes_are_named(change, said):
    with pytest.raises(UserError) as error:
        experiment.load(NAME, [change])
    assert said in str(error.value)


def test_unknown_experiment_lists_the_known():
    with pytest.raises(UserError, match="no experiment 'xie2019a/vgg'; there are: .*toy-softmax"):
        experiment.load("xie2019a/vgg")


@pytest.mark.parametrize("text, said", [
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlr: 1", "unknown key 'lr'"),
    ("title: t\nsource: s\ndata: fer2013", "missing net"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {sphere: {}}", "losses: unknown key 'sphere'"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {gabor: {lambda: 1}}",
     "losses: gabor: unknown key 'lambda'"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {gabor: {weight: 1e-6}}",
     "weight is '1e-6', expected a number"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nsolver: {epochs: 1}", "solver: unknown key 'epochs'")])
def test_wrong_files_are_named(tmp_path, monkeypatch, text, said):
    with open(os.path.join(experiment.FOLDER, "xie2019a", "defaults.yml")) as stream:
        defaults = stream.read()
    (tmp_path / "xie2019a").mkdir()
    (tmp_path / "xie2019a" / "defaults.yml").write_text(defaults)
    (tmp_path / "xie2019a" / "own.yml").write_text(text)
    monkeypatch.setattr(experiment, "FOLDER", str(tmp_path))
    with pytest.raises(UserError) as error:
        experiment.load("xie2019a/own")
    assert "own.yml" in str(error.value) and said in str(error.value)
