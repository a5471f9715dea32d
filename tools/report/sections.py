"""What the page says of one run or group."""
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import numpy as np

from data_prep import prepared_folder
from tools.evaluation.departures import Departure
from tools.evaluation.predictions import Decision
from tools.report import commands, figures, pictures, tables, training
from tools.report.commands import Again
from tools.report.entries import Entry
from tools.report.papers import comparison
from tools.training import chain, groups
from tools.training.schedules import adaptive_weights

FACES = 14
# Ten folds.
SHOWN_WEIGHTS = 10


class Sample(NamedTuple):
    """A face as shown. picture: PNG as a data URI."""

    picture: str
    unit: str
    label: str
    predicted: str
    probability: float


class Section(NamedTuple):
    """info, definition, solver, right, wrong: of a group's first run; split: the part that confusion, right and wrong
    are of; weights: how loss weights went, of each run that adapted them; published: what the paper prints;
    departures: what stands against comparing with it; chosen: what choices among the snapshots come to;
    again: how to run it again."""

    entry: Entry
    info: dict
    metrics: dict[str, Optional[dict]]
    published: list[str]
    departures: list[Departure]
    chosen: list[tables.Chosen]
    split: Optional[str]
    confusion: Optional[str]
    weights: list[str]
    right: list[Sample]
    wrong: list[Sample]
    again: Again
    definition: str
    solver: str
    final: dict[str, float]


def section(entry: Entry) -> Section:
    run = entry.run
    last = chain.spans(run)[-1].segment
    metrics = {split: entry.metrics(split) for split in ("val", "test")}
    shown = entry.shown_split
    right, wrong = _samples(entry, shown) if shown else ([], [])
    return Section(
        entry, run.info, metrics, tables.published(entry), tables.departing(entry),
        tables.chosen_snapshots(entry), shown,
        pictures.svg(figures.confusion_matrix(metrics[shown])) if shown else None, weights(entry), right, wrong,
        commands.again(entry), *(_text(last.path(name)) for name in ("train_val.prototxt", "solver.prototxt")),
        {name: points[-1][1] for name, points in training.curves(run).items()} if entry.kind == "run" else {})


def weights(entry: Entry) -> list[str]:
    """Of a single run its objectives too."""
    found = []
    for name, rounds, alone in adapted(entry):
        found.append(pictures.svg(figures.loss_weights(rounds, name, alone)))
        if entry.kind == "run":
            found.append(pictures.svg(figures.objectives(rounds, "objectives, Eq. (11)")))
    return found[:SHOWN_WEIGHTS]


def adapted(entry: Entry) -> Iterator[tuple[str, list[dict], dict[str, dict]]]:
    """Of each run that adapted loss weights: its name, its rounds, and what each loss gets right by itself."""
    for run in groups.runs(entry.one):
        rounds = adaptive_weights.history(run)
        if rounds:
            name = "loss weights" if entry.kind == "run" else os.path.relpath(run.folder, entry.one.folder)
            yield name, rounds, (Entry(run, name).metrics("test") or {}).get("alone", {})


def _text(path: str) -> str:
    """Empty where training has not come so far."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _samples(entry: Entry, split: str) -> list[list[Sample]]:
    classes = prepared_folder.read_note(entry.run.info["data"])["classes"]
    return [[_sample(image, decision, classes) for image, decision in found]
            for found in surest(entry, split, FACES)]


def surest(entry: Entry, split: str, count: int) -> list[list[tuple[np.ndarray, Decision]]]:
    """The surest right decisions and the surest wrong ones, one after the other class, with their faces, uint8
    (channels, height, width)."""
    found = []
    for right in (True, False):
        chosen = comparison.spread([one for one in comparison.decided(entry.run, split) if one.right == right], count)
        found.append(list(zip(comparison.faces(entry.run.info["data"], split, [
            comparison.shown(decision) for decision in chosen]), chosen)))
    return found


def _sample(image: np.ndarray, decision: Decision, classes: Sequence[str]) -> Sample:
    return Sample(pictures.png(image.transpose(1, 2, 0)), decision.unit, classes[decision.label],
                  classes[decision.predicted], decision.probabilities[decision.predicted])
