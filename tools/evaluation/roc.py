"""ROC curves of several classes, and the measures of [xie2019b] 3.3 (Table 4, Fig. 8).

Each class is separated from the others by its own probability. The reported values are means over the classes. The
curves are averaged vertically (Fawcett 2006, the paper's ref. [52]): the mean of the true positive rates at each false
positive rate.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics

MEASURES = ("auc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Curve:
    """A ROC curve from (0, 0) to (1, 1), with straight lines between its points."""

    # float64 (points,), rates in rising order.
    false_positive: np.ndarray
    # float64 (points,), rates in rising order.
    true_positive: np.ndarray

    @property
    def area(self) -> float:
        """The area under the curve, from 0 to 1."""
        return float(metrics.auc(self.false_positive, self.true_positive))

    def balance(self) -> int:
        """The index of the point with the largest Youden index, sensitivity + specificity - 1. If several are equal,
        the one with the highest sensitivity."""
        youden = self.true_positive - self.false_positive
        return int(np.flatnonzero(np.isclose(youden, youden.max(), rtol=0, atol=1e-12))[-1])


def curves(labels: np.ndarray, probabilities: np.ndarray) -> dict[int, Curve]:
    """Class -> its ROC curve, with one point for each threshold. A class without units, or with all units, has none.

    labels: int (units,); probabilities: (units, classes).
    """
    class_curves = {}
    for label in np.unique(labels):
        if (labels != label).any():
            false_positive, true_positive, _ = metrics.roc_curve(
                labels == label, probabilities[:, label], drop_intermediate=False)
            class_curves[int(label)] = Curve(false_positive, true_positive)
    return class_curves


def mean(class_curves: Sequence[Curve]) -> Curve:
    """The vertical average of curves. At a jump of a curve, its lower and upper ends are averaged separately, so that
    the area under the average is the average of the areas."""
    grid = np.unique(np.concatenate([curve.false_positive for curve in class_curves]))
    ends = np.array([[_at(curve, grid, side) for side in ("left", "right")] for curve in class_curves]).mean(axis=0)
    return Curve(np.repeat(grid, 2), ends.T.ravel())


def _at(curve: Curve, grid: np.ndarray, side: str) -> np.ndarray:
    """The true positive rate at each false positive rate of the grid; at a jump, its lower ("left") or upper end."""
    values = np.interp(grid, curve.false_positive, curve.true_positive)
    index = np.searchsorted(curve.false_positive, grid, side)
    index = np.minimum(index, len(curve.false_positive) - 1) if side == "left" else index - 1
    is_point = curve.false_positive[index] == grid
    return np.where(is_point, curve.true_positive[index], values)


def measures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """MEASURES, as means over the classes: `auc`, and `sensitivity` and `specificity` at each curve's `balance`.

    The arguments are those of `curves`. The result is empty if all units have the same class.
    """
    class_curves = list(curves(labels, probabilities).values())
    if not class_curves:
        return {}
    points = [curve.balance() for curve in class_curves]
    columns = ([curve.area for curve in class_curves],
               [curve.true_positive[point] for curve, point in zip(class_curves, points)],
               [1 - curve.false_positive[point] for curve, point in zip(class_curves, points)])
    return {name: float(np.mean(values)) for name, values in zip(MEASURES, columns)}
