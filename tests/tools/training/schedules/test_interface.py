"""What all schedules have, and that no module looks past them at the settings."""
import ast
import dataclasses
import glob
import math
import os

import numpy as np
import pytest
import yaml

from common import experiment
from common.experiment import ROOT
from prototxt.builders.parts import Data
from tools.training import schedules
from tools.training.caffe_process import Segment
from tools.training.schedules import AdaptiveWeights, Cost, Plateau, SelfPaced, Single
from tools.training.schedules.self_paced import cross_entropy, select

SECTIONS = {"weighting": AdaptiveWeights, "pacing": SelfPaced, "halving": Plateau}
# Functions elsewhere that may look at them.
LOOK = {"common/experiment.py": {"is_one_training"}}
DATA = Data("data", 7, {"train": 70, "val": 20}, (1, 48, 48), [10] * 7)


def of(name, *changes):
    return schedules.of(experiment.load(name, changes))


def read(*parts):
    with open(os.path.join(ROOT, "experiments", *parts) + ".yml") as stream:
        return yaml.safe_load(stream)


def test_each_experiment_has_the_schedule_that_its_file_asks_for():
    kinds = {}
    for name in experiment.names():
        paper, file = name.split("/")
        own, defaults = read(paper, file), read(paper, "defaults")
        asked = [schedule for section, schedule in SECTIONS.items() if section in own]
        # Of halving a paper's defaults may say what its experiments on one data set have.
        if not asked and "halving" in defaults.get("data", {}).get(own["data"], {}):
            asked = [Plateau]
        kinds[name] = type(of(name))
        assert kinds[name] is (asked or [Single])[0], name
    assert set(kinds.values()) == {Single, *SECTIONS.values()}


def test_length_of_the_toy_nets():
    """[xie2019a] III-B trains them for "30000 epochs", read as iterations; adaptive ones as long. Synthetic
    faces less."""
    for name in experiment.names():
        data, net, _ = (name.split("/")[1] + "--").split("-", 2)
        if name.startswith("xie2019a/") and net == "toy":
            assert of(name).iterations(DATA) == {"fer2013": 30000, "synthetic": 1000}[data], name


@pytest.mark.parametrize("name, changes, iterations, cost, validated_for", (
    ("xie2019a/fer2013-toy-softmax", ["solver.max_iter=90", "solver.snapshot=40", "solver.test_interval=30"], 90,
     Cost(90, 3, 0, 3, True), ""),
    # Three trainings a round; 5 rounds of 2 trials are judged on 20 images each.
    ("xie2019a/fer2013-toy-alaw", ["weighting.rounds=5", "weighting.restart_iterations=8", "solver.test_interval=4"],
     40, Cost(120, 10, 200, 5, False), "its adaptive loss weights"),
    ("xie2019a/fer2013-toy-blaw", ["weighting.rounds=5", "weighting.restart_iterations=8", "solver.test_interval=4"],
     40, Cost(40, 10, 100, 5, False), "its adaptive loss weights"),
    # 5 and then 10 of the 10 images of each of 7 classes: 35 and 70; 2 and 3 epochs of them, 10 a step: 7 and 21.
    ("wu2023/synthetic-spndl", ["pacing.paces=2", "pacing.more=50", "pacing.epochs=5", "solver.batch_size=10",
                                "solver.test_interval=7"], 28, Cost(28, 4, 140, 2, False), ""),
    ("liu2017/fer2013-softmax", ["solver.max_iter=60", "solver.snapshot=20", "solver.test_interval=10"], 60,
     Cost(60, 6, 0, 3, True), "the halving of its learning rate"),
    ("liu2017/ckplus-2b-n1", ["solver.max_iter=60", "solver.snapshot=20", "solver.test_interval=10"], 60,
     Cost(60, 6, 0, 3, True), "the choice of its weights")))
def test_what_it_takes_by_hand(name, changes, iterations, cost, validated_for):
    schedule = of(name, *changes)
    assert schedule.iterations(DATA) == iterations
    assert (schedule.cost(DATA), schedule.validated_for) == (cost, validated_for)
    without = dataclasses.replace(DATA, counts={"train": 70})
    assert schedule.cost(without).tests == 0 and schedule.iterations(without) == iterations


@pytest.mark.parametrize("name, words", (
    ("xie2019a/fer2013-toy-softmax", "one training of 30000 iterations"),
    ("xie2019a/fer2013-toy-alaw", "30 rounds of 1000 iterations, after each of which the loss weights are adapted, by "
                                  "trials of each loss alone"),
    ("xie2019a/fer2013-toy-blaw", "30 rounds of 1000 iterations, after each of which the loss weights are adapted"),
    ("wu2023/ckplus-spndl", "6 paces with 50, 60, 70, 80, 90, 100 % of the training images of each class, 250 epochs "
                            "in total")))
def test_it_says_what_it_is(name, words):
    assert of(name).describe() == words


def test_all_say_what_they_are():
    for name in experiment.names():
        words = of(name).describe()
        assert words and not words.endswith(".") and "{" not in words, name


def test_progress_of_one_training(tmp_path):
    run = Segment(str(tmp_path))
    os.makedirs(run.path("snapshots"))
    open(run.weights_of(20), "w").close()
    progress = of("xie2019a/fer2013-toy-softmax").progress(run, 90, lambda segment: 25)
    assert (progress.position, progress.iteration, progress.done, progress.work, progress.continues_from) == (
        "", 25, 25, 90, 20)
    assert (progress.adopted, progress.active) == ([], [run])


def reads(path, allowed=()):
    """Lines in which a module reads an attribute that has a schedule's settings. allowed: functions that may."""
    with open(path, encoding="utf-8") as stream:
        nodes = list(ast.walk(ast.parse(stream.read())))
    inside = {line for node in nodes if isinstance(node, ast.FunctionDef) and node.name in allowed
              for line in range(node.lineno, node.end_lineno + 1)}
    return [node.lineno for node in nodes if isinstance(node, ast.Attribute) and node.attr in SECTIONS
            and isinstance(node.ctx, ast.Load) and node.lineno not in inside]


def test_only_schedules_look_at_their_settings():
    found, looked_at = [], 0
    for folder in ("bench", "common", "data_prep", "layers", "prototxt", "published", "tools"):
        for path in glob.glob(os.path.join(ROOT, folder, "**", "*.py"), recursive=True):
            name = os.path.relpath(path, ROOT)
            if not name.startswith("tools/training/schedules/"):
                looked_at += 1
                found += [f"{name}:{line}" for line in reads(path, LOOK.get(name, ()))]
    assert looked_at > 100 and not found
    assert reads(os.path.join(ROOT, "tools/training/schedules/self_paced.py"))
    assert reads(os.path.join(ROOT, "common/experiment.py"))


def test_losses_by_scipy_select_the_same_samples():
    """As by the sum of exponentials below the highest score."""
    random = np.random.RandomState(7)
    for trial in range(40):
        count, classes = random.randint(20, 400), random.randint(2, 9)
        scores = (random.randn(count, classes) * 10 ** random.uniform(-2, 3)).astype(np.float32)
        if trial % 2:  # many equal ones
            scores = scores.round()
        labels = random.randint(classes, size=count)
        by_hand = np.array([math.fsum(math.exp(float(value) - float(row.max())) for value in row) for row in scores])
        by_hand = scores.max(axis=1).astype(float) + np.log(by_hand) - scores[np.arange(count), labels].astype(float)
        np.testing.assert_allclose(cross_entropy(scores, labels), by_hand, rtol=1e-12, atol=1e-12)
        highest = scores.astype(float).max(axis=1, keepdims=True)
        before = highest[:, 0] + np.log(np.exp(scores.astype(float) - highest).sum(axis=1)) - scores.astype(float)[
            np.arange(count), labels]
        for percentage in (50, 60, 90):
            np.testing.assert_array_equal(select(cross_entropy(scores, labels), labels, percentage),
                                          select(before, labels, percentage))
