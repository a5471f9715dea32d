"""The metrics of a group of runs, merged from the metrics of its members."""
import os
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from common import files
from data_prep import prepared_folder
from tools.evaluation import evaluate, predictions, roc
from tools.training.groups import Group, members, runs
from tools.training.run import Run
from tools.training.snapshots import Snapshot

Metrics = dict[str, Any]


def evaluate_all(run_or_group: Union[Run, Group], split: str, snapshot: Snapshot = None, anew: bool = True) -> Metrics:
    """Evaluates a run, or all runs of a group, on a split and writes the metrics. The counts of folds are summed. For
    seeds, the mean and the standard deviation are computed. snapshot: see `evaluate.evaluate`. anew: whether runs
    that have metrics are evaluated again."""
    if isinstance(run_or_group, Run):
        path = evaluate.metrics_path(run_or_group, split, snapshot)
        if not anew and os.path.exists(path):
            return files.read_json(path)
        return evaluate.evaluate(run_or_group, split, snapshot)
    group = run_or_group
    of_members = [evaluate_all(member, split, snapshot, anew) for member in members(group)]
    counts = [{"name": name, "correct": metrics["correct"], "total": metrics["total"]}
              for name, metrics in zip(group.members, of_members)]
    merged = _of_folds(group, split, snapshot) if group.kind == "folds" else _of_seeds(of_members)
    if group.kind != "folds" and of_members[0]["published"]:  # every seed counts: one may be of another engine
        merged["published"] = evaluate.published(runs(group), split, of_members[0]["total"], snapshot=snapshot)
    metrics = {**of_members[0], **merged, group.kind: counts,
               "iterations": [iteration for metrics in of_members for iteration in metrics["iterations"]],
               "without_copies": _summed([metrics["without_copies"] for metrics in of_members])}
    if "alone" in metrics:
        metrics["alone"] = {feature: _summed([member["alone"][feature] for member in of_members])
                            for feature in metrics["alone"]}
    files.write_json(evaluate.metrics_path(group, split, snapshot), metrics)
    return metrics


def _summed(counts: Sequence[Metrics]) -> dict[str, int]:
    return {key: sum(count[key] for count in counts) for key in ("correct", "total")}


def _of_folds(group: Group, split: str, snapshot: Snapshot) -> Metrics:
    predicted = [prediction for member in members(group)
                 for prediction in predictions.read(evaluate.decisions_path(member, split, snapshot))]
    predictions.write(evaluate.decisions_path(group, split, snapshot), predicted)
    trained = runs(group)
    note = prepared_folder.read_note(trained[0].info["data"])
    return {**predictions.count(predicted, note["classes"]), **roc.measures(*predictions.scores(predicted)),
            "published": evaluate.published(trained, split, len(predicted), snapshot=snapshot)}


def _of_seeds(of_members: Sequence[Metrics]) -> Metrics:
    accuracies = [metrics["accuracy"] for metrics in of_members]
    means = {measure: float(np.mean([metrics[measure] for metrics in of_members]))
             for measure in ("average_accuracy", *roc.MEASURES) if measure in of_members[0]}
    return {"accuracy": float(np.mean(accuracies)), "deviation": float(np.std(accuracies, ddof=len(accuracies) > 1)),
            **means, **_summed(of_members),
            "confusion": np.sum([metrics["confusion"] for metrics in of_members], axis=0).tolist()}
