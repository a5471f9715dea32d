"""The differences between a run and its paper ("departures"). A measured figure is compared with a printed figure only
if there are none. Departures that all runs have are not listed here, but in docs/departures.md.
"""
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from common import experiment as experiments
from common import files, machine
from common.errors import UserError
from common.experiment import Experiment
from data_prep import datasets, prepared_folder
from data_prep.manifest import SPLITS
from prototxt import nets
from published.values import Figure
from tools.training import pretraining, snapshots
from tools.training.run import FRESH_HEAD, ORIGIN, Run, data_note
from tools.training.snapshots import Snapshot

NONE = "none"
DIGITS = 16
# Fields of an experiment that are not compared as settings: names, and the pretraining, which is compared separately.
NO_SETTINGS = ("name", "title", "source", "pretrained", "file")
# Settings that do not change the weights; the second group does if the best snapshot is passed on.
SILENT, SILENT_UNLESS_BEST = ("solver.display",), ("solver.snapshot", "solver.test_interval")
ENGINE = machine.CAFFE
GEOMETRY, FEATURES_OF = "literal", "crop"


@dataclass(frozen=True)
class Departure:
    """One difference between a run and its paper."""

    # The setting or the property of the data that differs.
    what: str
    # Its value here, as a short text.
    here: str
    # Its value in the paper, as a short text.
    paper: str

    def __str__(self) -> str:
        return f"{self.what}: {self.here} (paper: {self.paper})"


def of_figure(figure: Figure, trained: Sequence[Run], total: Optional[int] = None, tested: Optional[dict] = None,
              snapshot: Snapshot = None) -> list[Departure]:
    """The departures for a measured figure. figure: the printed figure; trained: the run, or all runs of a group;
    total: see `of_count`; tested: the note of the test data, if they are not the data that the runs were trained
    on; snapshot: of the runs that was measured."""
    departures = of_runs(trained) + _of_snapshot(trained, snapshot)
    if tested:
        departures += [replace(departure, what="test " + departure.what)
                       for departure in of_data(tested, figure.data, ())]
    return departures + of_count(figure, total)


def engine_of(metrics: dict) -> str:
    """The engine that computed the nets of metrics, which earlier versions did not note."""
    return metrics.get("engine", ENGINE)


def computed(trained_on: Iterable[str], evaluated_by: Iterable[str]) -> str:
    """What trained runs and what evaluated them, in words."""
    return f"trained on {', '.join(sorted(set(trained_on)))}, evaluated by {', '.join(sorted(set(evaluated_by)))}"


def of_engine(metrics: dict) -> list[Departure]:
    """The departure of metrics of nets that Caffe did not compute."""
    engine = engine_of(metrics)
    return [] if engine == ENGINE else [Departure("evaluated by", engine, ENGINE)]


def _of_snapshot(trained: Sequence[Run], snapshot: Snapshot) -> list[Departure]:
    """The papers' figures are those of the last snapshot."""
    iterations = [snapshots.iteration(run, snapshot) for run in trained]
    if iterations == [run.info["iterations"] for run in trained]:
        return []
    return [Departure("snapshot", snapshots.described(iterations, snapshot) or "", "the last one")]


def of_runs(trained: Sequence[Run], trainings: Optional[int] = None) -> list[Departure]:
    """The departures of a run, or of all runs of a group, which have the same experiment. trainings: how many
    trainings with other seeds the paper has; None for one."""
    first = trained[0]
    experiment = first.experiment
    try:
        printed = experiments.load(experiment.name)
    except UserError:
        return [Departure("experiment", experiment.name, "not among the experiments")]
    departures = []
    for run in trained:
        departures += _of_weights(run, printed)
        if run.info.get(FRESH_HEAD):
            departures.append(Departure("layers that start afresh", ", ".join(run.info[FRESH_HEAD]), NONE))
    departures += _of_settings(experiment, printed)
    engines = {run.trained_on for run in trained if run.engines != {ENGINE}}
    departures += [Departure("engine", text, ENGINE) for text in sorted(engines)]
    features = nets.features(printed)
    for run in trained:
        note, whole = _notes(run)
        departures += of_data(note, printed.data, features)
        if whole:
            departures += of_data(whole, printed.data, features)
    return list(dict.fromkeys(departures + _of_repetitions(trained, printed, trainings or 1)))


def _of_weights(run: Run, printed: Experiment) -> list[Departure]:
    digest, origin = run.info["weights"], run.info.get(ORIGIN) or {}
    here = "sha256 " + digest[:DIGITS] if digest else NONE
    if origin.get("experiment"):
        here = "those of {experiment}, iteration {iteration}".format(**origin)
    if not printed.begins_with:
        # The digest of the paper's weights is not known. They are those of the paper's net, and the paper's net was not
        # pretrained by an experiment of this project.
        differs = bool(digest) != bool(printed.pretrained) or bool(digest) and run.experiment.net != printed.net or (
            origin.get("experiment"))
        return [Departure("weights", here, printed.pretrained or NONE)] if differs else []
    expected = "those of " + printed.begins_with
    for stage in reversed(experiments.stages(printed)[:-1]):
        earlier = digest and _run_of(run, stage.name, digest)
        if earlier:
            own = [] if stage.name == printed.begins_with else [
                Departure("weights", "those of " + stage.name, expected)]
            of_settings = _of_settings(run.experiment, printed)
            return own + [replace(departure, what=f"{stage.name}: {departure.what}")
                          for departure in of_runs([earlier]) if departure not in of_settings]
    return [Departure("weights", here, expected)]


def _run_of(run: Run, name: str, digest: str) -> Optional[Run]:
    """The run of the experiment `name` that `run` started from, if its weights have this digest. It is searched for
    where trainings of several stages, and reproduced tables, put it. None if it is not there."""
    folder = run.folder
    for _ in range(3):
        folder = os.path.dirname(folder)
        for inner in (name.replace("/", "-"), os.path.basename(name)):
            other = Run(os.path.join(folder, inner))
            if os.path.exists(other.path("run.json")) and other.info["experiment"]["name"] == name:
                try:
                    path = pretraining.passed_on(other)
                except UserError:
                    continue
                if _digest(path, os.stat(path).st_mtime_ns) == digest:
                    return other
    return None


@functools.cache
def _digest(path: str, changed: int) -> str:
    return files.digest(path)


def _of_settings(experiment: Experiment, printed: Experiment) -> list[Departure]:
    here, paper = dict(_settings(experiment)), dict(_settings(printed))
    silent = SILENT if experiment.passes_on == "best" else SILENT + SILENT_UNLESS_BEST
    return [Departure(key, _text(here.get(key)), _text(paper.get(key))) for key in {**paper, **here}
            if key not in silent and here.get(key) != paper.get(key)]


def _settings(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    """Yields the settings as pairs of a key, as in --set, and a value."""
    def flat(name, value):
        if isinstance(value, dict):
            for key in value:
                yield from flat(name + "." + key, value[key])
        else:
            yield name, value
    for key, value in dataclasses.asdict(experiment).items():
        if key not in NO_SETTINGS:
            yield from flat(key, value)


def _text(value) -> str:
    return NONE if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)


def _notes(run: Run) -> tuple[dict, Optional[dict]]:
    """The note of a run's data. If the data are a fold of a prepared data set that still exists, also the note of the
    data set; else None."""
    data = run.info["data"]
    note = data_note(run)
    outer = os.path.dirname(data)
    whole = prepared_folder.any_note(outer) if prepared_folder.is_prepared(outer) else {}
    return note, whole if os.path.basename(data) in whole.get("folds", ()) else None


def of_data(note: dict, data: str, used: Sequence[str]) -> list[Departure]:
    """The departures of data. note: the note of the prepared data; data: the printed figure's data; used: the
    handcrafted features that are used."""
    asked, protocol = note["asked"], datasets.protocol(data)
    departures = []
    if not prepared_folder.is_of(note, data):
        departures.append(Departure("data", prepared_folder.data_set(note), data))
    compared = [("crops", asked.get("crops"), protocol.crops)]
    if protocol.folds and asked.get("validation"):
        compared.append(("validation split (fold, none)", asked["validation"], protocol.validation))
    if used:
        compared += [("geometry of the features", asked.get("geometry"), GEOMETRY),
                     ("features of", asked.get("features_of"), FEATURES_OF)]
    departures += [Departure(what, _text(here), paper) for what, here, paper in compared if here != paper]
    if protocol.template and prepared_folder.is_of(note, data):
        here = prepared_folder.template(note)["dataset"]
        if here != protocol.template:
            departures.append(Departure("template", "of " + here, "of " + protocol.template))
    if asked.get("hold_out"):
        departures.append(Departure("held out for validation", f"{100 * asked['hold_out']:g}% of the training images",
                                    NONE))
    if prepared_folder.is_of(note, data):
        frames = prepared_folder.frames_of(note)
        if protocol.printed_frames and frames != protocol.printed_frames:
            departures.append(Departure("frames of a sequence (middle, deformation)", _text(frames),
                                        protocol.printed_frames))
        for what, count in note.get("published_counts", {}).items():
            here = note["found_counts"].get(what, 0)
            if here != count and (here or what not in SPLITS):
                departures.append(Departure(f"{what} images" if what in SPLITS else what, str(here), str(count)))
    return departures


def _of_repetitions(trained: Sequence[Run], printed: Experiment, expected: int) -> list[Departure]:
    data = {run.info["data"] for run in trained}
    folds, departures = datasets.protocol(printed.data).folds, []
    if folds and len(data) != folds:
        departures.append(Departure("folds", f"{len(data)} of {folds}", str(folds)))
    times = len(trained) // len(data)
    if times != expected:
        departures.append(Departure("trainings", *("one" if count == 1 else f"{count} with other seeds"
                                                   for count in (times, expected))))
    return departures


def of_count(figure: Figure, total: Optional[int]) -> list[Departure]:
    """The departure of the number of units. total: the number of evaluated units; None if the figure is no count."""
    return [Departure(figure.unit + "s", str(total), str(figure.total))] if (
        total is not None and figure.total is not None and total != figure.total) else []
