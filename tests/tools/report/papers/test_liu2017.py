"""Loss and accuracy epoch by epoch, from the logs of trained folds."""
import numpy as np
import pytest

from common import experiment
from common.machine import DEFAULT
from tests import small_data
from tools.report import html_page
from tools.report.entries import Entry
from tools.report.papers import liu2017
from tools.training import chain, groups

TUPLETS = ["solver.max_iter=4", "solver.test_interval=2", "solver.display=1", "solver.batch_size=2", "head.fc1=32",
           "head.fc2=16", "head.fc4=16", "tuplets.positives=3", "tuplets.negatives=3"]


def test_training_loss_is_the_mean_of_the_runs_and_of_each_epoch(tmp_path):
    data = small_data.with_subjects(tmp_path)
    settings = experiment.load("liu2017/synthetic-2b-nm", TUPLETS)
    group = groups.train(settings, data, str(tmp_path / "group"), None, [1, 2], 1, DEFAULT, 1)
    losses = [dict(chain.curves(run)["train softmax_loss"]) for run in groups.runs(group)]
    assert list(losses[0]) == [0, 1, 2, 3] and losses[0] != losses[1]
    expected = [(half + 1, np.mean([loss[2 * half + step] for loss in losses for step in (0, 1)])) for half in (0, 1)]
    loss, accuracy = liu2017.sections([Entry(group, "both")])
    assert "[liu2017] Fig. 5" in loss.title
    line, = loss.draw[0]().axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), expected)
    assert loss.table[0] == ("run", "epoch", "softmax loss of training")
    assert loss.table[1:] == [("both", epoch, pytest.approx(mean)) for epoch, mean in expected]
    accuracies = [dict(chain.curves(run)["val accuracy"]) for run in groups.runs(group)]
    assert "[liu2017] Fig. 6" in accuracy.title and [row[1:] for row in accuracy.table[1:]] == [
        (at / 2, pytest.approx(50 * (accuracies[0][at] + accuracies[1][at]))) for at in sorted(accuracies[0])]
    page = html_page.render([group])
    assert "softmax loss of training, epoch by epoch" in page
    assert page.count("loss over the iterations") == 1
