"""run.json: what is in it, and which ones are refused."""
import dataclasses
import json
import os

import pytest

from common import experiment, files
from common.errors import UserError
from tests.tools import hand_made
from tools.training import run
from tools.training.run import Run

ANEW = "; train anew with another --out, or use the version that trained it"
CHOSEN = experiment.load("xie2019a/fer2013-toy-softmax")


def noted(folder, info):
    one = Run(str(folder))
    files.claim(one.folder, "run")
    with open(one.path("run.json"), "w") as stream:
        stream.write(info if isinstance(info, str) else json.dumps(info))
    return one


def without(*keys):
    return {key: value for key, value in hand_made.info(CHOSEN).items() if key not in keys}


def of_experiment(**fields):
    return dict(hand_made.info(CHOSEN), experiment={
        key: value for key, value in dict(dataclasses.asdict(CHOSEN), **fields).items() if value != "no"})


@pytest.mark.parametrize("info, message", (
    (without("format"), "has no format number, so an earlier version trained this run" + ANEW),
    ([], "has no format number, so an earlier version trained this run" + ANEW),
    ("3", "has no format number, so an earlier version trained this run" + ANEW),
    (dict(without(), format=1), "has format 1, but this version reads format 2" + ANEW),
    (dict(without(), format="1"), "has format '1', but this version reads format 2" + ANEW),
    (without("manifest", "threads"), "lacks manifest, threads" + ANEW),
    (of_experiment(net="no", losses="no"), "its experiment lacks losses, net, unlike those of this version" + ANEW),
    (of_experiment(optimizer={}), "its experiment has optimizer, unlike those of this version" + ANEW),
    (dict(without(), experiment=None),
     "its experiment lacks data, head, losses, name, net, solver, source, title, weighting, unlike those of this "
     "version" + ANEW),
    ("{", "not JSON: "), ("\0", "not JSON: ")))
def test_what_this_version_cannot_read_is_refused_in_one_line(tmp_path, info, message):
    one = noted(tmp_path, info)
    for ask in (lambda: one.info, lambda: one.experiment, lambda: one.threads(1), lambda: one.caffemodel(),
                lambda: run.require_same(one, hand_made.info(CHOSEN))):
        with pytest.raises(UserError) as error:
            ask()
        assert str(error.value).startswith(one.path("run.json") + ": " + message) and "\n" not in str(error.value)


def test_what_an_experiment_did_not_have_then_has_its_default(tmp_path):
    one = noted(tmp_path, of_experiment(pacing="no", decision="no"))
    assert (one.experiment.pacing, one.experiment.decision) == ({}, "mean")
    assert one.experiment == CHOSEN


def test_it_is_read_once_and_again_when_it_was_written_anew(tmp_path, monkeypatch):
    one, paths = noted(tmp_path, hand_made.info(CHOSEN)), []
    original = files.read_json
    monkeypatch.setattr(files, "read_json", lambda path: paths.append(path) or original(path))
    assert [one.info["threads"] for _ in range(3)] == [1, 1, 1] and one.experiment.name == CHOSEN.name
    assert len(paths) == 1
    files.write_json(one.path("run.json"), hand_made.info(CHOSEN, threads=2))
    assert one.info["threads"] == 2 and len(paths) == 2
    os.unlink(one.path("run.json"))
    with pytest.raises(UserError, match="no run here"):
        one.info["threads"]


@pytest.mark.parametrize("passed_on, noted_as", (
    (None, None), ("", None), ("0123abc", {"commit": "0123abc", "clean": True}),
    ("0123abc-dirty", {"commit": "0123abc", "clean": False})))
def test_the_commit_comes_from_the_host(monkeypatch, passed_on, noted_as):
    monkeypatch.delenv("FER_COMMIT", raising=False)
    if passed_on is not None:
        monkeypatch.setenv("FER_COMMIT", passed_on)
    assert run.project() == noted_as


def test_a_run_may_continue_after_a_commit_and_not_with_other_threads(tmp_path):
    one = noted(tmp_path, hand_made.info(CHOSEN, project={"commit": "a", "clean": True}))
    os.makedirs(one.path("snapshots"))
    files.write_text(one.weights_of(2), "")
    assert run.require_same(one, hand_made.info(CHOSEN, project={"commit": "b", "clean": False}))
    with pytest.raises(UserError, match="whose threads was 1, not 2; give another --out"):
        run.require_same(one, hand_made.info(CHOSEN, threads=2))
