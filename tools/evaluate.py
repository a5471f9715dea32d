"""Decisions of a trained run by the vote of [xie2019a] Eq. (12), and its metrics.json."""
import collections
import csv
import os
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import caffe
import numpy as np

from data_prep import files, lmdb_io, manifest, prepare, progress, records
from data_prep.errors import UserError
from prototxt import parts
from tools.run import Run

BATCH = 100


class Decision(NamedTuple):
    """One decision on one unit. rows: its rows of the manifest; probabilities: of each class, mean of the votes."""

    unit: str
    label: int
    predicted: int
    probabilities: Tuple[float, ...]
    rows: Tuple[int, ...]

    @property
    def right(self) -> bool:
        return self.label == self.predicted


def evaluate(run: Run, split: str) -> Dict:
    """Evaluates the trained weights on a split, writes metrics and decisions into the run's folder.

    Raises UserError where training is not complete or the data are not those that it was trained with.
    """
    info = run.info
    note = prepare.read_note(info["data"])
    if note["manifest"] != info["manifest"]:
        raise UserError("{}: was prepared anew since {} was trained".format(info["data"], run.folder))
    faces = manifest.read(os.path.join(info["data"], "manifest.csv"))
    rows = [record.row for record in records.read(info["data"], split)]
    images = lmdb_io.Reader(os.path.join(info["data"], split, "images"))
    probabilities = predict(run.path("deploy.prototxt"), run.caffemodel(), decoded(images), len(images))
    unit_of = (lambda face: face.unit) if note["unit"] == "sequence" else (lambda face: face.source)
    decisions = vote([unit_of(faces[row]) for row in rows], [faces[row].label for row in rows], rows, probabilities)
    metrics = dict(paper=info["experiment"]["name"].split("/")[0], experiment=info["experiment"]["name"],
                   dataset=info["experiment"]["data"], split=split,
                   unit=note["unit"] if any(faces[row].sequence for row in rows) else "image",
                   **count(decisions, note["classes"]), folds=[], published=None,
                   without_copies=_without_copies(decisions, faces))
    write_decisions(run.path("decisions-{}.csv".format(split)), decisions)
    files.write_json(metrics_path(run, split), metrics)
    return metrics


def _without_copies(decisions: Sequence[Decision], faces: Sequence[manifest.Face]) -> Dict:
    """Counts of the decisions on units none of whose images has the pixels of a training image."""
    own = [decision for decision in decisions if not any(faces[row].copy_of for row in decision.rows)]
    return {"correct": sum(decision.right for decision in own), "total": len(own)}


def metrics_path(run: Run, split: str) -> str:
    """The test part's figures are the run's; others carry their part in the name."""
    return run.path("metrics.json" if split == "test" else "metrics-{}.json".format(split))


def decoded(images: lmdb_io.Reader) -> Iterator[np.ndarray]:
    for index in range(len(images)):
        yield lmdb_io.decode(images[index])[0]


def predict(deploy: str, caffemodel: str, images: Iterator[np.ndarray], count: int) -> np.ndarray:
    """Class probabilities, float32 (count, classes), of uint8 images (channels, height, width)."""
    net = caffe.Net(deploy, caffe.TEST, weights=caffemodel)
    probabilities = np.empty((count, net.blobs["prob"].shape[1]), np.float32)
    with progress.bar("evaluating", count) as bar:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            net.blobs["data"].reshape(size, *net.blobs["data"].shape[1:])
            for row in range(size):
                net.blobs["data"].data[row] = next(images)
            net.blobs["data"].data[...] = (net.blobs["data"].data - parts.MEAN) * parts.SCALE
            probabilities[start:start + size] = net.forward()["prob"].reshape(size, -1)
            bar.update(size)
    return probabilities


def vote(units: Sequence[str], labels: Sequence[int], rows: Sequence[int],
         probabilities: np.ndarray) -> List[Decision]:
    """Eq. (12): the class with the largest sum of probabilities over all crops of all frames of a unit.

    units, labels, rows: one entry a record, beside probabilities (records, classes). Units keep the order in
    which they first come. The first of equal classes wins.
    """
    members = collections.OrderedDict()
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    decisions = []
    for unit, indices in members.items():
        known = {labels[index] for index in indices}
        if len(known) != 1:
            raise UserError("unit {} has records of several labels: {}".format(unit, sorted(known)))
        mean = probabilities[indices].astype(np.float64).mean(axis=0)
        decisions.append(Decision(unit, known.pop(), int(mean.argmax()), tuple(mean),
                                  tuple(sorted({rows[index] for index in indices}))))
    return decisions


def count(decisions: Sequence[Decision], classes: Sequence[str]) -> Dict:
    """Counts; confusion[i][j] is how many of class i were taken for class j."""
    confusion = np.zeros((len(classes), len(classes)), int)
    for decision in decisions:
        confusion[decision.label, decision.predicted] += 1
    correct, total = int(np.trace(confusion)), len(decisions)
    return dict(correct=correct, total=total, accuracy=correct / total, classes=list(classes),
                confusion=confusion.tolist())


def write_decisions(path: str, decisions: Sequence[Decision]) -> None:
    with files.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(("unit", "label", "predicted", "probabilities", "rows"))
        for decision in decisions:
            out.writerow((decision.unit, decision.label, decision.predicted,
                          " ".join("{:.6f}".format(value) for value in decision.probabilities),
                          " ".join(map(str, decision.rows))))


def read_decisions(path: str) -> List[Decision]:
    with open(path, newline="", encoding="utf-8") as stream:
        return [Decision(row["unit"], int(row["label"]), int(row["predicted"]),
                         tuple(map(float, row["probabilities"].split())), tuple(map(int, row["rows"].split())))
                for row in csv.DictReader(stream)]
