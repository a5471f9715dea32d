"""A run's folder, and the training in it.

    RUN/run.json                   what is trained, and with what
    RUN/data.json                  prepare.json of the data: what a net must be shown, also if the data are gone
    RUN/{train_val,deploy,solver}.prototxt
    RUN/learned.prototxt, RUN/initial.caffemodel     the net that given weights may fill, and which of them were taken
    RUN/caffe.log
    RUN/snapshots/iter_N.*         complete ones only

A schedule of several trainings has more: see tools.training.schedules.
"""
import contextlib
import ctypes
import dataclasses
import glob
import importlib.util
import json
import os
import runpy
from collections.abc import Sequence
from typing import Any, Optional

import caffe
import numpy as np

from common import files, locks, machine, progress, suggestions
from common.errors import UserError
from common.experiment import Experiment, from_note
from common.machine import Device
from data_prep import crops, prepared_folder
from prototxt import build, nets
from prototxt.builders import backbones, parts
from tools.evaluation import forward
from tools.training import caffe_process, chain, pretrained, schedules
from tools.training.caffe_process import LOG, SCRATCH, Engine, Segment
from tools.training.schedules.base import DEPLOY, Training

INITIAL = "initial.caffemodel"
DATA = "data.json"
LEARNED = "learned.prototxt"
LOCK = ".lock"
NOTE = "run.json"
# In the folder above that of a run which belongs to a group, see tools.training.groups.
GROUP = "group.json"
KIND = "run"
# Of run.json; to be raised when its keys change their meaning, or the name of a net stands for another net.
FORMAT = 2
# What run.json must have.
KEYS = ("format", "project", "experiment", "data", "manifest", "weights", "threads", "gpu", "iterations", "versions")
# "<commit>" or "<commit>-dirty", which `./fer` passes on from the host: the environment has no git.
COMMIT = "FER_COMMIT"
# What is measured of a run or of a group leaves these in its folder, as glob patterns.
MEASURED = ("metrics.json", "metrics-train.json", "metrics-val.json", "metrics-on-*.json",
            "metrics-every-snapshot*.json", "decisions-train.csv", "decisions-val.csv", "decisions-test.csv",
            "decisions-on-*.csv", "metrics*@*.json", "decisions-*@*.csv", "svm.json", "svm.csv", "respond_ratio.json",
            "framing.json", "accuracy-per-pace-*.json", "t-sne-pace*.npz", "report.html", "report@*.html")
# What a training, and all that is measured of it, leave in the folder. They are removed when the folder begins with
# another training. A file that the user has put there stays.
MADE = (NOTE, "train_val.prototxt", DEPLOY, "solver.prototxt", LEARNED, "attention.prototxt", INITIAL, LOG, SCRATCH,
        "snapshots", chain.FILE, *schedules.FILES, *MEASURED)
# Snapshots that a message names at each end of a long list.
LISTED = 4
# What of an experiment only people read.
DESCRIPTIVE = ("title", "source", "pretrained", "file")
# What of run.json changes nothing of the training: a run may continue after a commit, and weights are known by their
# digest.
ORIGIN, FRESH_HEAD = "weights_from", "fresh_head"
# On what it was trained before the device changed, see tools.training.switching.
BEFORE = "trained_before_on"
IRRELEVANT = ("project", ORIGIN, FRESH_HEAD, BEFORE)


@dataclasses.dataclass(frozen=True)
class Run(Segment):
    """The folder of a run. `info` and `experiment` raise UserError if it holds none that can be read."""

    @property
    def has_begun(self) -> bool:
        return os.path.exists(self.path(NOTE))

    def require_begun(self) -> None:
        if not self.has_begun:
            group = os.path.dirname(self.folder)
            raise UserError(f"{self.folder}: " + (
                f"was not trained yet; `./fer train {group}` goes on" if os.path.exists(os.path.join(group, GROUP)) else
                f"no run here; `./fer train EXPERIMENT --data DIR --out {self.folder}` makes one"))

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds; not to be changed. The file is read once, and again only after it was written anew."""
        return self._read[0]

    @property
    def experiment(self) -> Experiment:
        return self._read[1]

    @property
    def _read(self) -> tuple[dict[str, Any], Experiment]:
        self.require_begun()
        about = os.stat(self.path(NOTE))
        version = about.st_ino, about.st_mtime_ns, about.st_size
        cached = self.__dict__.get("_cached")
        if cached is None or cached[0] != version:
            info = files.read_json(self.path(NOTE))
            cached = version, (info, _checked(self.path(NOTE), info))
            # The object stands for a folder and is frozen; what is cached is no part of it.
            self.__dict__["_cached"] = cached
        return cached[1]

    @property
    def is_finished(self) -> bool:
        """Whether it has its last snapshot."""
        return self.snapshots()[-1:] == [self.info["iterations"]]

    @property
    def has_inner_snapshots(self) -> bool:
        """Whether a training inside of its schedule, such as one of a round, has left a snapshot."""
        trained = glob.glob(os.path.join(glob.escape(self.folder), "**", "iter_*.caffemodel"), recursive=True)
        return bool({os.path.dirname(path) for path in trained} - {self.path("snapshots")})

    @property
    def has_any_snapshot(self) -> bool:
        """Whether it has a snapshot, also of a part of its schedule: without, little is lost by beginning anew."""
        return bool(self.snapshots()) or self.has_inner_snapshots

    @property
    def device(self) -> Device:
        """On what it is trained."""
        return device_of(self.info)

    @property
    def engines(self) -> set[str]:
        """The engines that have trained it."""
        return {one.engine for one in [*map(device_of, self.info.get(BEFORE, [])), self.device]}

    @property
    def trained_on(self) -> str:
        """In words, such as "caffe up to iteration 100, then torch on card 0"."""
        before = [f"{device_of(part)} up to iteration {part['up_to']}, then " for part in self.info.get(BEFORE, [])]
        return "".join([*before, str(self.device)])

    def threads(self, otherwise: int) -> int:
        """BLAS threads that the run was begun with, since another number would give other bytes."""
        return self.info["threads"] if self.has_begun else otherwise

    def caffemodel(self, iteration: Optional[int] = None) -> str:
        """Weights of an iteration, by default the last. Raises UserError if the training is not complete, or the net
        that predicts is not the one that was written for it."""
        if iteration is None:
            iteration = self.info["iterations"]
        present = self.snapshots()
        if iteration not in present:
            command = " ".join(["./fer train", self.folder, *self.device.options()])
            continues = "" if self.info["iterations"] in present else (
                f". `{command}` continues the training")
            raise UserError("{}: no snapshot of iteration {}; it has {}{}".format(
                self.folder, iteration, _listed(present), continues))
        digest = self.info.get("deploy")
        if digest and not (os.path.exists(self.path(DEPLOY)) and files.digest(self.path(DEPLOY)) == digest):
            raise UserError("{}: {} since the run was trained; the same `./fer train` writes it anew".format(
                self.path(DEPLOY), "was changed" if os.path.exists(self.path(DEPLOY)) else "was removed"))
        return self.weights_of(iteration)


def _listed(iterations: list[int]) -> str:
    """The iterations as text, of many the first and the last ones."""
    words = list(map(str, iterations))
    if len(words) > 2 * LISTED:
        words[LISTED:-LISTED] = ["..."]
    return ", ".join(words) or "none"


def _checked(path: str, info: Any) -> Experiment:
    """The experiment in what run.json holds. Raises UserError if this version cannot read it."""
    anew = "train anew with another --out, or use the version that trained it"
    if not isinstance(info, dict) or "format" not in info:
        raise UserError(f"{path}: has no format number, so an earlier version trained this run; {anew}")
    if info["format"] != FORMAT:
        raise UserError(f"{path}: has format {info['format']!r}, but this version reads format {FORMAT}; {anew}")
    missing = [key for key in KEYS if key not in info]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; {anew}")
    fields = info["experiment"] if isinstance(info["experiment"], dict) else {}
    names = {field.name for field in dataclasses.fields(Experiment)}
    needed = {field.name for field in dataclasses.fields(Experiment)
              if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING}
    wrong = sorted(needed - set(fields)) or sorted(set(fields) - names)
    if wrong:
        raise UserError(f"{path}: its experiment {'has' if wrong[0] in fields else 'lacks'} {', '.join(wrong)}, "
                        f"unlike those of this version; {anew}")
    return from_note(fields)


def require_same_data(run: Run) -> dict[str, Any]:
    """The note of the run's data. Raises UserError if they are not those that it was trained with."""
    info = run.info
    note = prepared_folder.read_note(info["data"])
    if note["manifest"] != info["manifest"]:
        raise UserError(f"{info['data']}: was prepared anew since {run.folder} was trained")
    prepared_folder.require_manifest(info["data"], note)
    return note


def data_note(run: Run) -> dict[str, Any]:
    """The note of the run's data, which need not be there any more. Raises UserError if neither the run nor its
    unchanged data tell it."""
    data = run.info["data"]
    if os.path.exists(run.path(DATA)):
        return files.read_json(run.path(DATA))
    if not prepared_folder.is_prepared(data):
        raise UserError(f"{run.folder}: its data, {data}, are gone, and the run has no {DATA} with its classes and "
                        "crops; prepare the data again")
    return require_same_data(run)


def train(experiment: Experiment, data_folder: str, folder: str, weights: Optional[str], engine: Engine,
          processes: int = 1, fresh_head: bool = False) -> Run:
    """Trains, or continues where an earlier call stopped; the result is byte for byte the same.

    weights: caffemodel to begin with; what is state of the run that it comes from is left out.
    processes: how many trainings may run side by side, if the schedule has several at a time.
    fresh_head: whether layers that the weights do not fit start afresh; see `pretrained.write_fitting`.
    Raises UserError if the folder holds another run, the data do not fit, or the training fails.
    """
    return _train(Run(os.path.abspath(folder)), experiment, os.path.abspath(data_folder), weights,
                  weights and files.digest(weights), engine, processes, fresh_head)


def resume(run: Run, processes: int = 1) -> Run:
    """Continues a run with all that it was begun with, which run.json tells, or leaves it if it is finished.

    Raises UserError as `train`, and if the run has no snapshot yet and the weights that it begins with are gone.
    """
    require_same_data(run)
    info = run.info
    digest, weights = info["weights"], (info.get(ORIGIN) or {}).get("path")
    if digest and not run.snapshots():
        if not (weights and os.path.exists(weights) and files.digest(weights) == digest):
            if not os.path.exists(run.path(INITIAL)):
                raise UserError("{}: has no snapshot yet, and the weights that it begins with, {}, are gone or were "
                                "changed; give the command that began it".format(
                                    run.folder, weights or "sha256 " + digest))
            weights = None
    else:
        weights = None
    return _train(run, run.experiment, info["data"], weights, digest, Engine(info["threads"], run.device), processes,
                  FRESH_HEAD in info)


def _train(run: Run, experiment: Experiment, data_folder: str, weights: Optional[str], digest: Optional[str],
           engine: Engine, processes: int, fresh_head: bool) -> Run:
    """weights: caffemodel to begin with; None for none, and where the run has taken from it what fits; digest: of the
    caffemodel, None for none."""
    note = prepared_folder.read_note(data_folder)
    prepared_folder.require_manifest(data_folder, note)
    data = parts.prepared(data_folder, note)
    schedule = schedules.of(experiment)
    require_fitting(experiment, data, note)
    _require_complete(data, note)
    iterations = schedule.iterations(data)
    info = {"format": FORMAT, "project": project(),
            **described(experiment, data_folder, note, digest, engine),
            "iterations": iterations, "versions": versions(engine.device)}
    if weights:
        info[ORIGIN] = origin(weights)
    existed = os.path.exists(run.folder)
    texts = schedule.definitions(data, run)
    with locked(run):
        _begin(run, info, texts, fresh_head)
        files.write_json(run.path(DATA), note)
        if not digest and not run.snapshots() and experiment.pretrained:
            print("no --weights: the net starts from random weights; the paper's was pretrained "
                  f"({experiment.pretrained}), see models/README.md")
        if weights and not run.snapshots():
            try:
                files.write_text(run.path(LEARNED), build.text(nets.learned(experiment, data)))
                with progress.doing(f"taking what fits from {weights}"):
                    fit = pretrained.write_fitting(weights, run.path(LEARNED), run.path(INITIAL),
                                                   nets.copied_suffix(experiment), fresh_head, experiment.net)
            except UserError:
                if not existed:
                    files.remove(run.folder)
                raise
            print(fit)
            if fresh_head:
                files.write_json(run.path(NOTE), {**run.info, FRESH_HEAD: [layer for layer, _, _ in fit.unfit]})
        if run.snapshots()[-1:] != [iterations]:
            schedule.train(Training(run, data, note, run.path(INITIAL) if digest else None, engine, processes))
        # A call that was killed after its last snapshot left them.
        for segments in schedules.FILES:
            for scratch in glob.glob(os.path.join(glob.escape(run.folder), segments, "**", SCRATCH), recursive=True):
                files.remove(scratch)
        files.remove(run.path(SCRATCH))
    return run


def origin(weights: str) -> dict[str, Any]:
    """Where weights come from: the "path" of the caffemodel and, if it is a snapshot of a run, the name of its
    "experiment" and its "iteration"."""
    path = os.path.abspath(weights)
    source = Run(os.path.dirname(os.path.dirname(path)))
    iteration = next((at for at in source.snapshots() if source.weights_of(at) == path), None)
    if iteration is None or not source.has_begun:
        return {"path": path, "experiment": None, "iteration": None}
    return {"path": path, "experiment": source.experiment.name, "iteration": iteration}


def described(experiment: Experiment, data_folder: str, note: dict[str, Any], weights: Optional[str], engine: Engine
              ) -> dict[str, Any]:
    """What of run.json is known before the training, and must stay the same as long as a run continues. weights: their
    digest."""
    return {"experiment": dataclasses.asdict(experiment), "data": data_folder, "manifest": note["manifest"],
            "weights": weights, "threads": engine.threads, **dataclasses.asdict(engine.device)}


def device_of(info: dict[str, Any]) -> Device:
    """On what a run is trained by its run.json, which in earlier versions names no engine."""
    return Device(**{field.name: info.get(field.name, field.default) for field in dataclasses.fields(Device)})


def project() -> Optional[dict[str, Any]]:
    """The project's "commit", and whether its tree was "clean", that is, without changes of tracked files; None if
    that is not known: the project is no git repository, or git is missing."""
    commit = os.environ.get(COMMIT, "")
    return {"commit": commit.partition("-")[0], "clean": not commit.endswith("-dirty")} if commit else None


def require_same(run: Run, info: dict[str, Any]) -> bool:
    """Whether a run is what `info`, see `described`, says; the project's commit may differ. Raises UserError if it is
    another one that has snapshots."""
    present, wanted = (_deciding(noted) for noted in (run.info, json.loads(json.dumps(info))))
    different = {key: value for key, value in wanted.items() if present.get(key) != value}
    if different and run.has_any_snapshot:
        key, value = next(iter(different.items()))
        raise _of_another(run, key, present.get(key), value)
    return not different


def require_same_experiment(run: Run, experiment: Experiment) -> None:
    """Raises UserError if a run was trained by another experiment or with other settings."""
    present, wanted = (_decisive(fields) for fields in (
        run.info["experiment"], json.loads(json.dumps(dataclasses.asdict(experiment)))))
    if present != wanted:
        raise _of_another(run, "experiment", present, wanted)


def _of_another(run: Run, key: str, present: Any, wanted: Any) -> UserError:
    return UserError("{}: belongs to another run, whose {} was {}, not {}; give another --out".format(
        run.folder, key, *_difference(present, wanted)))


def _deciding(info: dict[str, Any]) -> dict[str, Any]:
    """What of run.json decides on the training. What experiments did not have when it was written has its default."""
    return {**dataclasses.asdict(device_of(info)),
            **{key: value for key, value in info.items() if key not in IRRELEVANT},
            "experiment": _decisive(info["experiment"])}


def _decisive(fields: dict[str, Any]) -> dict[str, Any]:
    """The same of an experiment in run.json."""
    return {key: value for key, value in dataclasses.asdict(from_note(fields)).items() if key not in DESCRIPTIVE}


def require_fitting(experiment: Experiment, data: parts.Data, note: dict[str, Any]) -> None:
    """Raises UserError if prepared data lack what an experiment needs."""
    backbone = backbones.named(experiment.net)
    if not backbone.takes(note["shape"]):
        raise UserError("{}: the images are {}, but the net {} takes {}".format(
            data.root, "x".join(map(str, note["shape"])), experiment.net, backbone.taken))
    nets.require_buildable(experiment, data)
    for feature in nets.features(experiment):
        if feature not in note["features"]:
            raise UserError("{}: has no {} features, which {} needs; it has {}".format(
                data.root, feature, experiment.name, ", ".join(note["features"]) or "none"))
    if nets.needs_references(experiment) and not os.path.isdir(os.path.join(data.root, "train", "references")):
        raise UserError(f"{data.root}: has no references, which {experiment.name} needs; prepare it with a protocol "
                        "whose samples are pairs, as for " + experiment.data)
    purpose = schedules.of(experiment).validated_for
    if purpose and "val" not in note["records"]:
        raise UserError("{}: has no validation split, which {} needs for {}; {}".format(
            data.root, experiment.name, purpose, prepared_folder.makes_validation(note)))
    crop_set = crops.SETS[note["asked"]["crops"]]
    if (not crop_set.cut_in_training) not in nets.trains_on_cut(experiment):
        raise UserError("{}: made with crops {}, whose training images are {}cut to the size of the net's input; {} "
                        "needs --crops {}".format(
                            data.root, note["asked"]["crops"], "not " if crop_set.cut_in_training else "",
                            experiment.name, suggestions.first([name for name, other in crops.SETS.items() if (
                                not other.cut_in_training) in nets.trains_on_cut(experiment)
                                and backbone.takes(other.shape)], LISTED)))
    nets.require_drawable(experiment, data)


def _require_complete(data: parts.Data, note: dict[str, Any]) -> None:
    """Raises UserError if what trains or validates lacks records."""
    for split in sorted(set(note["records"]) & {"train", "val"}):
        forward.records_of(data.root, note, split)
        for name in sorted(os.listdir(os.path.join(data.root, split))):
            if os.path.isdir(os.path.join(data.root, split, name)):
                forward.database(data.root, note, split, name).close()


def versions(device: Device = machine.DEFAULT) -> dict[str, str]:
    """Versions of what the result's bytes depend on."""
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_get_corename.restype = ctypes.c_char_p
    found = {"caffe": caffe.__version__, "blas": "OpenBLAS " + blas.openblas_get_corename().decode(),
             "numpy": np.__version__}
    if device.engine == machine.TORCH:
        found["torch"] = torch_version()
    return found


def torch_version() -> str:
    """The version of PyTorch, which is not loaded for that. Raises UserError if it is not installed."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise UserError(machine.NO_TORCH)
    return runpy.run_path(os.path.join(os.path.dirname(found.origin), "version.py"))["__version__"]


def locked(run: Run) -> contextlib.AbstractContextManager[None]:
    """The lock that a training holds, in a folder that is made if it is missing."""
    files.claim(run.folder, KIND)
    return locks.exclusive(run.path(LOCK), f"{run.folder}: another training is running in this folder")


def _begin(run: Run, info: dict[str, Any], texts: dict[str, str], fresh_head: bool) -> None:
    if run.has_begun and not require_same(run, info):
        remove(run.folder, MADE)
    caffe_process.write_definitions(run, texts)
    # Where the weights came from, and what they did not fit, is known only to the call that gave them.
    kept = {key: run.info[key] for key in (ORIGIN, FRESH_HEAD, BEFORE) if key in run.info and key not in info
            } if run.has_begun else {}
    if fresh_head:
        kept.setdefault(FRESH_HEAD, [])
    files.write_json(run.path(NOTE), {**info, **kept, "deploy": files.digest(run.path(DEPLOY))})


def remove(folder: str, patterns: Sequence[str]) -> None:
    """Removes what MEASURED or MADE match in the folder of a run or a group."""
    for pattern in patterns:
        for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
            files.remove(path)


def _difference(value: Any, other: Any) -> tuple[Any, Any]:
    """Both, without what they agree on."""
    if not (isinstance(value, dict) and isinstance(other, dict)):
        return value, other
    pairs = {key: _difference(value.get(key), other.get(key)) for key in {**value, **other}
             if value.get(key) != other.get(key)}
    return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
