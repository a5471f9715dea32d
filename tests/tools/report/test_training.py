"""Curves over iterations and epochs, by hand."""
from tools.report import training


def test_means_by_hand():
    assert training.mean([[(0, 1.0), (2, 3.0), (4, 9.0)], [(0, 3.0), (2, 5.0)]]) == [(0, 2.0), (2, 4.0)]
    assert training.mean([[(0, 1.0), (3, 2.0), (6, 3.0)], [(0, 9.0)]]) == [(0, 1.0), (3, 2.0), (6, 3.0)]
    assert training.mean([[], []]) == []
    assert training.by_epoch([(0, 1.0), (3, 2.0), (4, 5.0), (9, 7.0)], 4) == [(4, 1.5), (8, 5.0), (12, 7.0)]


def test_branches_are_drawn_as_their_mean():
    outputs = {"train softmax_loss_gsf": [(0, 2.0), (20, 1.0)], "train softmax_loss_sift": [(0, 4.0), (20, 2.0)],
               "val accuracy": [(20, 0.5)], "val accuracy_gsf": [(20, 0.1)]}
    assert training.over_branches(outputs, "train softmax_loss") == [(0, 3.0), (20, 1.5)]
    assert training.over_branches(outputs, "val accuracy") == [(20, 0.5)]
    assert training.over_branches(outputs, "val softmax_loss") == []
