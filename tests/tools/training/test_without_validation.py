"""Runs on data without a validation split: they train, are watched, evaluated, reported; some need one and say so."""
import pytest

from common import experiment, files
from common.errors import UserError
from tests import small_data
from tools.cli import main
from tools.training import caffe_log, run
from tools.training.caffe_process import Engine

CHANGES = ["solver.max_iter=4", "solver.snapshot=4", "solver.batch_size=8", "solver.display=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"), counts=(24, 0, 12))


@pytest.mark.parametrize("name", ("xie2019a/fer2013-toy-center-gabor", "xie2019b/fer2013-toy-v-l2"))
def test_the_whole_path(tmp_path, data, capsys, name):
    chosen = experiment.load(name, CHANGES)
    trained = run.train(chosen, data, str(tmp_path / "run"), None, Engine(1))
    assert trained.snapshots() == [4]
    with open(trained.path("solver.prototxt")) as stream:
        solver = stream.read()
    with open(trained.path("train_val.prototxt")) as stream:
        assert "TEST" not in stream.read() and "test_interval" not in solver
    assert "val accuracy" not in caffe_log.curves(trained.path("caffe.log"))
    assert main.main(["evaluate", trained.folder]) == 0
    assert files.read_json(trained.path("metrics.json"))["total"] == 12
    assert main.main(["watch", trained.folder, "--once"]) == 0
    assert main.main(["report", trained.folder]) == 0
    capsys.readouterr()
    assert main.main(["evaluate", trained.folder, "--split", "val"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name, why", (
    ("xie2019a/fer2013-toy-alaw", "its adaptive loss weights"),
    ("xie2019a/fer2013-toy-blaw", "its adaptive loss weights"),
    ("liu2017/fer2013-softmax", "the halving of its learning rate"),
    ("liu2017/sfew-1b-nm", "the choice of its weights")))
def test_what_needs_one_says_so(tmp_path, data, name, why):
    chosen = experiment.load(name)
    note = files.read_json(data + "/prepare.json")
    note = dict(note, shape=list(run.backbones.named(chosen.net).shape), features=["gabor", "gsf", "sift"])
    with pytest.raises(UserError, match=f"has no validation split, which {name} needs for {why}; `./fer prepare ...` "
                                        "makes one "
                                        "by --hold-out 0.1, of the training split"):
        run.require_fitting(chosen, run.parts.prepared(data, note), note)
    with pytest.raises(UserError, match="makes one by --validation fold$"):
        note["asked"]["validation"] = "none"
        run.require_fitting(chosen, run.parts.prepared(data, note), note)
