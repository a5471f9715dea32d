"""Tests a net on a data set other than its training data ([xie2019b] 3.5, Tables 12 to 16)."""
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import caffe
import numpy as np

from common import expressions, files
from common.errors import UserError
from data_prep import prepared_folder
from tools.evaluation import evaluate, forward, predictions, roc
from tools.evaluation.predictions import Prediction
from tools.training import snapshots
from tools.training.caffe_process import all_cores
from tools.training.run import DEPLOY, Run, data_note
from tools.training.snapshots import Snapshot


@dataclass(frozen=True)
class Matching:
    """The classes that two data sets have in common."""

    # Their names, in the order of the trained net.
    names: list[str]
    # Their indices among the classes of the trained net.
    trained: list[int]
    # Their indices among the classes of the tested data.
    tested: list[int]


def match(trained: Sequence[str], tested: Sequence[str], without: Sequence[str] = ()) -> Matching:
    """The classes in common. trained, tested: names of the classes; without: classes to leave out. Raises UserError if
    one of them is unknown, and if fewer than two classes are in common."""
    tested_names = [expressions.canonical(name) for name in tested]
    for name in without:
        if expressions.canonical(name) not in tested_names:
            raise UserError(f"class {name!r} to leave out: the data have {', '.join(tested)}")
    left_out = {expressions.canonical(name) for name in without}
    pairs = [(index, tested_names.index(name)) for index, name in enumerate(map(expressions.canonical, trained))
             if name in tested_names and name not in left_out]
    if len(pairs) < 2:
        raise UserError("the trained classes, {}, and the classes of the data, {}, have {} in common; expected at "
                        "least two".format(", ".join(trained), ", ".join(tested), len(pairs)))
    return Matching([trained[index] for index, _ in pairs], *map(list, zip(*pairs)))


def restrict(predicted: Sequence[Prediction], matching: Matching) -> list[Prediction]:
    """The predictions for the units of the matched classes, limited to these classes: `label`, `predicted` and
    `probabilities` refer to `matching.names`, and the probabilities are scaled so that their sum is 1."""
    label_of = {tested: label for label, tested in enumerate(matching.tested)}
    restricted = []
    for prediction in predicted:
        if prediction.label in label_of:
            probabilities = np.array(prediction.probabilities)[matching.trained]
            restricted.append(replace(
                prediction, label=label_of[prediction.label], predicted=int(probabilities.argmax()),
                probabilities=tuple(probabilities / (probabilities.sum() or 1))))
    return restricted


def count_all(predicted: Sequence[Prediction], matching: Matching) -> dict[str, int]:
    """The counts for the same units if all trained classes can be predicted. A class that the data do not have, or
    that is left out, is then a wrong prediction."""
    trained_of = dict(zip(matching.tested, matching.trained))
    units = [prediction for prediction in predicted if prediction.label in trained_of]
    return {"correct": sum(prediction.predicted == trained_of[prediction.label] for prediction in units),
            "total": len(units)}


def evaluate_on(run: Run, folder: str, split: Optional[str] = None, without: Sequence[str] = (),
                snapshot: Snapshot = None) -> dict:
    """Tests a trained run on another prepared folder. Writes metrics-on-DATA.json and decisions-on-DATA.csv, and
    returns the metrics.

    split: by default the test split. If the folder has none (a data set for cross-validation, prepared as a whole),
    all splits. without: classes to leave out; snapshot: see `evaluate.evaluate`. Raises UserError if images or classes
    do not fit, or there is no such snapshot.
    """
    folder = os.path.abspath(folder)
    note = prepared_folder.read_note(folder)
    iteration = snapshots.iteration(run, snapshot)
    _check_shape(run, folder, note)
    matching = match(data_note(run)["classes"], note["classes"], without)
    splits = [split] if split else ["test"] if "test" in note["records"] else list(note["records"])
    engine = all_cores()
    of_all_classes = [prediction for name in splits for prediction in evaluate.predict(
        run.experiment, forward.read(folder, note, name), run.path(DEPLOY), run.caffemodel(iteration), "prob",
        engine)]
    predicted = restrict(of_all_classes, matching)
    if not predicted:
        raise UserError(f"{folder}: no image of the classes {', '.join(matching.names)}")
    name = prepared_folder.data_set(note)
    sequences = any(face.sequence for face in prepared_folder.faces(folder, note))
    experiment = run.experiment
    metrics = dict(paper=experiment.paper, experiment=experiment.name, trained_on=experiment.data, dataset=name,
                   split="+".join(splits),
                   unit=note["unit"] if sequences else "image", iterations=[iteration],
                   **predictions.count(predicted, matching.names), **roc.measures(*predictions.scores(predicted)),
                   folds=[], published=evaluate.published([run], "test", len(predicted), note, snapshot),
                   left_out=len(of_all_classes) - len(predicted),
                   all_trained_classes=count_all(of_all_classes, matching), engine=engine.device.engine)
    predictions.write(evaluate.decisions_path(run, "on-" + name, snapshot), predicted)
    files.write_json(metrics_path(run, name, snapshot), metrics)
    return metrics


def metrics_path(run: Run, name: str, snapshot: Snapshot = None) -> str:
    """The path of the metrics on another data set. name: "<data set>-<protocol>"."""
    return evaluate.metrics_path(run, "on-" + name, snapshot)


def _check_shape(run: Run, folder: str, note: dict) -> None:
    expected = list(caffe.Net(run.path(DEPLOY), caffe.TEST).blobs["data"].shape)[1:]
    if list(note["shape"]) != expected:
        raise UserError("{}: the images are {}, but {} takes {}".format(
            folder, "x".join(map(str, note["shape"])), run.folder, "x".join(map(str, expected))))
