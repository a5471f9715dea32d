"""Faces of prepared data, and which of them are shown beside predictions."""
import os
from collections.abc import Sequence

import cv2
import numpy as np

from data_prep import lmdb_io, records
from data_prep.pictures import as_picture
from tools.evaluation import predictions
from tools.evaluation.evaluate import decisions_path
from tools.evaluation.predictions import Prediction
from tools.report.entries import Entry
from tools.training.run import Run
from tools.training.snapshots import Snapshot


def predicted(run: Run, split: str, snapshot: Snapshot = None) -> list[Prediction]:
    """Empty where the snapshot of the run is not evaluated on the split."""
    path = decisions_path(run, split, snapshot)
    return predictions.read(path) if os.path.exists(path) else []


def probability(prediction: Prediction) -> float:
    """Of the predicted class."""
    return float(prediction.probabilities[prediction.predicted])


def row_of(prediction: Prediction) -> int:
    """The row of the manifest whose face stands for a unit: of a sequence the last one, its peak."""
    return prediction.rows[-1]


def spread(choices: Sequence[Prediction], count: int) -> list[Prediction]:
    """`count` predictions, the surest of each true class first."""
    ranks: dict[int, int] = {}
    keyed: list[tuple[int, int, int, Prediction]] = []
    for prediction in sorted(choices, key=probability, reverse=True):
        rank = ranks[prediction.label] = ranks.get(prediction.label, -1) + 1
        keyed.append((rank, prediction.label, len(keyed), prediction))
    return [prediction for *_, prediction in sorted(keyed)[:count]]


def images(data: str, split: str, rows: Sequence[int]) -> list[np.ndarray]:
    """The first crops of rows of the manifest, as the net sees them: uint8 (channels, height, width)."""
    key_of = {record.row: record.key for record in records.read(data, split) if record.crop == 0}
    reader = lmdb_io.Reader(os.path.join(data, split, "images"))
    decoded = [lmdb_io.decode(reader[key_of[row]])[0] for row in rows]
    reader.close()
    return decoded


def surest(entry: Entry, split: str, right: bool, count: int) -> list[tuple[np.ndarray, Prediction]]:
    """The surest right or wrong predictions of an entry's first run, one after the other class, with their faces,
    uint8 (channels, height, width)."""
    choices = [prediction for prediction in predicted(entry.run, split, entry.snapshot) if prediction.right == right]
    shown = spread(choices, count)
    return list(zip(images(entry.info["data"], split, [row_of(prediction) for prediction in shown]), shown))


def grey(image: np.ndarray) -> np.ndarray:
    """(channels, height, width) -> (height, width), uint8."""
    return image[0] if len(image) == 1 else cv2.cvtColor(as_picture(image), cv2.COLOR_BGR2GRAY)
