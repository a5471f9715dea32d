"""What a published table takes: its figures, and the jobs that measure them, as a graph of files.

    OUT/runs/<paper>/<experiment>/           a run, or a group of folds
    OUT/logs/<paper>/<experiment>/train.log  what a job says
    OUT/plan.json                            the jobs, for the Snakefile
"""
import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple, Optional

from common import experiment as experiments
from common import files, suggestions
from common.errors import UserError
from common.experiment import ROOT, Experiment
from data_prep import datasets, prepared_folder
from prototxt.builders import backbones, parts, xie2019a
from published import values
from published.values import Figure
from tools.analysis import respond_ratio, svm
from tools.evaluation import cross_dataset, evaluate
from tools.reproduce import targets
from tools.reproduce.estimate import Estimate, Estimator
from tools.training import groups, pretraining
from tools.training.caffe_process import Engine, Segment
from tools.training.groups import Group
from tools.training.run import Run, described, require_same
from tools.training.schedules import self_paced

FILE = "plan.json"
KIND = "folder of `reproduce`"
# Bytes of a job that is not estimated.
LEAST_MEMORY = 1e9
# Of what data must have: a table of who is on which image.
SUBJECTS = "subjects"
LAUNCHER = os.path.join(ROOT, "fer")


class Request(NamedTuple):
    """tables: names; data: prepared folders by the name of the data set that experiments have; out: folder; changes:
    of settings, to the experiments that have them; only: data sets to do, none for all; weights: experiment or net,
    or "" for all others, -> caffemodel to begin with; threads: of BLAS, of each job."""

    tables: Sequence[str]
    data: dict[str, str]
    out: str
    changes: Sequence[str] = ()
    only: Sequence[str] = ()
    weights: dict[str, str] = {}
    threads: int = 1


Work = Callable[[Estimator], Estimate]


class Job(NamedTuple):
    """A `./fer` call. needs, makes: files; work: what an estimator says that it takes."""

    title: str
    command: list[str]
    needs: list[str]
    makes: list[str]
    log: str
    threads: int
    work: Optional[Work] = None

    @property
    def done(self) -> bool:
        return all(map(os.path.exists, self.makes))


class Cell(NamedTuple):
    """A printed figure, and where its measurement will lie: folder of a run or group, or of data; None where the
    data are missing, and of other people's."""

    figure: Figure
    folder: Optional[str]


class Plan(NamedTuple):
    """tables: name -> cells; jobs: in an order in which they can be done; groups: of folds, to be noted before;
    missing: data set -> how to make it; stand_ins: data set -> what stands in for it; unstaged: stages that are left
    out, their data missing; without_weights: experiment that begins with random weights -> what the paper's net was
    pretrained on; awaited: experiments that cannot be trained, their data missing; drawn: name of a figure -> cells,
    one for each of its uses."""

    tables: dict[str, list[Cell]]
    jobs: list[Job]
    groups: list[Group]
    missing: dict[str, str]
    stand_ins: dict[str, str]
    unstaged: list[str]
    without_weights: dict[str, str]
    awaited: Sequence[Experiment] = ()
    drawn: dict[str, list[Cell]] = {}


def plan(request: Request) -> Plan:
    """Raises UserError on an unknown table or data set, on a change that no experiment of the tables has, on weights
    of an experiment or net that the tables have not, on a folder with runs of other settings, data or weights, on an
    SVM of a part of the training images, and where one result would stand for two figures."""
    known = values.tables()
    for name in request.tables:
        if name not in known and name not in targets.TARGETS:
            raise UserError(suggestions.unknown("table or figure", name, [*known, *targets.TARGETS],
                                                "`./fer reproduce --help` lists them all"))
    made = _Planner(request)
    tables = {name: [made.cell(figure) for figure in _figures(*known[name], request.only)]
              for name in request.tables if name in known}
    drawn = {name: [made.cell(figure, seeds) for figure, seeds in targets.cells(name)
                    if not request.only or figure.data in request.only]
             for name in request.tables if name not in known}
    for name, cells in drawn.items():
        if not cells:
            raise UserError("{} shows nothing of {}; it shows {}".format(name, ", ".join(request.only), ", ".join(
                sorted({figure.data for figure, _ in targets.cells(name)}))))
    for name, cells in tables.items():
        if all(cell.figure.system == "other" for cell in cells):
            raise UserError("{} has no figure on {}; it has some on {}".format(
                name, ", ".join(request.only), ", ".join(sorted({
                    _data(one) for one in _figures(*known[name], ()) if one.system != "other"}))))
    unknown = [change for change in request.changes if change not in made.applied]
    if unknown and made.jobs:
        raise UserError("--set {}: no experiment of {} has this setting".format(unknown[0], ", ".join(request.tables)))
    unused = [name for name in request.weights if name and name not in made.begun]
    if unused and made.jobs:
        raise UserError("--weights {}=...: nothing of {} begins with them; it trains {}".format(
            unused[0], ", ".join(request.tables), ", ".join(made.trainings)))
    return Plan(tables, list(made.jobs.values()), made.groups, made.missing, made.stand_ins, sorted(made.unstaged),
                made.without_weights, list(made.awaited.values()), drawn)


@functools.cache
def data_sets() -> frozenset[str]:
    """Names of all that an experiment is trained on or a printed figure is of."""
    return frozenset([experiments.load(name).data for name in experiments.names()]
                     + [name for paper in values.PAPERS for figure in values.read(paper)
                        if figure.system != "other" for name in (figure.data, figure.trained_on) if name])


def _figures(paper: str, table: str, only: Sequence[str]) -> list[Figure]:
    """Those of the data sets in `only`, other people's too."""
    sets = {name.partition("-")[0] for name in only}
    return [figure for figure in values.read(paper) if figure.table == table and (
        not only or (figure.data in sets if figure.system == "other" else _data(figure) in only))]


def _data(figure: Figure) -> str:
    """The data set that the measured net was trained on."""
    return figure.trained_on or figure.data


class _Planner:

    def __init__(self, request: Request) -> None:
        self._request = request
        self.jobs: dict[str, Job] = {}
        self.groups: list[Group] = []
        # Data set -> what it must have.
        self._missing: dict[str, set[str]] = {}
        self.stand_ins: dict[str, str] = {}
        self.unstaged: list[str] = []
        self.awaited: dict[str, Experiment] = {}
        self.applied: list[str] = []
        self.without_weights: dict[str, str] = {}
        # Keys of the request's weights that a training begins with, and what is trained: "experiment (net)".
        self.begun: set[str] = set()
        self.trainings: list[str] = []
        self._digest = functools.lru_cache(maxsize=None)(files.digest)

    @property
    def missing(self) -> dict[str, str]:
        return {name: _how_to_make(name, needed) for name, needed in self._missing.items()}

    def cell(self, figure: Figure, seeds: Sequence[int] = ()) -> Cell:
        """seeds: to train with each of, for figures of repetitions."""
        if figure.system == "other":
            return Cell(figure, None)
        used = [name for name in (figure.data, figure.trained_on) if name]
        if not all([self._there(name, figure) for name in used]):
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
                          os.path.basename(evaluate.snapshots_path(Segment(folder), "test")), folder)
        elif figure.trained_on:
            self._on_other_data(figure, folder)
        else:
            self._evaluated(figure, folder)
        return Cell(figure, folder)

    def _await(self, name: str) -> None:
        """An experiment whose data are missing, and those that it begins with."""
        for stage in experiments.stages(self._chosen(name), self._request.changes):
            folder = self._request.data.get(stage.data, "")
            if stage.name not in self.awaited and not prepared_folder.is_prepared(folder):
                self.awaited[stage.name] = stage

    def _there(self, name: str, figure: Figure) -> bool:
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
        """key: also the log's name."""
        log = os.path.join(self._request.out, "logs", key + ".log")
        job = Job(title, [LAUNCHER, *command], list(needs), list(makes), log, self._request.threads, work)
        for path in job.needs + job.makes:
            if "{" in path:
                raise UserError(f"{path}: a path with braces, which Snakemake reads as wildcards")
        # One folder may stand in for several data sets.
        known = next((one for one in self.jobs.values() if one.makes == job.makes), None)
        if known and known.command != job.command:
            raise UserError(f"{known.title} and {title} would both write {makes[0]}; let other data stand in for "
                            "one of them, or give --only"
                            )
        if not known:
            self.jobs[key] = job

    def _chosen(self, name: str) -> Experiment:
        changes = experiments.applicable(name, self._request.changes)
        self.applied += changes
        chosen = experiments.load(name, changes)
        backbones.named(chosen.net)
        return chosen

    def _run_folder(self, name: str) -> str:
        return os.path.join(self._request.out, "runs", name)

    def _handcrafted(self, figure: Figure) -> str:
        folder, feature = self._request.data[figure.data], figure.column.lower()
        self._add(f"features/{figure.data}/{feature}", f"features --svm: {feature} of {figure.data}",
                  ["features", "--svm", "--data", folder, "--features", feature], [],
                  [svm.data_prefix(folder, feature) + ".json"], lambda estimator: estimator.svm(folder))
        _require_all_images(svm.data_prefix(folder, feature) + ".json")
        return folder

    def _trained(self, name: str, seeds: Sequence[int] = ()) -> str:
        """Folder of the run or group, with the jobs that train it."""
        chosen, folder = self._chosen(name), self._run_folder(name)
        begins_with = None if name in self._request.weights else self._stage_before(chosen)
        weights = begins_with or self._given_weights(chosen)
        needs = self._weights(begins_with) if begins_with else [weights] if weights else []
        if not seeds:
            self._train(chosen, folder, [], weights, needs)
            return folder
        group = Group(folder + "-seeds", "seeds", [f"seed{seed:02d}" for seed in seeds])
        self._begin(group)
        for seed, member in zip(seeds, group.members):
            change = f"solver.random_seed={seed}"
            self._train(experiments.load(name, [*experiments.applicable(name, self._request.changes), change]),
                        group.path(member), [change], weights, needs)
        return group.folder

    def _begin(self, group: Group) -> None:
        if group not in self.groups:
            self.groups.append(group)

    def _train(self, chosen: Experiment, folder: str, more: Sequence[str], weights: Optional[str],
               needs: Sequence[str]) -> None:
        """Jobs for a run, or for each fold of it. more: changes besides those that were asked for."""
        data = self._request.data[chosen.data]
        folds = prepared_folder.any_note(data).get("folds") or []
        if folds:
            self._begin(Group(folder, "folds", folds))
        for fold in folds or [""]:
            source, run = os.path.join(data, fold).rstrip("/"), os.path.join(folder, fold).rstrip("/")
            self._require_same(chosen, source, Run(run), weights, needs)
            command = ["train", chosen.name, "--data", source, "--out", run, "--threads", str(self._request.threads),
                       "--processes", "1"]
            for change in [*experiments.applicable(chosen.name, self._request.changes), *more]:
                command += ["--set", change]
            if weights:
                command += ["--weights", weights]
            name = os.path.relpath(folder, os.path.join(self._request.out, "runs"))
            self._add(os.path.join(name, fold, "train"), f"train {name} {fold}".strip(), command, needs,
                      [_last_weights(chosen, source, run)],
                      lambda estimator, source=source: estimator.training(chosen, source))

    def _given_weights(self, chosen: Experiment) -> Optional[str]:
        """Those of the experiment, else of its net, else of all."""
        shown = f"{chosen.name} ({chosen.net})"
        if shown not in self.trainings:
            self.trainings.append(shown)
        for key in (chosen.name, chosen.net, ""):
            if key in self._request.weights:
                self.begun.add(key)
                return self._request.weights[key]
        pretrained = experiments.load(chosen.name).pretrained
        if pretrained:
            self.without_weights[chosen.name] = pretrained
        return None

    def _require_same(self, chosen: Experiment, source: str, run: Run, weights: Optional[str], needs: Sequence[str]
                      ) -> None:
        if os.path.exists(run.path("run.json")) and all(map(os.path.exists, needs)):
            if weights and os.path.isdir(weights):
                weights = pretraining.handed_on(Run(weights))
            require_same(run, described(chosen, source, prepared_folder.read_note(source),
                                        weights and self._digest(weights), Engine(self._request.threads)))

    def _stage_before(self, chosen: Experiment) -> Optional[str]:
        """Folder of the run that an experiment begins with; stages whose data are missing, or have folds, are left
        out."""
        for stage in reversed(experiments.stages(chosen, self._request.changes)[:-1]):
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
        chosen, name = self._chosen(figure.experiment), os.path.relpath(folder, os.path.join(self._request.out, "runs"))
        self._add(os.path.join(name, "evaluate-" + figure.split), f"evaluate {name} on {figure.split}",
                  ["evaluate", folder, "--split", figure.split], self._weights(folder),
                  [evaluate.metrics_path(Segment(folder), figure.split)],
                  lambda estimator: estimator.predicting(chosen, self._request.data[chosen.data], figure.split))

    def _on_other_data(self, figure: Figure, folder: str) -> None:
        data = self._request.data[figure.data]
        command = ["evaluate", folder, "--data", data]
        if figure.measure == "accuracy_without_neutral":
            command += ["--without", "neutral"]
        self._add(os.path.join(figure.experiment, "evaluate-on-" + figure.data),
                  f"evaluate {figure.experiment} on {figure.data}", command, self._weights(folder),
                  [cross_dataset.metrics_path(Segment(one), prepared_folder.data_set(prepared_folder.any_note(data)))
                   for one in self._members(folder)],
                  lambda estimator: estimator.predicting(self._chosen(figure.experiment), data))

    def _on_runs(self, figure: Figure, title: str, command: Sequence[str], makes: str, folder: str) -> None:
        chosen = self._chosen(figure.experiment)
        for run in self._members(folder):
            source = os.path.join(self._request.data[chosen.data], os.path.relpath(run, folder))

            def work(estimator: Estimator, source: str = source) -> Estimate:
                if figure.measure == "svm":
                    return estimator.svm(source, chosen)
                if figure.measure == "every_snapshot":
                    one = estimator.predicting(chosen, source, figure.split)
                    return one._replace(seconds=one.seconds * -(-chosen.iterations // chosen.solver["snapshot"]))
                return estimator.responding(chosen, source)
            key = os.path.join(os.path.relpath(run, os.path.join(self._request.out, "runs")), makes.split(".")[0])
            self._add(key, "{}{} {}".format(title, figure.experiment, os.path.relpath(run, folder).strip(".")).strip(),
                      [*command, run], self._weights(run), [os.path.join(run, makes)], work)

    def _members(self, folder: str) -> list[str]:
        return [run for group in self.groups if group.folder == folder for name in group.members
                for run in self._members(group.path(name))] or [folder]


def _require_all_images(path: str) -> None:
    limit = os.path.exists(path) and files.read_json(path).get("limit")
    if limit:
        raise UserError(f"{path}: is of the first {limit} training images; remove it to have it of all")


def _last_weights(chosen: Experiment, data: str, run: str) -> str:
    iterations = chosen.iterations
    if chosen.pacing:
        prepared = parts.prepared(data, prepared_folder.read_note(data))
        iterations = self_paced.ends(chosen, prepared.class_counts)[-1]
    return Segment(run).weights_of(iterations)


def _needs(figure: Figure) -> set[str]:
    """What its data must have: handcrafted features, and of tuplets SUBJECTS where the data set does not say them."""
    if not figure.experiment:
        return {figure.column.lower()}
    chosen = experiments.load(figure.experiment)
    unsaid = chosen.tuplets and not datasets.protocol(chosen.data).subjects
    return set(chosen.losses) & set(xie2019a.FEATURES) | ({SUBJECTS} if unsaid else set())


def _how_to_make(name: str, needed: set[str]) -> str:
    dataset, _, protocol = name.partition("-")
    command = f"./fer prepare {dataset} SOURCE"
    if protocol:
        command += " --protocol " + protocol
    if SUBJECTS in needed:
        command += " --subjects SUBJECTS.csv"
    used = datasets.protocol(name)
    if used.template:
        command += f" --template {used.template}.json"
    if used.printed_frames not in ("", *used.frames[:1]):
        command += " --frames " + used.printed_frames
    return "{} --features{} --out DATA/{}".format(
        command, "".join(" " + one for one in xie2019a.FEATURES if one in needed), name)


def write(made: Plan, out: str, memory: Optional[dict[str, int]] = None) -> str:
    """Notes groups and jobs in the folder, and returns the path of plan.json. memory: bytes, by a job's log.

    Raises UserError where the folder holds something else.
    """
    files.claim(out, KIND)
    for group in made.groups:
        groups.begin(group)
    path = os.path.join(out, FILE)
    files.write_json(path, [{
        "title": job.title, "command": job.command, "needs": job.needs, "makes": job.makes, "log": job.log,
        "threads": job.threads, "mem_mb": math.ceil((memory or {}).get(job.log, LEAST_MEMORY) / 1e6)}
        for job in made.jobs])
    return path


def runs(out: str) -> Group:
    """The runs that the plan in a folder trains. Raises UserError where it holds no plan."""
    commands = [job["command"] for job in files.read_json(os.path.join(out, FILE))]
    return Group(os.path.abspath(out), "runs", [
        os.path.relpath(command[command.index("--out") + 1], os.path.abspath(out))
        for command in commands if command[1] == "train"])


def unfinished(made: Plan) -> Iterator[Job]:
    return (job for job in made.jobs if not job.done)
