"""Predictions for units, by the vote of [xie2019a] Eq. (12) or the highest probability ([liu2017]), and their CSV."""
import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common import files
from common.errors import UserError

RULES = {"mean": np.mean, "highest": np.max}


@dataclass(frozen=True)
class Prediction:
    """The prediction for one unit: an image or a sequence."""

    # Name of the unit.
    unit: str
    # Index of its true class.
    label: int
    # Index of the predicted class.
    predicted: int
    # For each class, the probability that the vote gives.
    probabilities: tuple[float, ...]
    # The unit's rows of the manifest.
    rows: tuple[int, ...]

    @property
    def right(self) -> bool:
        return self.label == self.predicted


def vote(units: Sequence[str], labels: Sequence[int], rows: Sequence[int],
         probabilities: np.ndarray, rule: str = "mean") -> list[Prediction]:
    """The prediction for each unit, from the probabilities of all crops of all its frames. The order of the units is
    that of their first records. If classes are equal, the first one wins.

    units, labels, rows: one item for each record; probabilities: (records, classes). rule: "mean", [xie2019a]
    Eq. (12), predicts the class with the largest mean probability; "highest", [liu2017] on CK+, the class with the
    single highest probability. Raises UserError if the records of a unit have several labels.
    """
    members: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    predicted = []
    for unit, indices in members.items():
        unit_labels = {labels[index] for index in indices}
        if len(unit_labels) != 1:
            raise UserError(f"unit {unit} has records of several labels: {sorted(unit_labels)}")
        votes = RULES[rule](probabilities[indices].astype(np.float64), axis=0)
        predicted.append(Prediction(unit, unit_labels.pop(), int(votes.argmax()), tuple(votes),
                                    tuple(sorted({rows[index] for index in indices}))))
    return predicted


def count(predicted: Sequence[Prediction], classes: Sequence[str]) -> dict:
    """The counts and accuracies of predictions. confusion[i][j] is the number of units of class i that were predicted
    as class j. The average accuracy is the mean of the recalls of all classes that have units."""
    confusion = np.zeros((len(classes), len(classes)), int)
    for prediction in predicted:
        confusion[prediction.label, prediction.predicted] += 1
    correct, total = int(np.trace(confusion)), len(predicted)
    return dict(correct=correct, total=total, accuracy=correct / total,
                average_accuracy=float(recalls(confusion).mean()), classes=list(classes),
                confusion=confusion.tolist())


def recalls(confusion: np.ndarray) -> np.ndarray:
    """The recall of each class that has units, float64. confusion: int (classes, classes), as in `count`."""
    totals = confusion.sum(axis=1)
    return np.diag(confusion)[totals > 0] / totals[totals > 0]


def scores(predicted: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """The labels (units,) and probabilities (units, classes), as `roc` takes them."""
    return (np.array([prediction.label for prediction in predicted]),
            np.array([prediction.probabilities for prediction in predicted]))


def write(path: str, predicted: Sequence[Prediction]) -> None:
    """Writes predictions as CSV, with six decimals of each probability."""
    with files.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(("unit", "label", "predicted", "probabilities", "rows"))
        for prediction in predicted:
            out.writerow((prediction.unit, prediction.label, prediction.predicted,
                          " ".join(f"{value:.6f}" for value in prediction.probabilities),
                          " ".join(map(str, prediction.rows))))


def read(path: str) -> list[Prediction]:
    """The predictions that `write` wrote."""
    with open(path, newline="", encoding="utf-8") as stream:
        return [Prediction(row["unit"], int(row["label"]), int(row["predicted"]),
                         tuple(map(float, row["probabilities"].split())), tuple(map(int, row["rows"].split())))
                for row in csv.DictReader(stream)]
