"""ROC curves against scikit-learn's and against slow ones; sensitivity and specificity recomputed by thresholds."""
import numpy as np
import pytest
from sklearn import metrics

from tools.evaluation import roc


def example(count, classes, seed, digits=None):
    """Probabilities that lean to the label; rounded, there are ties."""
    random = np.random.RandomState(seed)
    labels = random.randint(classes, size=count)
    scores = random.randn(count, classes) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return labels, probabilities if digits is None else np.round(probabilities, digits)


def slow_area(positive, scores):
    """The share of pairs that are in the right order; ties count half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    return sum(pairs) / len(pairs)


def slow_balance(positive, scores):
    """(sensitivity, specificity) of the best threshold, by trying all of them."""
    best = None
    for threshold in list(np.unique(scores)) + [np.inf]:
        taken = scores >= threshold
        hits = sum(1 for a, b in zip(taken, positive) if a and b)
        rejections = sum(1 for a, b in zip(taken, positive) if not a and not b)
        # Over one denominator, so that equal ones are equal.
        youden = hits * int((~positive).sum()) + rejections * int(positive.sum())
        candidate = (youden, hits / positive.sum(), rejections / (~positive).sum())
        best = candidate if best is None or candidate > best else best
    return best[1:]


EXAMPLES = [(60, 7, 0, None), (60, 7, 1, 1), (40, 2, 2, 1), (35, 3, 3, 2), (9, 3, 4, 0)]


@pytest.mark.parametrize("count, classes, seed, digits", EXAMPLES)
def test_curves_and_areas_are_scikit_learns(count, classes, seed, digits):
    labels, probabilities = example(count, classes, seed, digits)
    found = roc.curves(labels, probabilities)
    assert sorted(found) == sorted(set(labels))
    for label, curve in found.items():
        false_positive, true_positive, _ = metrics.roc_curve(labels == label, probabilities[:, label],
                                                             drop_intermediate=False)
        np.testing.assert_array_equal(curve.false_positive, false_positive)
        np.testing.assert_array_equal(curve.true_positive, true_positive)
        assert curve.area == pytest.approx(metrics.roc_auc_score(labels == label, probabilities[:, label]), abs=1e-12)
        assert curve.area == pytest.approx(slow_area(labels == label, probabilities[:, label]), abs=1e-12)


@pytest.mark.parametrize("count, classes, seed, digits", EXAMPLES)
def test_measures_are_those_of_all_thresholds(count, classes, seed, digits):
    labels, probabilities = example(count, classes, seed, digits)
    found = roc.measures(labels, probabilities)
    present = sorted(set(labels))
    slow = [slow_balance(labels == label, probabilities[:, label]) for label in present]
    assert found["sensitivity"] == pytest.approx(np.mean([pair[0] for pair in slow]), abs=1e-12)
    assert found["specificity"] == pytest.approx(np.mean([pair[1] for pair in slow]), abs=1e-12)
    assert found["auc"] == pytest.approx(np.mean(
        [slow_area(labels == label, probabilities[:, label]) for label in present]), abs=1e-12)


@pytest.mark.parametrize("count, classes, seed, digits", EXAMPLES)
def test_mean_curve_is_the_mean_of_the_rates_and_has_the_mean_area(count, classes, seed, digits):
    labels, probabilities = example(count, classes, seed, digits)
    found = list(roc.curves(labels, probabilities).values())
    average = roc.mean(found)
    assert average.area == pytest.approx(np.mean([curve.area for curve in found]), abs=1e-12)
    assert (np.diff(average.false_positive) >= 0).all() and (np.diff(average.true_positive) >= -1e-12).all()
    assert (average.true_positive[0], average.false_positive[-1], average.true_positive[-1]) == (0, 1, 1)
    # Between the jumps each curve has one value, as has the mean.
    middles = (np.unique(average.false_positive)[1:] + np.unique(average.false_positive)[:-1]) / 2
    np.testing.assert_allclose(
        np.interp(middles, average.false_positive, average.true_positive),
        np.mean([np.interp(middles, curve.false_positive, curve.true_positive) for curve in found], axis=0), atol=1e-12)


def test_by_hand():
    # Scores of class 1: positives 0.9, 0.4; negatives 0.6, 0.1. Thresholds give (FPR, TPR):
    # 0.9 (0, .5), 0.6 (.5, .5), 0.4 (.5, 1), 0.1 (1, 1). J is .5 at (0, .5) and at (.5, 1): higher sensitivity wins.
    scores = np.array([0.9, 0.4, 0.6, 0.1])
    found = roc.curves(np.array([1, 1, 0, 0]), np.stack([1 - scores, scores], axis=1))
    assert found[1].area == 0.75
    at = found[1].balance()
    assert (found[1].true_positive[at], found[1].false_positive[at]) == (1, 0.5)
    # Class 0 is its mirror: 0.5 and 1 change places.
    at = found[0].balance()
    assert (found[0].true_positive[at], found[0].false_positive[at]) == (1, 0.5)


def test_perfect_and_useless():
    labels = np.array([0, 1, 2, 0, 1, 2])
    perfect = roc.measures(labels, np.eye(3)[labels])
    assert perfect == {"auc": 1, "sensitivity": 1, "specificity": 1}
    # All scores equal: the points (0, 0) and (1, 1) are as good, and the one of higher sensitivity is taken.
    useless = roc.measures(labels, np.full((6, 3), 1 / 3))
    assert useless == {"auc": 0.5, "sensitivity": 1, "specificity": 0}


def test_one_class_has_no_curve():
    one = np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]])
    assert roc.curves(*one) == {} and roc.measures(*one) == {}


def test_a_class_without_units_is_left_out():
    labels, probabilities = example(30, 3, 5)
    wider = np.concatenate([probabilities, np.zeros((30, 1))], axis=1)
    assert roc.measures(labels, wider) == roc.measures(labels, probabilities)
