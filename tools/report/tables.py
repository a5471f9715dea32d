"""What is said of several runs at once: tables, and the figures that are drawn from their results."""
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from published import values as printed_figures
from tools.analysis import respond_ratio, svm
from tools.evaluation import departures, evaluate, predictions, roc
from tools.evaluation.departures import Departure
from tools.report import figures, pictures
from tools.report.entries import Entry
from tools.training import groups


class Kappa(NamedTuple):
    """Row of [xie2019a] Table VIII. printed: the paper's figure for a part, in %, where it has the experiment;
    departures: see `departing`."""

    value: float
    entry: Entry
    printed: dict[str, str]
    departures: list[Departure]


# Papers whose authors' code keeps the epoch that is best on the test part; of farzaneh2021 it is its main.py.
KEEP_BEST_ON_TEST = ("farzaneh2021",)


class Chosen(NamedTuple):
    """What a choice among the snapshots comes to, of a group's runs each run's own choice. counts: part -> "correct"
    and "total"; iterations: the chosen ones, as text."""

    title: str
    iterations: str
    counts: dict[str, dict[str, int]]


class Members(NamedTuple):
    """Test results of groups, fold by fold or seed by seed. rows: member -> by group, "correct" and "total", None
    where the group has no such member."""

    kind: str
    entries: list[Entry]
    rows: dict[str, list[Optional[dict]]]


def published(entry: Entry) -> list[str]:
    """What the paper prints of the experiment's test part, in %, and in which tables."""
    name = entry.run.info["experiment"]["name"]
    tables: dict[str, list[str]] = {}
    for figure in printed_figures.read(entry.paper):
        if (figure.experiment, figure.split, figure.measure, figure.trained_on) == (
                name, "test", "accuracy", "") and figure.table not in tables.setdefault(figure.value, []):
            tables[figure.value].append(figure.table)
    return ["{} (Table {})".format(value, ", ".join(found)) for value, found in tables.items() if found]


def departing(entry: Entry) -> list[Departure]:
    """In what an entry departs from the first figure that the paper prints of its test part; none where there is no
    such figure."""
    figure = printed_figures.of_experiment(entry.run.info["experiment"]["name"], "test")
    metrics = entry.metrics("test")
    return departures.of_figure(figure, groups.runs(entry.one), metrics and metrics["total"]) if figure else []


def chosen_snapshots(entry: Entry) -> list[Chosen]:
    """Of an entry all of whose snapshots were evaluated on the test part: the best on it, and, where the validation
    part was too, what the best on that has on both."""
    runs = groups.runs(entry.one)
    kept = {split: [evaluate.kept_snapshots(run, split) for run in runs] for split in ("val", "test")}
    kept = {split: found for split, found in kept.items() if all(found)}
    if "test" not in kept:
        return []
    titles = {"test": "best snapshot on the test part" + (
        ", as the authors' code does" if entry.paper in KEEP_BEST_ON_TEST else ", chosen by it"),
              "val": "best snapshot on the validation part"}
    rows = []
    for by in ("val", "test"):
        if by in kept:
            places = [found.index(evaluate.best(found)) for found in kept[by]]
            iterations = ", ".join(str(found[place]["iteration"]) for found, place in zip(kept[by], places))
            rows.append(Chosen(titles[by], iterations, {split: {
                key: sum(found[place][key] for found, place in zip(kept[split], places))
                for key in ("correct", "total")} for split in kept}))
    return rows


def kappas(entries: Sequence[Entry]) -> list[Kappa]:
    """Of entries that differ in kappa, the largest first; none where there are not several."""
    rows = [Kappa(entry.run.experiment.weighting["kappa"], entry, {
        figure.split: figure.value for figure in printed_figures.read("xie2019a")
        if (figure.table, figure.experiment) == ("VIII", entry.run.info["experiment"]["name"])}, departing(entry))
        for entry in entries if entry.run.experiment.weighting]
    rows.sort(key=lambda row: -row.value)
    return rows if len({row.value for row in rows}) > 1 else []


def members(entries: Sequence[Entry]) -> list[Members]:
    """A table of the groups of folds, and one of those of seeds; of those that are evaluated."""
    tables = []
    for kind in ("folds", "seeds"):
        shown = [entry for entry in entries if entry.kind == kind and entry.metrics("test")]
        found = [{one["name"]: one for one in entry.metrics("test")[kind]} for entry in shown]
        names = sorted({name for one in found for name in one})
        if shown:
            tables.append(Members(kind, shown, {name: [one.get(name) for one in found] for name in names}))
    return tables


def repetitions(entries: Sequence[Entry]) -> Optional[str]:
    found = [(entry.title, [seed["correct"] / seed["total"] for seed in entry.metrics("test")["seeds"]])
             for entry in entries if entry.kind == "seeds" and entry.metrics("test")]
    return pictures.svg(figures.repetitions(found)) if found else None


def roc_curves(entries: Sequence[Entry]) -> Optional[str]:
    found = average_roc(entries)
    return pictures.svg(figures.roc_curves(found)) if found else None


def average_roc(entries: Sequence[Entry]) -> dict[str, roc.Curve]:
    """[xie2019b] Fig. 8, title -> average curve, of those that are evaluated on the test part."""
    averages = {}
    for entry in entries:
        path = entry.one.path("decisions-test.csv")
        found = roc.curves(*predictions.scores(predictions.read(path))) if os.path.exists(path) else {}
        if found:
            averages[entry.title] = roc.mean(list(found.values()))
    return averages


def respond_ratios(entries: Sequence[Entry]) -> dict:
    """Of runs that have been measured: [xie2019b] Table 2, title -> expression -> part of the face -> ratio, and
    Fig. 7 (b), which is on fear."""
    ratios = {entry.title: respond_ratio.read(entry.run) for entry in entries
              if os.path.exists(entry.run.path(respond_ratio.FILE))}
    fear = {title: rows["fear"] for title, rows in ratios.items() if "fear" in rows}
    return {"respond_ratios": ratios,
            "respond_ratio_bars": pictures.svg(figures.respond_ratios(fear, "fear")) if fear else None}


def svms(entries: Sequence[Entry]) -> list[tuple[str, svm.Saved, list[Departure]]]:
    """Rows of [xie2019a] Table II: handcrafted features of the runs' data, then the runs' deep ones; with what stands
    against comparing them with the printed ones."""
    rows = {}
    for entry in entries:
        for name, kept in svm.handcrafted(entry.run).items():
            rows.setdefault((entry.run.info["manifest"], name), (
                name.upper(), kept, svm.departing(entry.run.info["data"], [name])))
    deep = [(entry.title, svm.saved(svm.run_prefix(entry.run), entry.run.info["manifest"]),
             departures.of_runs([entry.run])) for entry in entries]
    return list(rows.values()) + [row for row in deep if row[1]]
