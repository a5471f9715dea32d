"""Evaluation of a trained run, and its metrics.json."""
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Optional, Union

from common import files
from common.experiment import Experiment
from data_prep import datasets, manifest, prepared_folder
from published import values
from tools.evaluation import departures, forward, predictions, roc
from tools.evaluation.forward import Split
from tools.evaluation.predictions import Decision
from tools.training import schedules
from tools.training.caffe_process import Engine, Segment, all_cores
from tools.training.groups import Group
from tools.training.run import Run, require_same_data


def evaluate(run: Run, split: str) -> dict:
    """Evaluates the trained weights on a split, writes metrics and decisions into the run's folder.

    Raises UserError where training is not complete or the data are not those that it was trained with.
    """
    info = run.info
    note = require_same_data(run)
    faces = prepared_folder.faces(info["data"], note)
    samples = forward.read(info["data"], note, split)
    engine = all_cores(info["gpu"])
    experiment = run.experiment
    decided = decide(experiment, samples, run.path("deploy.prototxt"), run.caffemodel(), "prob", engine)
    metrics = dict(paper=experiment.paper, experiment=experiment.name, split=split,
                   dataset=(experiment.data if prepared_folder.is_of(note, experiment.data)
                            else prepared_folder.data_set(note)),
                   unit=note["unit"] if any(faces[row].sequence for row in samples.rows) else "image",
                   **predictions.count(decided, note["classes"]), **roc.measures(*predictions.scores(decided)),
                   folds=[],
                   published=None if datasets.protocol(experiment.data).folds else published(
                       [run], split, len(decided)),
                   without_copies=_without_copies(decided, faces))
    readings = schedules.of(experiment).readings(run)
    if readings:
        metrics["alone"] = {loss: _right(decide(experiment, samples, *reading, engine))
                            for loss, reading in readings.items()}
    predictions.write(run.path(f"decisions-{split}.csv"), decided)
    files.write_json(metrics_path(run, split), metrics)
    return metrics


def every_snapshot(run: Run, split: str) -> Iterator[dict]:
    """Of each snapshot that the run has kept, in their order: "iteration", "correct" and "total" on a split. What is
    kept of runs of many segments is the end of each round, pace or rate.

    Kept in the run's folder once it has all of them, and read from there while the snapshots are the same.
    Raises UserError as `evaluate`.
    """
    run.caffemodel()
    kept = kept_snapshots(run, split)
    if kept:
        yield from kept
        return
    info, found = run.info, []
    samples = forward.read(info["data"], require_same_data(run), split)
    for iteration in run.snapshots():
        decided = decide(run.experiment, samples, run.path("deploy.prototxt"), run.caffemodel(iteration), "prob",
                         all_cores(info["gpu"]))
        found.append({"iteration": iteration, **_right(decided)})
        yield found[-1]
    files.write_json(snapshots_path(run, split), {"split": split, "snapshots": found})


def best(snapshots: Sequence[dict]) -> dict:
    """Of `every_snapshot` the one with the most right; of equal ones the first, as a code keeps it that replaces the
    best epoch by a better one only."""
    return max(snapshots, key=lambda one: one["correct"])


def published(runs: Sequence[Run], split: str, total: int, tested: Optional[dict] = None) -> Optional[dict]:
    """The paper's figure for a run, or all runs of a group: value, and correct and total where it is a count; whether
    it may be compared with, and what departs from it. None where it has none.

    total: units that were decided on; tested: note of the data, where they are not those trained on."""
    figure = values.of_experiment(runs[0].experiment.name, split,
                                  prepared_folder.data_set(tested) if tested else None)
    if not figure:
        return None
    found = departures.of_figure(figure, runs, total, tested)
    return {"value": figure.value, "correct": figure.correct, "total": figure.total, "comparable": not found,
            "departures": [asdict(departure) for departure in found]}


def decide(experiment: Experiment, samples: Split, deploy: str, caffemodel: str, blob: str,
           engine: Engine = forward.ONE) -> list[Decision]:
    """By a vote over a blob's class probabilities, as the experiment has it."""
    found = forward.of_split(experiment, samples, deploy, caffemodel, [blob], engine)
    return predictions.vote(samples.units, samples.labels, samples.rows, found[blob], experiment.decision)


def _right(decided: Sequence[Decision]) -> dict:
    return {"correct": sum(decision.right for decision in decided), "total": len(decided)}


def _without_copies(decided: Sequence[Decision], faces: Sequence[manifest.Face]) -> dict:
    """Counts of the decisions on units none of whose images has the pixels of a training image."""
    return _right([one for one in decided if not any(faces[row].copy_of for row in one.rows)])


def metrics_path(run: Union[Segment, Group], split: str) -> str:
    """The test split's figures are the run's; others carry their part in the name."""
    return run.path("metrics.json" if split == "test" else f"metrics-{split}.json")


def snapshots_path(run: Segment, split: str) -> str:
    """Of `every_snapshot`; never what a table reads."""
    return run.path("metrics-every-snapshot{}.json".format("" if split == "test" else "-" + split))


def kept_snapshots(run: Run, split: str) -> list[dict]:
    """What `every_snapshot` has left; empty where it was not asked for, or where the run has others by now."""
    path = snapshots_path(run, split)
    kept = files.read_json(path)["snapshots"] if os.path.exists(path) else []
    return kept if [one["iteration"] for one in kept] == run.snapshots() else []
