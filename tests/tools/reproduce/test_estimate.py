"""What jobs take: the net that trains is measured, losses, updates and memory included."""
import json
import subprocess
import sys

import caffe
import pytest

from common import experiment, files
from common.errors import UserError
from common.experiment import ROOT
from data_prep import prepared_folder
from prototxt import build, nets
from tools.cli import reproduce
from tools.reproduce import estimate, jobs, plan
from tools.reproduce.estimate import Cost, Costs, Estimate, Estimator
from tools.training.caffe_process import Engine

# Trains in a process of its own, and says the most memory that `caffe train` took, in KiB.
TRAIN = """
import json, resource, sys
from common import experiment
from tools.training import run
from tools.training.caffe_process import Engine
name, changes, data, out = json.loads(sys.argv[1])
run.train(experiment.load(name, changes), data, out, None, Engine(1))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_step_goes_backward_and_its_memory_is_that_of_caffe_train(tmp_path, data):
    name = "xie2019a/fer2013-toy-center-gabor"
    changes = ["solver.batch_size=24", "solver.max_iter=3", "solver.test_interval=3", "solver.snapshot=3"]
    estimator = Estimator(Engine(1))
    found = estimator.training(experiment.load(name, changes), data)
    costs, = estimator._costs.values()
    # Going backward takes about twice what going forward does.
    assert 1.8 < costs.step.seconds_of(24) / 24 / costs.test.each_second < 8
    # Center and feature loss have Caffe's own passes around them: they are in the net that was measured.
    done = subprocess.run([sys.executable, "-c", TRAIN, json.dumps([name, changes, data, str(tmp_path / "run")])],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, check=True, encoding="utf-8")
    taken = 1024 * int(done.stdout.splitlines()[-1])
    assert 0.8 < (found.memory - estimate.PYTHON) / taken < 1.25


@pytest.mark.parametrize("name, wanted", (
    # 512 x 5 x 5 values of z; 8 x 8 and 7 x 7 blocks, six values each; six positives and six negatives, or two and six.
    ("xie2019a/fer2013-toy-center-gabor", {"data": (1, 1, 48, 48), "label": (1,), "gabor": (1, 12800)}),
    ("xie2019a/fer2013-center-norm-gsf", {"data": (1, 1, 227, 227), "label": (1,), "gsf": (1, 384)}),
    ("xie2019a/fer2013-center-norm-sift", {"data": (1, 1, 227, 227), "label": (1,), "sift": (1, 294)}),
    ("liu2017/ckplus-2b-nm", {"data": (12, 1, 48, 48), "label": (12,)}),
    ("liu2017/ckplus-2b-n1", {"data": (8, 1, 48, 48), "label": (8,)}),
    ("liu2017/fer2013-softmax", {"data": (1, 1, 48, 48), "label": (1,)}),
    ("farzaneh2021/raf_db-dacl", {"data": (1, 3, 224, 224), "label": (1,)}),
    ("wu2023/ckplus-ndf", {"data": (1, 3, 224, 224), "label": (1,), "reference": (1, 3, 224, 224)})))
def test_inputs_in_place_of_data_layers(name, wanted):
    chosen = experiment.load(name)
    data = build.expected(chosen)
    net = estimate.with_inputs(nets.train_val(chosen, data), nets.inputs(chosen, data))
    inputs = {layer.top[0]: layer.input_param.shape[0].dim for layer in net.layer if layer.type == "Input"}
    assert {name: tuple(shape) for name, shape in inputs.items()} == wanted
    assert [layer.type for layer in net.layer if "loss" in layer.name]
    assert not [layer for layer in net.layer if any(rule.phase == caffe.TEST for rule in layer.include)]


def test_a_larger_batch_lies_on_the_line():
    cost = Cost(4, 2.0, 100.0, 0.25, 10.0)
    assert (cost.seconds_of(4), cost.seconds_of(12), cost.bytes_of(12)) == (2.0, 4.0, 180.0)


@pytest.mark.parametrize("name, changes, seconds, snapshots", (
    # 20000 steps of 64 images, 1 s and a tenth for each further image than 60; 20 tests of 3589 images' ten crops.
    ("xie2019b/fer2013-softmax", (), 20000 * 1.4 + 20 * 35890 * 0.01, 20 * 2),
    # Each round's training and two trials; the trials are judged on the validation split, and one of three is tested.
    ("xie2019a/fer2013-alaw", ["weighting.rounds=2", "weighting.restart_iterations=1000"],
     3 * 2000 * 1.4 + (2 + 2 * 2) * 35890 * 0.01, 2),
    # 150 epochs of 12271 images, six paces of 25, with 50, 60 ... 100 % of each class; before each pace all are judged.
    ("wu2023/raf_db-spndl-without-neutral", ("solver.batch_size=64",), None, 6)))
def test_expected_of_what_is_published(monkeypatch, name, changes, seconds, snapshots):
    monkeypatch.setattr(Estimator, "_of", lambda *_: Costs(Cost(60, 1, 5e9, 0.1, 1e7), Cost(32, 1, 1e9, 0.01, 1e6), 10))
    found = Estimator(Engine(1)).expected_training(experiment.load(name, list(changes)))
    if seconds is None:
        steps = 25 * 12271 * (0.5 + 0.6 + 0.7 + 0.8 + 0.9 + 1) / 64
        assert found.seconds == pytest.approx(steps * 1.4 + 6 * 12271 * 0.01, rel=0.01)
    else:
        assert found.seconds == pytest.approx(seconds)
    assert found.bytes == 10 * snapshots
    assert found.memory > 5e9 + 4e7


def job(title, command, makes, memory):
    return plan.Job(title, command, [], [makes], makes + ".log", 1, lambda _: Estimate(1, 0, memory))


def made(*jobs):
    return plan.Plan({}, list(jobs), [], {}, {}, [], {})


def test_a_job_that_memory_is_too_small_for_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jobs.machine, "memory", lambda: (4 * 10 ** 9, 10 ** 9))
    out = tmp_path / "out"
    wanted = plan.Request((), {}, str(out))
    large = job("train large", ["false"], str(out / "x"), 31 * 10 ** 8 * 10)
    with pytest.raises(UserError, match="train large: needs about 31.0 GB of memory, but this machine has 4.0 GB"):
        jobs.run(made(large), wanted, 2)
    assert not (out / "plan.json").exists()
    reproduce._print_preview(made(large), wanted, 2)
    assert "31.0 GB of memory, more than the 4.0 GB of this machine\n" in capsys.readouterr().out


# Fails where another one is at work.
ALONE = "mkdir {0}/at-work && sleep 0.5 && rmdir {0}/at-work && touch {0}/{1}"


@pytest.mark.parametrize("free, alone", ((1000, True), (1500, False)))
def test_as_many_jobs_side_by_side_as_memory_is_enough_for(tmp_path, monkeypatch, free, alone):
    monkeypatch.setattr(jobs.machine, "memory", lambda: (2 * 10 ** 9, free * 10 ** 6))
    measured = [job(name, ["sh", "-c", ALONE.format(tmp_path, name)], str(tmp_path / name), 6 * 10 ** 8)
                for name in ("one", "two")]
    failed = jobs.run(made(*measured), plan.Request((), {}, str(tmp_path)), 2)
    assert [one["mem_mb"] for one in files.read_json(str(tmp_path / "plan.json"))] == [600, 600]
    assert bool(failed) is not alone


def test_evaluations_and_machines_have_memory_too(tmp_path):
    estimator = Estimator(Engine(2), seconds=0)
    chosen = experiment.load("xie2019a/fer2013-toy-softmax")
    note = {"folds": [], "classes": ["c"] * 7, "records": {"train": 70, "val": 14, "test": 70}, "shape": [1, 48, 48],
            "class_counts": {"train": [10] * 7}, "counts": {"train": 10000, "val": 10, "test": 10},
            "manifest": "m", "asked": {}}
    files.write_json(str(tmp_path / prepared_folder.NOTE), note)
    one, two = (Estimator(Engine(threads), seconds=0).predicting(chosen, str(tmp_path), "test") for threads in (1, 2))
    costs = Estimator(Engine(1), seconds=0)._of(chosen, build.expected(chosen))
    # A second process has its own blobs: of an image conv1's 128 maps of 16 x 16 at least, 32 images at a time.
    assert two.memory - one.memory > 32 * 4 * 128 * 16 * 16
    # conv1, conv2, FC1 and FC2 of III-B, in float32.
    assert costs.weights == 4 * (128 * 10 + 128 + 512 * (128 * 4 + 1) + 512 + 384 * 12801 + 7 * 385)
    assert 10000 ** 2 * 16 < estimator.svm(str(tmp_path)).memory < 10000 ** 2 * 32
    assert estimator.responding(chosen, str(tmp_path)).memory - two.memory == pytest.approx(70 * 20 * 12800, abs=1e8)
