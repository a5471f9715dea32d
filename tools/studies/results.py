"""Trains the rows of a study and measures them."""
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

import numpy as np
import scipy.stats

from common import files
from common.errors import UserError
from common.machine import Device
from data_prep import prepared_folder
from tools.evaluation import evaluate, groups, predictions
from tools.report.figures import deviation
from tools.studies.definition import TIMES, Row, Study
from tools.training import groups as training
from tools.training import run as trained
from tools.training.groups import Group
from tools.training.run import Run

KIND = "study"


@dataclass(frozen=True)
class Versus:
    """A row beside the baseline, trained with the same seed, on the units of the test split."""

    seed: int
    # Units that only the row, and only the baseline, predicts correctly.
    gained: int
    lost: int

    @property
    def p(self) -> float:
        """McNemar's exact test, two-sided: the chance of a difference as large or larger if each of these units is as
        likely to fall to the one as to the other."""
        return min(1.0, 2 * float(scipy.stats.binom.cdf(min(self.gained, self.lost), self.gained + self.lost, 0.5)))


@dataclass(frozen=True)
class Measured:
    """What is measured of a row. Accuracies are in %."""

    row: Row
    # The seeds that are measured: of each there is a value in the three sequences below.
    seeds: Sequence[int] = ()
    val: Sequence[float] = ()
    test: Sequence[float] = ()
    # The same without units that have the pixels of a training image.
    without_copies: Sequence[float] = ()
    # Against the baseline; empty for the baseline.
    versus: Sequence[Versus] = ()
    # What trained the runs, and what evaluated them, such as "torch".
    trained_on: Sequence[str] = ()
    evaluated_by: Sequence[str] = ()
    hours: Optional[float] = None


def require_fitting(study: Study, data: str, out: str) -> None:
    """Raises UserError if prepared data lack a split that is evaluated, and if what is in `out` was trained on other
    data, or with other settings than the study has now: in one table, they would pass for the same."""
    prepared_folder.require_prepared(data)
    notes = {}
    for name in prepared_folder.any_note(data).get("folds") or ["."]:
        place = os.path.normpath(os.path.join(data, name))
        notes[name] = note = prepared_folder.read_note(place)
        if "val" not in note["records"]:
            raise UserError(f"{place}: has no validation split, which a study evaluates; "
                            + prepared_folder.makes_validation(note))
        if study.tests and "test" not in note["records"]:
            raise UserError(f"{place}: has no test split, which a study without `test: false` evaluates")
    for row, seed, run in _begun(study, out):
        trained.require_same_experiment(
            run, replace(row.experiment, solver=dict(row.experiment.solver, random_seed=seed)))
        if run.info["manifest"] != notes.get(os.path.relpath(run.folder, _member(row, out, seed).folder), {}).get(
                "manifest"):
            raise UserError(f"{run.folder}: was trained on other data than those of {data}; give another --out")


def require_weights(study: Study, out: str, weights: Optional[str]) -> None:
    """Raises UserError if a training in `out` began with other weights than these, which the other rows would begin
    with. A row that takes none began with random ones."""
    digests: dict[str, str] = {}
    for row, _, run in _begun(study, out):
        training.require_weights(run, training.caffemodel(
            weights, os.path.relpath(run.folder, os.path.join(out, row.name)).split(os.sep)
            ) if weights and row.takes_weights else None, digests)


def require_seeds(row: Row, out: str) -> None:
    """Raises UserError if a row has seeds in `out` that the study has not now."""
    training.require_beginnable(Group(os.path.join(out, row.name), "seeds", list(map(training.seed_name, row.seeds))))


def _begun(study: Study, out: str) -> Iterator[tuple[Row, int, Run]]:
    """The trainings in `out` that have a snapshot, with their row and seed."""
    for row in study.rows:
        for seed in row.seeds:
            for run in training.runs(_member(row, out, seed)):
                if run.has_begun and run.has_any_snapshot:
                    yield row, seed, run


def train(study: Study, row: Row, data: str, out: str, weights: Optional[str], threads: Optional[int], device: Device,
          processes: int, now: Sequence[int] = ()) -> None:
    """Trains a row with all its seeds, or continues, and evaluates it. The test split is evaluated once for each
    training. now: which of the seeds; empty for all. Raises UserError as groups.train."""
    folder = os.path.join(out, row.name)
    began = time.monotonic()
    try:
        group = training.train(row.experiment, data, folder, weights if row.takes_weights else None, row.seeds, threads,
                               device, processes, now=now)
    finally:
        path = os.path.join(out, TIMES)
        times = files.read_json(path) if os.path.exists(path) else {}
        files.write_json(path, {**times, row.name: times.get(row.name, 0) + time.monotonic() - began})
    for split in splits(study):
        members = [_member(row, out, seed) for seed in row.seeds]
        finished = [member for member in members
                    if all(run.has_begun and run.is_finished for run in training.runs(member))]
        # Of a run that is trained anew the metrics are removed; those of its groups stay.
        if finished == members:
            if not all(os.path.exists(evaluate.metrics_path(one, split))
                       for one in (group, *members, *training.runs(group))):
                groups.evaluate_all(group, split, anew=False)
        else:
            for member in finished:
                groups.evaluate_all(member, split, anew=False)


def splits(study: Study) -> Sequence[str]:
    """What is evaluated."""
    return ("val", "test") if study.tests else ("val",)


def measured(study: Study, out: str) -> list[Measured]:
    """What the rows have reached so far."""
    path = os.path.join(out, TIMES)
    times = files.read_json(path) if os.path.exists(path) else {}
    rows = {row.name: row for row in study.rows}
    baseline = _right(rows[study.baseline], out) if study.tests else {}
    found = []
    for row in study.rows:
        seeds = [seed for seed in row.seeds if all(
            os.path.exists(evaluate.metrics_path(_member(row, out, seed), split)) for split in splits(study))]
        val = _metrics(row, out, seeds, "val")
        test = _metrics(row, out, seeds, "test") if study.tests else []
        versus = [] if row.name == study.baseline else [
            Versus(seed, int(np.sum(right & ~baseline[seed])), int(np.sum(baseline[seed] & ~right)))
            for seed, right in _right(row, out).items() if seed in baseline]
        found.append(Measured(row, seeds, [_percent(one) for one in val], [_percent(one) for one in test],
                              [_percent(one["without_copies"]) for one in test], versus,
                              sorted({run.trained_on for seed in seeds
                                      for run in training.runs(_member(row, out, seed))}),
                              sorted({one["engine"] for one in (*val, *test)}),
                              times[row.name] / 3600 if val and row.name in times else None))
    return found


def _member(row: Row, out: str, seed: int) -> Union[Run, Group]:
    """What is trained of a row with a seed: a run, or of data with folds a group."""
    return training.open_(os.path.join(out, row.name, training.seed_name(seed)))


def _metrics(row: Row, out: str, seeds: Sequence[int], split: str) -> list[dict]:
    return [files.read_json(evaluate.metrics_path(_member(row, out, seed), split)) for seed in seeds]


def _right(row: Row, out: str) -> dict[int, np.ndarray]:
    """Seed -> whether the prediction for each unit of the test split is right, where it is evaluated."""
    paths = {seed: evaluate.decisions_path(_member(row, out, seed), "test") for seed in row.seeds}
    return {seed: np.array([one.right for one in predictions.read(path)]) for seed, path in paths.items()
            if os.path.exists(path)}


def _percent(counts: dict) -> float:
    return 100 * counts["correct"] / counts["total"]


def paired_p(differences: Sequence[float]) -> Optional[float]:
    """The paired t test, two-sided. differences: of two rows, one for each seed. None for fewer than two seeds, and
    where all differences are the same."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return float(scipy.stats.ttest_1samp(differences, 0).pvalue)


def mean(values: Sequence[float]) -> str:
    """The mean as text, with the standard deviation where there are several values."""
    if not values:
        return ""
    return f"{np.mean(values):.2f}" + (f" ± {deviation(values):.2f}" if len(values) > 1 else "")
