"""How sparse features are: by hand, and of a run."""
import numpy as np
import pytest

from common import experiment
from data_prep import prepared_folder
from tools.analysis import sparseness
from tools.evaluation import forward
from tools.training import run
from tools.training.caffe_process import Engine


def test_near_zero_by_hand():
    x = np.array([[100.0, -1, 0.9, 0], [1, 1, -1, 1], [0, 0, 0, 0]])
    # Of the first row 1, 0.9 and 0; of the second none; all of a zero row.
    assert sparseness.near_zero(x) == 7 / 12
    assert sparseness.near_zero(1e-6 * x) == 7 / 12


def test_of_a_run(tmp_path, data):
    chosen = experiment.load("xie2019b/fer2013-toy-norm", [
        "solver.batch_size=8", "solver.max_iter=2", "solver.snapshot=2", "solver.test_interval=2", "head.scale=3",
        "head.normalize=fixed"])
    trained = run.train(chosen, data, str(tmp_path / "run"), None, Engine(1))
    found = sparseness.of_run(trained, "test")
    assert found["norm"] == pytest.approx(3, rel=1e-4)
    part = forward.read(data, prepared_folder.read_note(data), "test")
    x = forward.outputs(trained.path("deploy.prototxt"), trained.caffemodel(), forward.Images(part.images),
                        ["normalized"])["normalized"]
    assert x.shape == (12, 512)
    slow = [abs(value) <= 0.01 * max(map(abs, row)) for row in x for value in row]
    assert found["near_zero"] == pytest.approx(sum(slow) / len(slow))
    assert 1 / np.sqrt(512) < found["l1"] < 1
