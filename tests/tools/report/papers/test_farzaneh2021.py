"""Attention weights: of which samples, and how they are drawn."""
import numpy as np
import pytest

from common import experiment
from tests.tools import small_pairs
from tools.evaluation import evaluate
from tools.evaluation.predictions import Prediction, write
from tools.report.entries import Entry
from tools.report.papers import farzaneh2021
from tools.training import run
from tools.training.caffe_process import Engine

SMALL = ["solver.batch_size=6", "solver.test_interval=50", "solver.display=1", "solver.max_iter=3"]


@pytest.fixture(scope="module")
def dacl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dacl")
    return run.train(experiment.load("farzaneh2021/synthetic-dacl", SMALL), small_pairs.prepared(folder),
                     str(folder / "run"), None, Engine(1))


def test_attention_is_of_the_surest_right_predictions_of_two_classes(monkeypatch, dacl):
    assert farzaneh2021.sections([Entry(dacl, "t")]) == []  # not evaluated
    evaluate.evaluate(dacl, "test")
    rows = [33 + number for number in range(12)]  # test images follow 17 and 16 others

    def predict(right):
        """right: row -> how sure."""
        write(dacl.path("decisions-test.csv"), [
            Prediction(str(row), number % 3, number % 3 if row in right else (number + 1) % 3,
                     (right.get(row, 0.4),) * 3, (row,)) for number, row in enumerate(rows)])
    asked = []
    monkeypatch.setattr(farzaneh2021, "attention_weights", lambda run, split, records: (
        asked.append((split, records)) or np.full((len(records), 64), 0.5)))
    predict({33: 0.5, 36: 0.9, 39: 0.8, 34: 0.7, 35: 0.6, 38: 0.5})
    figure, = farzaneh2021.sections([Entry(dacl, "t")])
    assert figure.title == "Attention weights of single samples ([farzaneh2021] Fig. 5)"
    # Of class 0, which has three, the two surest; then class 2, which has two; class 1 has one.
    assert asked == [("test", [3, 6, 2, 5])]
    predict({33: 0.5})
    assert farzaneh2021.sections([Entry(dacl, "t")]) == []


def test_attention_weights_are_drawn_per_sample(dacl):
    weights = farzaneh2021.attention_weights(dacl, "test", [0, 3, 5])
    assert weights.shape == (3, 64) and (weights > 0).all() and (weights <= 1).all()
    assert np.abs(weights[0] - weights[1]).max() > 0
    figure = farzaneh2021.draw_attention(weights, ["happy 1", "happy 2", "sad 1"])
    heights = [patch.get_height() for patch in figure.axes[1].patches]
    np.testing.assert_allclose(heights, weights[1])
