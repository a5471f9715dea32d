"""ROC curves of several classes, and what [xie2019b] 3.3 reads from them (Table 4, Fig. 8).

Each class is told from the others by its own probability; what is reported is the mean over the classes. The curves
are averaged vertically (Fawcett 2006, the paper's ref. [52]): the mean of the true positive rates at each false
positive rate.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics

MEASURES = ("auc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Curve:
    """A ROC curve from (0, 0) to (1, 1), straight between its points."""

    # float64 (points,), rates in rising order.
    false_positive: np.ndarray
    # float64 (points,), rates in rising order.
    true_positive: np.ndarray

    @property
    def area(self) -> float:
        return float(metrics.auc(self.false_positive, self.true_positive))

    def balance(self) -> int:
        """The point with the largest Youden index, sensitivity + specificity - 1; of equal ones the one with the
        highest sensitivity."""
        youden = self.true_positive - self.false_positive
        return int(np.flatnonzero(np.isclose(youden, youden.max(), rtol=0, atol=1e-12))[-1])


def curves(labels: np.ndarray, probabilities: np.ndarray) -> dict[int, Curve]:
    """Of each class that some units are of and others are not; class -> its curve, one point a threshold.

    labels: int (units,); probabilities: (units, classes).
    """
    found = {}
    for label in np.unique(labels):
        if (labels != label).any():
            false_positive, true_positive, _ = metrics.roc_curve(
                labels == label, probabilities[:, label], drop_intermediate=False)
            found[int(label)] = Curve(false_positive, true_positive)
    return found


def mean(found: Sequence[Curve]) -> Curve:
    """The vertical average. Where a curve jumps, its two ends are averaged apart, so that the area under the average
    is the average of the areas."""
    grid = np.unique(np.concatenate([curve.false_positive for curve in found]))
    ends = np.array([[_at(curve, grid, side) for side in ("left", "right")] for curve in found]).mean(axis=0)
    return Curve(np.repeat(grid, 2), ends.T.ravel())


def _at(curve: Curve, grid: np.ndarray, side: str) -> np.ndarray:
    """True positive rate at each false positive rate of the grid: the lower ("left") or upper end of a jump."""
    values = np.interp(grid, curve.false_positive, curve.true_positive)
    index = np.searchsorted(curve.false_positive, grid, side)
    index = np.minimum(index, len(curve.false_positive) - 1) if side == "left" else index - 1
    known = curve.false_positive[index] == grid
    return np.where(known, curve.true_positive[index], values)


def measures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """MEASURES, means over the classes: `auc`, and `sensitivity` and `specificity` at each curve's point of balance.

    As `curves`; empty where there is no second class.
    """
    found = list(curves(labels, probabilities).values())
    if not found:
        return {}
    points = [curve.balance() for curve in found]
    each = ([curve.area for curve in found],
            [curve.true_positive[at] for curve, at in zip(found, points)],
            [1 - curve.false_positive[at] for curve, at in zip(found, points)])
    return {name: float(np.mean(values)) for name, values in zip(MEASURES, each)}
