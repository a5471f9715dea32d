"""What the page takes from the runs of a paper whose figures it draws."""
import os
import re

import numpy as np
import pytest

from common import experiment, files
from tests import small_data
from tests.tools import small_pairs
from tools.evaluation import evaluate
from tools.evaluation.predictions import Decision, write
from tools.report import figures, html_page, pictures, training
from tools.report.entries import Entry
from tools.report.papers import of_papers, wu2023
from tools.training import groups, run
from tools.training.caffe_process import Engine
from tools.training.schedules import self_paced

STEPS = ["solver.max_iter=4", "solver.test_interval=2", "solver.display=1"]
RESNET = STEPS + ["solver.batch_size=6"]
TUPLETS = STEPS + ["solver.batch_size=2", "head.fc1=32", "head.fc2=16", "head.fc4=16", "tuplets.positives=3",
                   "tuplets.negatives=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("papers")


@pytest.fixture(scope="module")
def pairs(folder):
    return small_pairs.prepared(folder)


@pytest.fixture(scope="module")
def entry(folder, pairs):
    """Trains an experiment of the ResNets."""
    def train(name, *changes):
        trained = run.train(experiment.load(name, RESNET + list(changes)), pairs, str(folder / os.path.basename(name)),
                            None, Engine(1))
        return Entry(trained, trained.experiment.title)
    return train


@pytest.fixture(scope="module")
def paced(entry):
    return entry("wu2023/synthetic-spndl", "pacing.paces=3", "pacing.more=25", "pacing.epochs=3")


@pytest.fixture(scope="module")
def ndf(entry):
    return entry("wu2023/synthetic-ndf")


def titles(entries):
    return [re.search(r"\[(\w+)\] (Fig. \d)", figure.title).groups() for figure in of_papers.drawn(entries)]


def test_means_by_hand():
    assert training.mean([[(0, 1.0), (2, 3.0), (4, 9.0)], [(0, 3.0), (2, 5.0)]]) == [(0, 2.0), (2, 4.0)]
    assert training.mean([[(0, 1.0), (3, 2.0), (6, 3.0)], [(0, 9.0)]]) == [(0, 1.0), (3, 2.0), (6, 3.0)]
    assert training.mean([[], []]) == []
    assert training.by_pass([(0, 1.0), (3, 2.0), (4, 5.0), (9, 7.0)], 4) == [(4, 1.5), (8, 5.0), (12, 7.0)]


def test_training_loss_of_liu2017_is_the_folds_mean_of_each_pass(tmp_path):
    data = small_data.with_subjects(tmp_path)
    chosen = experiment.load("liu2017/synthetic-2b-nm", TUPLETS)
    group = groups.train(chosen, data, str(tmp_path / "group"), None, [1, 2], 1, None, 1)
    losses = [dict(training.curves(one)["train softmax_loss"]) for one in groups.runs(group)]
    assert list(losses[0]) == [0, 1, 2, 3] and losses[0] != losses[1]
    expected = [(half + 1, np.mean([one[2 * half + step] for one in losses for step in (0, 1)])) for half in (0, 1)]
    figure, accuracy = of_papers.drawn([Entry(group, "both")])
    assert "[liu2017] Fig. 5" in figure.title
    assert figure.pictures[0].uri == pictures.svg(figures.curves(
        [figures.Curve("both", expected, 0)], "softmax loss of training", "epoch"))
    assert figure.table[0] == ("run", "epoch", "softmax loss of training")
    assert figure.table[1:] == [("both", epoch, pytest.approx(loss)) for epoch, loss in expected]
    known = [dict(training.curves(one)["val accuracy"]) for one in groups.runs(group)]
    assert "[liu2017] Fig. 6" in accuracy.title and [row[1:] for row in accuracy.table[1:]] == [
        (at / 2, pytest.approx(50 * (known[0][at] + known[1][at]))) for at in sorted(known[0])]
    page = html_page.render([group])
    assert "softmax loss of training, pass by pass" in page
    assert page.count("loss over the iterations") == 1


def test_figures_of_self_paced_learning_need_a_run_of_it(paced, ndf):
    assert titles([ndf]) == []
    assert titles([paced]) == [("wu2023", "Fig. 5"), ("wu2023", "Fig. 7"), ("wu2023", "Fig. 8")]
    assert titles([ndf, paced]) == [("wu2023", f"Fig. {number}") for number in (5, 6, 7, 8)]


def test_accuracy_per_pace_is_of_the_validation_part(paced, ndf):
    evaluate.evaluate(ndf.run, "test")
    without = of_papers.accuracy_per_pace([paced], [paced, ndf])
    assert without.note.startswith("On the validation part, since nobody should choose by the test part")
    accuracies = wu2023.accuracies(paced.run, "val")
    assert without.pictures[0].uri == pictures.svg(wu2023.accuracy_per_pace({"SPNDL": accuracies}, {}))
    level = evaluate.evaluate(ndf.run, "val")["accuracy"]
    assert of_papers.accuracy_per_pace([paced], [paced, ndf]).pictures[0].uri == pictures.svg(
        wu2023.accuracy_per_pace({"SPNDL": accuracies}, {ndf.title: level}))


def test_loss_is_compared_with_the_run_of_the_same_net(entry, paced, ndf):
    baseline = entry("wu2023/synthetic-baseline")
    assert of_papers.loss_with_paces([paced], [paced, baseline]) is None
    found = of_papers.loss_with_paces([paced], [baseline, paced, ndf])
    assert found.pictures[0].uri == pictures.svg(wu2023.loss_curves(
        *(wu2023.by_epoch(one.run, wu2023.losses(one.run)) for one in (paced, ndf)), [1, 2, 3],
        ("SPNDL", ndf.title)))


def test_rows_of_excluded_samples_are_those_of_paces_that_leave_some_out(paced):
    rows = of_papers.excluded(paced).rows
    assert [row.title for row in rows] == ["pace 1", "pace 2"]
    for number, row in enumerate(rows, start=1):
        left_out = (~self_paced.selection(paced.run, number)["selected"]).sum()
        assert len(row.faces) == min(left_out, of_papers.EXCLUDED)
        assert all(face.uri.startswith("data:image/jpeg") for face in row.faces)


def test_a_run_that_is_not_finished_is_left_out(tmp_path, paced):
    files.write_json(str(tmp_path / "run.json"), dict(paced.run.info, iterations=10 ** 6))
    begun = run.Run(str(tmp_path))
    assert titles([Entry(begun, "t")]) == []
    page = html_page.render([begun])
    assert page.count("not evaluated") == 2 and "<details>" not in page


def test_attention_is_of_the_surest_right_decisions_of_two_classes(monkeypatch, entry, pairs):
    dacl = entry("farzaneh2021/synthetic-dacl")
    assert titles([dacl]) == []  # not evaluated
    evaluate.evaluate(dacl.run, "test")
    rows = [33 + number for number in range(12)]  # test images follow 17 and 16 others

    def decide(right):
        """right: row -> how sure."""
        write(dacl.run.path("decisions-test.csv"), [
            Decision(str(row), number % 3, number % 3 if row in right else (number + 1) % 3,
                     (right.get(row, 0.4),) * 3, (row,)) for number, row in enumerate(rows)])
    asked = []
    monkeypatch.setattr(of_papers.figures_farzaneh2021, "attention_weights", lambda one, split, records: (
        asked.append((split, records)) or np.full((len(records), 64), 0.5)))
    decide({33: 0.5, 36: 0.9, 39: 0.8, 34: 0.7, 35: 0.6, 38: 0.5})
    assert titles([dacl]) == [("farzaneh2021", "Fig. 5")]
    # Of class 0, which has three, the two surest; then class 2, which has two; class 1 has one.
    assert asked == [("test", [3, 6, 2, 5])]
    decide({33: 0.5})
    assert titles([dacl]) == []
