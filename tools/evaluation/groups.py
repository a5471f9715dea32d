"""The metrics of a group of runs, merged from those of its members."""
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from common import files
from data_prep import prepared_folder
from tools.evaluation import evaluate, predictions, roc
from tools.training.groups import Group, members, runs
from tools.training.run import Run

Metrics = dict[str, Any]


def evaluate_all(run_or_group: Union[Run, Group], split: str) -> Metrics:
    """Evaluates a run, or all runs of a group, and writes the metrics. Folds are summed: correct of all. Seeds have a
    mean and a standard deviation."""
    if isinstance(run_or_group, Run):
        return evaluate.evaluate(run_or_group, split)
    group = run_or_group
    of_members = [evaluate_all(member, split) for member in members(group)]
    counts = [{"name": name, "correct": metrics["correct"], "total": metrics["total"]}
              for name, metrics in zip(group.members, of_members)]
    merged = _of_folds(group, split) if group.kind == "folds" else _of_seeds(of_members)
    metrics = {**of_members[0], **merged, group.kind: counts,
               "without_copies": _summed([metrics["without_copies"] for metrics in of_members])}
    if "alone" in metrics:
        metrics["alone"] = {feature: _summed([one["alone"][feature] for one in of_members])
                            for feature in metrics["alone"]}
    files.write_json(evaluate.metrics_path(group, split), metrics)
    return metrics


def _summed(counts: Sequence[Metrics]) -> dict[str, int]:
    return {key: sum(count[key] for count in counts) for key in ("correct", "total")}


def _of_folds(group: Group, split: str) -> Metrics:
    decided = [decision for member in members(group)
               for decision in predictions.read(member.path(f"decisions-{split}.csv"))]
    predictions.write(group.path(f"decisions-{split}.csv"), decided)
    trained = runs(group)
    note = prepared_folder.read_note(trained[0].info["data"])
    return {**predictions.count(decided, note["classes"]), **roc.measures(*predictions.scores(decided)),
            "published": evaluate.published(trained, split, len(decided))}


def _of_seeds(of_members: Sequence[Metrics]) -> Metrics:
    accuracies = [metrics["accuracy"] for metrics in of_members]
    means = {what: float(np.mean([metrics[what] for metrics in of_members]))
             for what in ("average_accuracy", *roc.MEASURES) if what in of_members[0]}
    return {"accuracy": float(np.mean(accuracies)), "deviation": float(np.std(accuracies, ddof=len(accuracies) > 1)),
            **means, **_summed(of_members),
            "confusion": np.sum([metrics["confusion"] for metrics in of_members], axis=0).tolist()}
