"""Loss weights and objectives over the rounds: what is drawn is what was given."""
from tools.report.papers import xie2019a_weights

ROUNDS = [{"round": number, "weights": {"gsf": 1 + step, "sift": 1 - step},
           "objective": {"gsf": 0.4 + step, "sift": 0.5}} for number, step in ((1, 0.0), (2, 0.1), (3, 0.25))]


def test_loss_weights_over_the_rounds():
    axes = xie2019a_weights.loss_weights(ROUNDS, "fold01", {"gsf": {"correct": 3, "total": 5},
                                                            "sift": {"correct": 4, "total": 5}}).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["GSF, test 60.00%"].get_ydata()) == [1, 1.1, 1.25]
    assert list(lines["SIFT, test 80.00%"].get_ydata()) == [1, 0.9, 0.75]
    assert list(lines["SIFT, test 80.00%"].get_xdata()) == [1, 2, 3]
    assert axes.get_title(loc="left") == "fold01" and axes.get_ylim() == (-0.08, 2.08)


def test_objectives_over_the_rounds():
    axes = xie2019a_weights.objectives(ROUNDS, "o").axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines == {"GSF": [0.4, 0.5, 0.65], "SIFT": [0.5] * 3}
