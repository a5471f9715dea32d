"""Testing on another data set than the one trained on ([xie2019b] 3.5, Tables 12 to 16)."""
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
from tools.evaluation.predictions import Decision
from tools.training.caffe_process import all_cores
from tools.training.run import Run


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
    """without: classes to leave out. Raises UserError where one of them is unknown, and where fewer than two classes
    are in both."""
    known = [expressions.canonical(name) for name in tested]
    for name in without:
        if expressions.canonical(name) not in known:
            raise UserError("class {!r} to leave out: the data have {}".format(name, ", ".join(tested)))
    left_out = {expressions.canonical(name) for name in without}
    pairs = [(index, known.index(name)) for index, name in enumerate(map(expressions.canonical, trained))
             if name in known and name not in left_out]
    if len(pairs) < 2:
        raise UserError("the classes trained, {}, and those of the data, {}, have {} in common; expected at least "
                        "two".format(", ".join(trained), ", ".join(tested), len(pairs)))
    return Matching([trained[index] for index, _ in pairs], *map(list, zip(*pairs)))


def restrict(decided: Sequence[Decision], matching: Matching) -> list[Decision]:
    """Decisions on the units of the matched classes, between these alone: label, predicted and probabilities are
    over `matching.names`, the probabilities scaled to sum 1."""
    label_of = {tested: label for label, tested in enumerate(matching.tested)}
    restricted = []
    for decision in decided:
        if decision.label in label_of:
            probabilities = np.array(decision.probabilities)[matching.trained]
            restricted.append(replace(
                decision, label=label_of[decision.label], predicted=int(probabilities.argmax()),
                probabilities=tuple(probabilities / (probabilities.sum() or 1))))
    return restricted


def count_all(decided: Sequence[Decision], matching: Matching) -> dict[str, int]:
    """Counts on the same units where every class that was trained may be chosen: one that the data have not, or
    that is left out, is wrong."""
    trained_of = dict(zip(matching.tested, matching.trained))
    units = [decision for decision in decided if decision.label in trained_of]
    return {"correct": sum(decision.predicted == trained_of[decision.label] for decision in units),
            "total": len(units)}


def evaluate_on(run: Run, folder: str, split: Optional[str] = None, without: Sequence[str] = ()) -> dict:
    """Tests a trained run on another prepared folder; writes metrics-on-DATA.json and decisions-on-DATA.csv.

    split: by default the test split; of a folder that has none (a data set for cross-validation, prepared as a whole)
    all of it. Raises UserError where images or classes do not fit.
    """
    folder = os.path.abspath(folder)
    note, info = prepared_folder.read_note(folder), run.info
    _check_shape(run, folder, note)
    matching = match(prepared_folder.read_note(info["data"])["classes"], note["classes"], without)
    splits = [split] if split else ["test"] if "test" in note["records"] else list(note["records"])
    engine = all_cores(info["gpu"])
    found = [decision for part in splits for decision in evaluate.decide(
        run.experiment, forward.read(folder, note, part), run.path("deploy.prototxt"), run.caffemodel(), "prob",
        engine)]
    decided = restrict(found, matching)
    if not decided:
        raise UserError("{}: no image of the classes {}".format(folder, ", ".join(matching.names)))
    name = prepared_folder.data_set(note)
    sequences = any(face.sequence for face in prepared_folder.faces(folder, note))
    experiment = run.experiment
    metrics = dict(paper=experiment.paper, experiment=experiment.name, trained_on=experiment.data, dataset=name,
                   split="+".join(splits),
                   unit=note["unit"] if sequences else "image",
                   **predictions.count(decided, matching.names), **roc.measures(*predictions.scores(decided)), folds=[],
                   published=evaluate.published([run], "test", len(decided), note), left_out=len(found) - len(decided),
                   all_trained_classes=count_all(found, matching))
    predictions.write(run.path(f"decisions-on-{name}.csv"), decided)
    files.write_json(metrics_path(run, name), metrics)
    return metrics


def metrics_path(run: Run, name: str) -> str:
    """name: "<data set>-<protocol>"."""
    return run.path(f"metrics-on-{name}.json")


def _check_shape(run: Run, folder: str, note: dict) -> None:
    taken = list(caffe.Net(run.path("deploy.prototxt"), caffe.TEST).blobs["data"].shape)[1:]
    if list(note["shape"]) != taken:
        raise UserError("{}: the images are {}, but {} takes {}".format(
            folder, "x".join(map(str, note["shape"])), run.folder, "x".join(map(str, taken))))
