"""Decisions on units, by the vote of [xie2019a] Eq. (12) or by [liu2017]'s highest probability, and their CSV."""
import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common import files
from common.errors import UserError

RULES = {"mean": np.mean, "highest": np.max}


@dataclass(frozen=True)
class Decision:
    """The prediction for one unit: an image or a sequence."""

    # Name of the unit.
    unit: str
    # Index of its true class.
    label: int
    # Index of the predicted class.
    predicted: int
    # A probability for each class, by the rule of the vote.
    probabilities: tuple[float, ...]
    # Its rows of the manifest.
    rows: tuple[int, ...]

    @property
    def right(self) -> bool:
        return self.label == self.predicted


def vote(units: Sequence[str], labels: Sequence[int], rows: Sequence[int],
         probabilities: np.ndarray, rule: str = "mean") -> list[Decision]:
    """rule "mean", Eq. (12): the class with the largest sum of probabilities over all crops of all frames of a unit;
    "highest", [liu2017] on CK+: that of the single highest probability among them.

    units, labels, rows: one entry a record, beside probabilities (records, classes). Units keep the order in
    which they first come. The first of equal classes wins.
    """
    members: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    decisions = []
    for unit, indices in members.items():
        known = {labels[index] for index in indices}
        if len(known) != 1:
            raise UserError(f"unit {unit} has records of several labels: {sorted(known)}")
        votes = RULES[rule](probabilities[indices].astype(np.float64), axis=0)
        decisions.append(Decision(unit, known.pop(), int(votes.argmax()), tuple(votes),
                                  tuple(sorted({rows[index] for index in indices}))))
    return decisions


def count(decided: Sequence[Decision], classes: Sequence[str]) -> dict:
    """Counts; confusion[i][j] is how many of class i were taken for class j. The average accuracy is the mean over the
    classes that have units."""
    confusion = np.zeros((len(classes), len(classes)), int)
    for decision in decided:
        confusion[decision.label, decision.predicted] += 1
    correct, total = int(np.trace(confusion)), len(decided)
    return dict(correct=correct, total=total, accuracy=correct / total,
                average_accuracy=float(recalls(confusion).mean()), classes=list(classes),
                confusion=confusion.tolist())


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Of each class that has units: its share of the confusion matrix' diagonal."""
    totals = confusion.sum(axis=1)
    return np.diag(confusion)[totals > 0] / totals[totals > 0]


def scores(decided: Sequence[Decision]) -> tuple[np.ndarray, np.ndarray]:
    """Labels (units,) and probabilities (units, classes), as `roc` takes them."""
    return (np.array([decision.label for decision in decided]),
            np.array([decision.probabilities for decision in decided]))


def write(path: str, decided: Sequence[Decision]) -> None:
    with files.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(("unit", "label", "predicted", "probabilities", "rows"))
        for decision in decided:
            out.writerow((decision.unit, decision.label, decision.predicted,
                          " ".join(f"{value:.6f}" for value in decision.probabilities),
                          " ".join(map(str, decision.rows))))


def read(path: str) -> list[Decision]:
    with open(path, newline="", encoding="utf-8") as stream:
        return [Decision(row["unit"], int(row["label"]), int(row["predicted"]),
                         tuple(map(float, row["probabilities"].split())), tuple(map(int, row["rows"].split())))
                for row in csv.DictReader(stream)]
