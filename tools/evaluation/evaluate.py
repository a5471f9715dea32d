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
from tools.evaluation.predictions import Prediction
from tools.training import schedules, snapshots
from tools.training.caffe_process import Engine, Segment, all_cores
from tools.training.groups import Group
from tools.training.run import DEPLOY, Run, require_same_data
from tools.training.snapshots import Snapshot


def evaluate(run: Run, split: str, snapshot: Snapshot = None) -> dict:
    """Evaluates the trained weights on a split, writes metrics and predictions into the run's folder, and returns the
    metrics.

    snapshot: which weights, see `snapshots`; the results of others than the last have files of their own.
    Raises UserError if training is not complete, or there is no such snapshot, or if the data have changed since.
    """
    info = run.info
    iteration = snapshots.iteration(run, snapshot)
    note = require_same_data(run)
    faces = prepared_folder.faces(info["data"], note)
    samples = forward.read(info["data"], note, split)
    engine = all_cores()
    experiment = run.experiment
    predicted = predict(experiment, samples, run.path(DEPLOY), run.caffemodel(iteration), "prob", engine)
    metrics = dict(paper=experiment.paper, experiment=experiment.name, split=split,
                   dataset=(experiment.data if prepared_folder.is_of(note, experiment.data)
                            else prepared_folder.data_set(note)),
                   unit=note["unit"] if any(faces[row].sequence for row in samples.rows) else "image",
                   iterations=[iteration], **predictions.count(predicted, note["classes"]),
                   **roc.measures(*predictions.scores(predicted)), folds=[],
                   # No paper prints figures of the user's own experiments.
                   published=None if experiment.file or datasets.protocol(experiment.data).folds else published(
                       [run], split, len(predicted), snapshot=snapshot),
                   without_copies=_without_copies(predicted, faces), engine=engine.device.engine)
    # What the last trials read says nothing of an earlier snapshot.
    readings = schedules.of(experiment).readings(run) if iteration == info["iterations"] else {}
    if readings:
        metrics["alone"] = {loss: _right(predict(experiment, samples, *reading, engine))
                            for loss, reading in readings.items()}
    predictions.write(decisions_path(run, split, snapshot), predicted)
    files.write_json(metrics_path(run, split, snapshot), metrics)
    return metrics


def every_snapshot(run: Run, split: str) -> Iterator[dict]:
    """Evaluates each snapshot that the run has kept, in their order. Yields "iteration", "correct" and "total" on a
    split. A run of many segments has kept the last snapshot of each round, pace or rate.

    The results are saved in the run's folder when all are complete, and read from there as long as the snapshots and
    the engine that evaluates are the same. Raises UserError as `evaluate` does.
    """
    run.caffemodel()
    engine = all_cores()
    saved = saved_snapshots(run, split, engine.device.engine)
    if saved:
        yield from saved
        return
    info, results = run.info, []
    samples = forward.read(info["data"], require_same_data(run), split)
    for iteration in run.snapshots():
        predicted = predict(run.experiment, samples, run.path(DEPLOY), run.caffemodel(iteration), "prob", engine)
        results.append({"iteration": iteration, **_right(predicted)})
        yield results[-1]
    files.write_json(snapshots_path(run, split), {"split": split, "snapshots": results, "engine": engine.device.engine})


def best(snapshots: Sequence[dict]) -> dict:
    """The result of `every_snapshot` with the most correct units. If several are equal, the first one, as in code that
    replaces the best epoch only by a better one."""
    return max(snapshots, key=lambda snapshot: snapshot["correct"])


def published(runs: Sequence[Run], split: str, total: int, tested: Optional[dict] = None,
              snapshot: Snapshot = None) -> Optional[dict]:
    """The paper's figure for a run, or for all runs of a group: its value, its correct and total if it is a count,
    whether the runs' figure is comparable with it, and the departures. None if the paper prints no figure.

    total: the number of evaluated units; tested: the note of the test data, if they are not the data that the runs
    were trained on; snapshot: that was evaluated.
    """
    figure = values.of_experiment(runs[0].experiment.name, split,
                                  prepared_folder.data_set(tested) if tested else None)
    if not figure:
        return None
    departing = departures.of_figure(figure, runs, total, tested, snapshot) + departures.of_engine(
        {"engine": all_cores().device.engine})
    return {"value": figure.value, "correct": figure.correct, "total": figure.total, "comparable": not departing,
            "departures": [asdict(departure) for departure in departing]}


def predict(experiment: Experiment, samples: Split, deploy: str, caffemodel: str, blob: str,
            engine: Engine = forward.ONE) -> list[Prediction]:
    """The predictions for the units of a split, by the experiment's vote over the class probabilities in a blob."""
    outputs = forward.of_split(experiment, samples, deploy, caffemodel, [blob], engine)
    return predictions.vote(samples.units, samples.labels, samples.rows, outputs[blob], experiment.decision)


def _right(predicted: Sequence[Prediction]) -> dict:
    return {"correct": sum(prediction.right for prediction in predicted), "total": len(predicted)}


def _without_copies(predicted: Sequence[Prediction], faces: Sequence[manifest.Face]) -> dict:
    """The counts without the units that have an image with the same pixels as a training image."""
    return _right([prediction for prediction in predicted if not any(faces[row].copy_of for row in prediction.rows)])


def metrics_path(run: Union[Segment, Group], split: str, snapshot: Snapshot = None) -> str:
    """The path of the metrics. The name contains the split unless it is the test split, and the snapshot unless it is
    the last one."""
    return run.path(f"metrics{'' if split == 'test' else '-' + split}{snapshots.text(snapshot)}.json")


def decisions_path(run: Union[Segment, Group], split: str, snapshot: Snapshot = None) -> str:
    """The path of the predictions."""
    return run.path(f"decisions-{split}{snapshots.text(snapshot)}.csv")


def snapshots_path(run: Segment, split: str) -> str:
    """The path of the results of `every_snapshot`, which tables never read."""
    return run.path(f"metrics-every-snapshot{'' if split == 'test' else '-' + split}.json")


def saved_snapshots(run: Run, split: str, engine: Optional[str] = None) -> list[dict]:
    """The saved results of `every_snapshot`; empty if there are none, if the run has other snapshots by now, or if
    another engine than `engine` has evaluated them (None: any may have)."""
    path = snapshots_path(run, split)
    note = files.read_json(path) if os.path.exists(path) else {"snapshots": []}
    if engine not in (None, departures.engine_of(note)):
        return []
    saved = note["snapshots"]
    return saved if [snapshot["iteration"] for snapshot in saved] == run.snapshots() else []


def snapshots_engine(run: Run, split: str) -> str:
    """The engine that evaluated `saved_snapshots`, which must be there."""
    return departures.engine_of(files.read_json(snapshots_path(run, split)))
