"""The plan of published tables and figures: their printed values, and the jobs that measure them, as a graph of files.

    OUT/runs/<paper>/<experiment>/           a run, or a group of folds
    OUT/logs/<paper>/<experiment>/train.log  the output of a job
    OUT/plan.json                            the jobs, for the Snakefile
"""
import functools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Optional

from common import experiment as experiments
from common import files, papers, suggestions
from common.errors import UserError
from common.experiment import ROOT, Experiment
from common.machine import DEFAULT, Device
from data_prep import datasets, features, prepared_folder
from prototxt import nets
from prototxt.builders import backbones, parts
from published import values
from published.values import Figure
from tools.analysis import respond_ratio, svm
from tools.evaluation import cross_dataset, evaluate
from tools.reproduce import targets
from tools.reproduce.estimate import Estimate, Estimator
from tools.training import groups, pretraining, schedules
from tools.training.caffe_process import Engine
from tools.training.groups import Group
from tools.training.run import Run, described, require_same

FILE = "plan.json"
KIND = "folder of `reproduce`"
# Bytes of memory of a job that is not estimated.
LEAST_MEMORY = 1e9
# What data may need beside handcrafted features: a table that says who is on which image.
SUBJECTS = "subjects"
LAUNCHER = os.path.join(ROOT, "fer")

# Asks an estimator what a job takes.
Work = Callable[[Estimator], Estimate]


@dataclass(frozen=True)
class Request:
    """What `./fer reproduce` is asked for."""

    # Names of tables and figures.
    targets: Sequence[str]
    # Prepared folders, by the names that experiments have for their data.
    data: dict[str, str]
    # The folder of the results.
    out: str
    # Changes of settings, KEY=VALUE, for the experiments that have them.
    changes: Sequence[str] = ()
    # Names of the data sets to use; all if empty.
    only: Sequence[str] = ()
    # Caffemodels to initialise from, or groups of runs, of which each fold or seed takes its own; by the name of an
    # experiment or a net; "" stands for all others.
    weights: dict[str, str] = field(default_factory=dict)
    # BLAS threads of each job.
    threads: int = 1
    # On what each job computes nets.
    device: Device = DEFAULT


    @property
    def engine(self) -> Engine:
        """What each job computes with."""
        return Engine(self.threads, self.device)


@dataclass(frozen=True)
class Job:
    """A call of `./fer`."""

    title: str
    command: Sequence[str]
    # Files that must be there before.
    needs: Sequence[str]
    # Files that are there afterwards.
    makes: Sequence[str]
    # File of the output.
    log: str
    # BLAS threads.
    threads: int
    # None for a job that is not estimated.
    work: Optional[Work] = None

    @property
    def done(self) -> bool:
        return all(map(os.path.exists, self.makes))


@dataclass(frozen=True)
class Cell:
    """A printed value, and where its measurement is."""

    figure: Figure
    # The folder of a run or group, or of the data for handcrafted features. None if the data are missing, or if the
    # paper quotes the value.
    folder: Optional[str]


@dataclass(frozen=True)
class Plan:
    # Table -> its cells.
    tables: dict[str, list[Cell]]
    # In an order in which they can be done.
    jobs: list[Job]
    # Groups of folds or seeds, which must be noted in their folders before.
    groups: list[Group]
    # Data set that is missing -> the command that makes it.
    missing: dict[str, str]
    # Data set -> the other data that stand in for it.
    stand_ins: dict[str, str]
    # Experiments whose weights others begin with, left out because their data are missing or have folds.
    unstaged: list[str]
    # Experiment that begins with random weights -> what the paper's net was pretrained on.
    without_weights: dict[str, str]
    # Experiments that cannot be trained because their data are missing.
    awaited: Sequence[Experiment] = ()
    # Figure -> a cell for each of its uses.
    drawn: dict[str, list[Cell]] = field(default_factory=dict)

    @property
    def unfinished(self) -> Iterator[Job]:
        return (job for job in self.jobs if not job.done)

    @property
    def has_data(self) -> bool:
        """Whether any cell can be measured."""
        return any(cell.folder for cells in (*self.tables.values(), *self.drawn.values()) for cell in cells)


def plan(request: Request) -> Plan:
    """Raises UserError on an unknown table, figure or data set, on a change that no experiment of the tables has, on
    weights of an experiment or net that the tables do not have, on a folder with runs of other settings, data or
    weights, on an SVM of a part of the training images, and where one result would stand for two values."""
    printed_tables = values.tables()
    for name in request.targets:
        if name not in printed_tables and name not in targets.names():
            raise UserError(suggestions.unknown("table or figure", name, [*printed_tables, *targets.names()],
                                                "`./fer reproduce --help` lists them all"))
    planner = _Planner(request)
    tables = {name: [planner.cell(figure) for figure in _figures(*printed_tables[name], request.only)]
              for name in request.targets if name in printed_tables}
    drawn = {name: [planner.cell(figure, seeds) for figure, seeds in targets.cells(name)
                    if not request.only or figure.data in request.only]
             for name in request.targets if name not in printed_tables}
    names = ", ".join(request.targets)
    for name, cells in drawn.items():
        if not cells:
            raise UserError("{} shows nothing of {}; it shows {}".format(name, ", ".join(request.only), ", ".join(
                sorted({figure.data for figure, _ in targets.cells(name)}))))
    for name, cells in tables.items():
        if all(cell.figure.system == "other" for cell in cells):
            raise UserError("{} has no values for {}; it has some for {}".format(
                name, ", ".join(request.only), ", ".join(sorted({
                    _data(figure) for figure in _figures(*printed_tables[name], ()) if figure.system != "other"}))))
    unknown = [change for change in request.changes if change not in planner.applied]
    if unknown and planner.jobs:
        raise UserError(f"--set {unknown[0]}: no experiment of {names} has this setting")
    unused = [name for name in request.weights if name and name not in planner.begun]
    if unused and planner.jobs:
        raise UserError("--weights {}=...: no training of {} begins with them; it trains {}".format(
            unused[0], names, ", ".join(planner.trainings)))
    return Plan(tables, list(planner.jobs.values()), planner.groups, planner.missing, planner.stand_ins,
                sorted(planner.unstaged), planner.without_weights, list(planner.awaited.values()), drawn)


@functools.cache
def data_sets() -> frozenset[str]:
    """Names of all data that an experiment is trained on or a printed value belongs to."""
    return frozenset([experiments.load(name).data for name in experiments.names()]
                     + [name for paper in papers.names() for figure in values.read(paper)
                        if figure.system != "other" for name in (figure.data, figure.trained_on) if name])


def _figures(paper: str, table: str, only: Sequence[str]) -> list[Figure]:
    """The values of a table on the data sets in `only`, the quoted ones too."""
    sets = {name.partition("-")[0] for name in only}
    return [figure for figure in values.read(paper) if figure.table == table and (
        not only or (figure.data in sets if figure.system == "other" else _data(figure) in only))]


def _data(figure: Figure) -> str:
    """The data set that the measured net is trained on."""
    return figure.trained_on or figure.data


class _Planner:
    """Collects the jobs of cells."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.jobs: dict[str, Job] = {}
        self.groups: list[Group] = []
        # Data set -> what it must have.
        self._missing: dict[str, set[str]] = {}
        self.stand_ins: dict[str, str] = {}
        self.unstaged: list[str] = []
        self.awaited: dict[str, Experiment] = {}
        # Changes that some experiment has.
        self.applied: list[str] = []
        self.without_weights: dict[str, str] = {}
        # Keys of the request's weights that some training begins with, and the trainings: "experiment (net)".
        self.begun: set[str] = set()
        self.trainings: list[str] = []
        self._digest = functools.lru_cache(maxsize=None)(files.digest)

    @property
    def missing(self) -> dict[str, str]:
        return {name: _how_to_make(name, needs) for name, needs in self._missing.items()}

    def cell(self, figure: Figure, seeds: Sequence[int] = ()) -> Cell:
        """A cell, with the jobs that measure it. seeds: one training for each, for figures of repetitions."""
        if figure.system == "other":
            return Cell(figure, None)
        if not all([self._is_there(name, figure) for name in (figure.data, figure.trained_on) if name]):
            if figure.experiment:
                self._await(figure.experiment)
            return Cell(figure, None)
        if not figure.experiment:
            return Cell(figure, self._handcrafted(figure))
        folder = self._trained(figure.experiment, seeds)
        if figure.measure == "svm":
            self._on_runs(figure, "features --svm of ", ["features", "--svm", "--run"], "svm.json", folder)
            for run in self._members(folder):
                _require_all_images(os.path.join(run, "svm.json"))
        elif figure.measure == "respond_ratio":
            self._on_runs(figure, "respond-ratio of ", ["respond-ratio"], respond_ratio.FILE, folder)
        elif figure.measure == "every_snapshot":
            self._on_runs(figure, "every snapshot of ", ["evaluate", "--every-snapshot"],
                          os.path.basename(evaluate.snapshots_path(Run(folder), "test")), folder)
        elif figure.trained_on:
            self._on_other_data(figure, folder)
        else:
            self._evaluated(figure, folder)
        return Cell(figure, folder)

    def _await(self, name: str) -> None:
        """Notes an experiment whose data are missing, and those whose weights it begins with."""
        for stage in experiments.stages(self._experiment(name), self._request.changes):
            folder = self._request.data.get(stage.data, "")
            if stage.name not in self.awaited and not prepared_folder.is_prepared(folder):
                self.awaited[stage.name] = stage

    def _is_there(self, name: str, figure: Figure) -> bool:
        folder = self._request.data.get(name, "")
        if not prepared_folder.is_prepared(folder):
            self._missing.setdefault(name, set()).update(_needs(figure) if name == _data(figure) else ())
            return False
        note = prepared_folder.any_note(folder)
        if not prepared_folder.is_of(note, name):
            self.stand_ins[name] = f"{prepared_folder.data_set(note)} ({folder})"
        return True

    def _add(self, key: str, title: str, command: Sequence[str], needs: Sequence[str], makes: Sequence[str],
             work: Optional[Work] = None) -> None:
        """Adds a job if it is new. key: also the name of its log."""
        log = os.path.join(self._request.out, "logs", key + ".log")
        command = [*command, *self._request.device.options()]
        job = Job(title, [LAUNCHER, *command], list(needs), list(makes), log, self._request.threads, work)
        for path in (*job.needs, *job.makes):
            if "{" in path:
                raise UserError(f"{path}: Snakemake would read the braces in this path as wildcards")
        # One folder may stand in for several data sets.
        same = next((other for other in self.jobs.values() if other.makes == job.makes), None)
        if same and same.command != job.command:
            raise UserError(f"{same.title} and {title} would both write {makes[0]}; let other data stand in for one "
                            "of them, or use --only")
        if not same:
            self.jobs[key] = job

    def _experiment(self, name: str) -> Experiment:
        """An experiment, with the changes that it has settings for."""
        changes = experiments.applicable(name, self._request.changes)
        self.applied += changes
        experiment = experiments.load(name, changes)
        backbones.named(experiment.net)
        return experiment

    def _run_folder(self, name: str) -> str:
        return os.path.join(self._request.out, "runs", name)

    def _name(self, folder: str) -> str:
        """The name of a run's folder: its path below OUT/runs."""
        return os.path.relpath(folder, os.path.join(self._request.out, "runs"))

    def _handcrafted(self, figure: Figure) -> str:
        folder, feature = self._request.data[figure.data], figure.column.lower()
        result = svm.data_prefix(folder, feature) + ".json"
        self._add(f"features/{figure.data}/{feature}", f"features --svm: {feature} of {figure.data}",
                  ["features", "--svm", "--data", folder, "--features", feature], [], [result],
                  partial(Estimator.svm, folder=folder))
        _require_all_images(result)
        return folder

    def _trained(self, name: str, seeds: Sequence[int] = ()) -> str:
        """The folder of a run or group, with the jobs that train it."""
        experiment, folder = self._experiment(name), self._run_folder(name)
        begins_with = None if name in self._request.weights else self._stage_before(experiment)
        given = None if begins_with else self._initial_weights(experiment)
        if not seeds:
            self._train(experiment, folder, [], begins_with, given)
            return folder
        group = Group(folder + "-seeds", "seeds", list(map(groups.seed_name, seeds)))
        self._begin(group)
        for seed, member in zip(seeds, group.members):
            change = f"solver.random_seed={seed}"
            self._train(experiments.load(name, [*experiments.applicable(name, self._request.changes), change]),
                        group.path(member), [change], begins_with, given, member)
        return group.folder

    def _begin(self, group: Group) -> None:
        if group not in self.groups:
            self.groups.append(group)

    def _train(self, experiment: Experiment, folder: str, more: Sequence[str], begins_with: Optional[str],
               given: Optional[str], seed: str = "") -> None:
        """Adds the jobs of a run, or of each fold of it. more: changes beside those of the request; begins_with: folder
        of the run whose weights it takes; given: otherwise, the request's weights; seed: name of the run in a group of
        seeds."""
        data, name = self._request.data[experiment.data], self._name(folder)
        folds = prepared_folder.any_note(data).get("folds") or []
        if folds:
            self._begin(Group(folder, "folds", folds))
        for fold in folds or [""]:
            source, run = os.path.join(data, fold).rstrip("/"), os.path.join(folder, fold).rstrip("/")
            weights = begins_with or given and groups.caffemodel(given, list(filter(None, (seed, fold))))
            needs = self._weights(begins_with) if begins_with else [weights] if weights else []
            self._require_same(experiment, source, Run(run), weights, needs)
            command = ["train", experiment.name, "--data", source, "--out", run,
                       "--threads", str(self._request.threads), "--processes", "1"]
            for change in [*experiments.applicable(experiment.name, self._request.changes), *more]:
                command += ["--set", change]
            if weights:
                command += ["--weights", weights]
            self._add(os.path.join(name, fold, "train"), f"train {name} {fold}".strip(), command, needs,
                      [_last_weights(experiment, source, run)],
                      partial(Estimator.training, experiment=experiment, folder=source))

    def _initial_weights(self, experiment: Experiment) -> Optional[str]:
        """The caffemodel of the experiment, otherwise of its net, otherwise of all."""
        training = f"{experiment.name} ({experiment.net})"
        if training not in self.trainings:
            self.trainings.append(training)
        for key in (experiment.name, experiment.net, ""):
            if key in self._request.weights:
                self.begun.add(key)
                return self._request.weights[key]
        pretrained = experiments.load(experiment.name).pretrained
        if pretrained:
            self.without_weights[experiment.name] = pretrained
        return None

    def _require_same(self, experiment: Experiment, source: str, run: Run, weights: Optional[str],
                      needs: Sequence[str]) -> None:
        if os.path.exists(run.path("run.json")) and all(map(os.path.exists, needs)):
            if weights and os.path.isdir(weights):
                weights = pretraining.passed_on(Run(weights))
            require_same(run, described(experiment, source, prepared_folder.read_note(source),
                                        weights and self._digest(weights), self._request.engine))

    def _stage_before(self, experiment: Experiment) -> Optional[str]:
        """The folder of the run whose weights an experiment begins with. Those whose data are missing, or have folds,
        are left out."""
        for stage in reversed(experiments.stages(experiment, self._request.changes)[:-1]):
            folder = self._request.data.get(stage.data, "")
            if prepared_folder.is_prepared(folder) and not prepared_folder.any_note(folder).get("folds"):
                return self._trained(stage.name)
            if stage.name not in self.unstaged:
                self.unstaged.append(stage.name)
        return None

    def _weights(self, folder: str) -> list[str]:
        """What the training jobs of a run, or of all folds of a group, make."""
        return [path for key, job in self.jobs.items() for path in job.makes
                if os.path.basename(key) == "train" and path.startswith(folder + os.sep)]

    def _evaluated(self, figure: Figure, folder: str) -> None:
        experiment, name = self._experiment(figure.experiment), self._name(folder)
        self._add(os.path.join(name, "evaluate-" + figure.split), f"evaluate {name} on {figure.split}",
                  ["evaluate", folder, "--split", figure.split], self._weights(folder),
                  [evaluate.metrics_path(Run(folder), figure.split)],
                  partial(Estimator.predicting, experiment=experiment, folder=self._request.data[experiment.data],
                          split=figure.split))

    def _on_other_data(self, figure: Figure, folder: str) -> None:
        data = self._request.data[figure.data]
        command = ["evaluate", folder, "--data", data]
        if figure.measure == "accuracy_without_neutral":
            command += ["--without", "neutral"]
        self._add(os.path.join(figure.experiment, "evaluate-on-" + figure.data),
                  f"evaluate {figure.experiment} on {figure.data}", command, self._weights(folder),
                  [cross_dataset.metrics_path(Run(run), prepared_folder.data_set(prepared_folder.any_note(data)))
                   for run in self._members(folder)],
                  partial(Estimator.predicting, experiment=self._experiment(figure.experiment), folder=data))

    def _on_runs(self, figure: Figure, title: str, command: Sequence[str], makes: str, folder: str) -> None:
        """Adds a job for each run of a group."""
        experiment = self._experiment(figure.experiment)
        for run in self._members(folder):
            fold = os.path.relpath(run, folder).strip(".")
            source = os.path.join(self._request.data[experiment.data], fold)
            work: dict[str, Work] = {
                "svm": partial(Estimator.svm, folder=source, experiment=experiment),
                "respond_ratio": partial(Estimator.responding, experiment=experiment, folder=source),
                "every_snapshot": partial(Estimator.every_snapshot, experiment=experiment, folder=source,
                                          split=figure.split)}
            self._add(os.path.join(self._name(run), makes.split(".")[0]), f"{title}{figure.experiment} {fold}".strip(),
                      [*command, run], self._weights(run), [os.path.join(run, makes)], work[figure.measure])

    def _members(self, folder: str) -> list[str]:
        """The folders of the runs of a group, or of the run itself."""
        return [run for group in self.groups if group.folder == folder for name in group.members
                for run in self._members(group.path(name))] or [folder]


def _require_all_images(path: str) -> None:
    limit = os.path.exists(path) and files.read_json(path).get("limit")
    if limit:
        raise UserError(f"{path}: is of the first {limit} training images only; remove it, so that it is measured on "
                        "all")


def _last_weights(experiment: Experiment, data: str, run: str) -> str:
    prepared = parts.prepared(data, prepared_folder.read_note(data))
    return Run(run).weights_of(schedules.of(experiment).iterations(prepared))


def _needs(figure: Figure) -> set[str]:
    """What the data of a value must have: handcrafted features, and for tuplets SUBJECTS if the data set does not say
    who is on an image."""
    if not figure.experiment:
        return {figure.column.lower()}
    experiment = experiments.load(figure.experiment)
    needs_subjects = experiment.tuplets and not datasets.protocol(experiment.data).subjects
    return set(nets.features(experiment)) | ({SUBJECTS} if needs_subjects else set())


def _how_to_make(name: str, needs: set[str]) -> str:
    """The command that prepares a data set."""
    dataset, _, protocol_name = name.partition("-")
    words = ["./fer", "prepare", dataset, "SOURCE"]
    if protocol_name:
        words += ["--protocol", protocol_name]
    if SUBJECTS in needs:
        words += ["--subjects", "SUBJECTS.csv"]
    protocol = datasets.protocol(name)
    if protocol.template:
        words += ["--template", protocol.template + ".json"]
    if protocol.printed_frames not in ("", *protocol.frames[:1]):
        words += ["--frames", protocol.printed_frames]
    words += ["--features", *(feature for feature in features.NAMES if feature in needs)]
    return " ".join([*words, "--out", f"DATA/{name}"])


def notes(plan: Plan) -> list[str]:
    """What a reader of the tables must know, as sentences."""
    templates = sorted({datasets.protocol(name).template for name in plan.missing} - {""})
    lines = [f"{name} is missing; to make it: {command}" for name, command in plan.missing.items()]
    lines += [f"the template of the paper, {name}.json, is measured by: ./fer template {name} SOURCE --out "
              f"{name}.json; without --template, faces are aligned to the template of this project, and nothing is "
              "compared" for name in templates]
    lines += [f"{other} stands in for {name}, so nothing is compared" for name, other in plan.stand_ins.items()]
    lines += [f"{stage} is not trained first, since its data are missing or have folds" for stage in plan.unstaged]
    lines += ["the paper's net was pretrained ({}), but these begin without weights (see --weights): {}".format(
        pretrained, ", ".join(name for name, source in plan.without_weights.items() if source == pretrained))
        for pretrained in dict.fromkeys(plan.without_weights.values())]
    return lines


def write(plan: Plan, out: str, memory: Optional[dict[str, int]] = None) -> str:
    """Notes groups and jobs in the folder, and returns the path of plan.json. memory: bytes, by the log of a job.

    Raises UserError if the folder holds something else.
    """
    files.claim(out, KIND)
    for group in plan.groups:
        groups.begin(group)
    path = os.path.join(out, FILE)
    files.write_json(path, [{
        "title": job.title, "command": job.command, "needs": job.needs, "makes": job.makes, "log": job.log,
        "threads": job.threads, "mem_mb": math.ceil((memory or {}).get(job.log, LEAST_MEMORY) / 1e6)}
        for job in plan.jobs])
    return path


def runs(out: str) -> Group:
    """The runs that the plan in a folder trains. Raises UserError if the folder holds no plan."""
    commands = [job["command"] for job in files.read_json(os.path.join(out, FILE))]
    return Group(os.path.abspath(out), "runs", [
        os.path.relpath(command[command.index("--out") + 1], os.path.abspath(out))
        for command in commands if command[1] == "train"])
