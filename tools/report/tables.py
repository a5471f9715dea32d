"""What the page says of several runs at once: tables, and the figures that are drawn from their results."""
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from published import values as printed_figures
from tools.analysis import respond_ratio, svm
from tools.evaluation import departures, evaluate, predictions, roc
from tools.evaluation.departures import Departure
from tools.report import figures, paper_report, pictures
from tools.report.entries import Entry, of_last


@dataclass(frozen=True)
class BestSnapshot:
    """What a choice among the snapshots comes to; of a group, each run makes its own choice."""

    title: str
    # The snapshots that are chosen, as text.
    iterations: str
    # What trained and what evaluated them.
    computed: str
    # Split -> "correct" and "total".
    counts: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Members:
    """Test results of groups, fold by fold or seed by seed."""

    # "folds" or "seeds".
    kind: str
    # The groups.
    entries: list[Entry]
    # Name of a member -> "correct" and "total" of each group, None where a group has no such member.
    rows: dict[str, list[Optional[dict]]]


@dataclass(frozen=True)
class Svm:
    """SVMs on a handcrafted feature or on the deep feature of a run."""

    title: str
    results: svm.Saved
    # Why they are not to be compared with what is published.
    departures: list[Departure]


def accuracy(metrics: Optional[dict]) -> str:
    """As text."""
    if not metrics:
        return "not evaluated"
    seeds = metrics.get("seeds")
    return f"{100 * metrics['accuracy']:.2f}% " + (
        f"(mean of {len(seeds)} seeds)" if seeds else f"({metrics['correct']}/{metrics['total']})")


def published(entry: Entry) -> list[str]:
    """What the paper prints of the experiment's test split, in %, and in which tables."""
    tables: dict[str, list[str]] = {}
    for figure in printed_figures.read(entry.paper):
        if (figure.experiment, figure.split, figure.measure, figure.trained_on) == (
                entry.experiment.name, "test", "accuracy", "") and figure.table not in tables.setdefault(
                    figure.value, []):
            tables[figure.value].append(figure.table)
    return [f"{value} (Table {', '.join(names)})" for value, names in tables.items() if names]


def departing(entry: Entry) -> list[Departure]:
    """In what an entry departs from the first figure that the paper prints of its test split; none where there is no
    such figure."""
    figure = printed_figures.of_experiment(entry.experiment.name, "test")
    if not figure:
        return []
    metrics = entry.metrics("test")
    return departures.of_figure(figure, entry.runs, metrics["total"] if metrics else None, None, entry.snapshot) + (
        departures.of_engine(metrics) if metrics else [])


def computed(entry: Entry) -> Optional[str]:
    """What trained an entry and what evaluated it; None where it is not evaluated."""
    measured = [metrics for metrics in (entry.metrics("val"), entry.metrics("test")) if metrics]
    return departures.computed([run.trained_on for run in entry.runs], map(departures.engine_of, measured)) \
        if measured else None


def best_snapshots(entry: Entry) -> list[BestSnapshot]:
    """Of an entry with its last snapshot, all of whose snapshots were evaluated on the test split: the best one there,
    and, where they were evaluated on the validation split too, the best one there, each with its counts on both."""
    if entry.snapshot is not None:
        return []
    snapshots = {split: [evaluate.saved_snapshots(run, split) for run in entry.runs] for split in ("val", "test")}
    snapshots = {split: of_runs for split, of_runs in snapshots.items() if all(of_runs)}
    if "test" not in snapshots:
        return []
    titles = {"val": "best snapshot on the validation split", "test": "best snapshot on the test split" + (
        ", as the authors' code does" if paper_report.of(entry.paper).best_on_test else ", chosen by it")}
    computed = departures.computed([run.trained_on for run in entry.runs], [
        evaluate.snapshots_engine(run, split) for split in snapshots for run in entry.runs])
    rows = []
    for by in snapshots:
        places = [of_run.index(evaluate.best(of_run)) for of_run in snapshots[by]]
        iterations = ", ".join(str(of_run[place]["iteration"]) for of_run, place in zip(snapshots[by], places))
        rows.append(BestSnapshot(titles[by], iterations, computed, {split: {
            key: sum(of_run[place][key] for of_run, place in zip(snapshots[split], places))
            for key in ("correct", "total")} for split in snapshots}))
    return rows


def members(entries: Sequence[Entry]) -> list[Members]:
    """A table of the groups of folds, and one of those of seeds, as far as they are evaluated."""
    tables = []
    for kind in ("folds", "seeds"):
        evaluated = [entry for entry in entries if entry.kind == kind and entry.metrics("test")]
        counts = [{member["name"]: member for member in entry.test_metrics[kind]} for entry in evaluated]
        names = sorted({name for of_group in counts for name in of_group})
        if evaluated:
            tables.append(Members(kind, evaluated, {name: [of_group.get(name) for of_group in counts]
                                                    for name in names}))
    return tables


def repetitions(entries: Sequence[Entry]) -> Optional[str]:
    accuracies = [(entry.title, [seed["correct"] / seed["total"] for seed in entry.test_metrics["seeds"]])
                  for entry in entries if entry.kind == "seeds" and entry.metrics("test")]
    return pictures.svg(figures.repetitions(accuracies)) if accuracies else None


def roc_curves(entries: Sequence[Entry]) -> Optional[str]:
    curves = average_roc(entries)
    return pictures.svg(figures.roc_curves(curves)) if curves else None


def average_roc(entries: Sequence[Entry]) -> dict[str, roc.Curve]:
    """Title -> average curve, of the entries that are evaluated on the test split."""
    averages = {}
    for entry in entries:
        path = evaluate.decisions_path(entry.run_or_group, "test", entry.snapshot)
        curves = roc.curves(*predictions.scores(predictions.read(path))) if os.path.exists(path) else {}
        if curves:
            averages[entry.title] = roc.mean(list(curves.values()))
    return averages


def respond_ratios(entries: Sequence[Entry]) -> dict[str, Any]:
    """Of runs that have been measured: title -> expression -> part of the face -> ratio, and a picture of fear."""
    ratios = {entry.title: respond_ratio.read(entry.run) for entry in of_last(entries)
              if os.path.exists(entry.run.path(respond_ratio.FILE))}
    fear = {title: rows["fear"] for title, rows in ratios.items() if "fear" in rows}
    return {"respond_ratios": ratios,
            "respond_ratio_bars": pictures.svg(figures.respond_ratios(fear, "fear")) if fear else None}


def svms(entries: Sequence[Entry]) -> list[Svm]:
    """On the handcrafted features of the runs' data, then on the runs' deep features."""
    rows: dict[tuple[str, str], Svm] = {}
    for entry in entries:
        for name, results in svm.handcrafted(entry.run).items():
            rows.setdefault((entry.info["manifest"], name), Svm(
                name.upper(), results, svm.departing(entry.info["data"], [name])))
    deep = [(entry, svm.saved(svm.run_prefix(entry.run), entry.info["manifest"]))
            for entry in of_last(entries)]
    return list(rows.values()) + [Svm(entry.title, results, departures.of_runs([entry.run]) + departures.of_engine(
        {"engine": results.engine}))
                                  for entry, results in deep if results]
