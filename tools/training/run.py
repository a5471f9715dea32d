"""A run's folder, and training in it.

    RUN/run.json                   what is run, and with what
    RUN/data.json                  the data's prepare.json: what a net must be shown, also where they are gone
    RUN/{train_val,deploy,solver}.prototxt
    RUN/learned.prototxt, RUN/initial.caffemodel     what given weights may fill, and what of them was taken
    RUN/caffe.log
    RUN/snapshots/iter_N.*         complete ones only
    RUN/weighting.json, RUN/rounds/          of adaptive loss weights, see tools.training.schedules.adaptive_weights
    RUN/halving.json, RUN/rates/             of a learning rate that is halved, see tools.training.schedules.plateau
    RUN/paces/                     of self-paced learning, see tools.training.schedules.self_paced
"""
import contextlib
import ctypes
import dataclasses
import glob
import json
import os
from typing import Any, Optional

import caffe
import numpy as np

from common import files, locks
from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from prototxt import build, nets
from prototxt.builders import backbones, parts, xie2019a
from tools.evaluation import forward
from tools.training import caffe_process, pretrained
from tools.training.caffe_process import Engine, Segment
from tools.training.schedules import adaptive_weights, plateau, self_paced

INITIAL = "initial.caffemodel"
DATA = "data.json"
DEPLOY = "deploy.prototxt"
LEARNED = "learned.prototxt"
LOCK = ".lock"
NOTE = "run.json"
KIND = "run"
# What a training and all that is measured of it leave in the folder, as patterns: it goes when the folder begins with
# another training. A file that the user has put there stays.
MADE = (NOTE, "train_val.prototxt", DEPLOY, "solver.prototxt", LEARNED, "attention.prototxt", INITIAL,
        "caffe.log", "scratch", "snapshots", "chain.json", "rounds", "trials", "weighting.json", "rates",
        "halving.json", "best.caffemodel", "paces", "metrics.json", "metrics-train.json", "metrics-val.json",
        "metrics-on-*.json", "metrics-every-snapshot*.json", "decisions-train.csv", "decisions-val.csv",
        "decisions-test.csv", "decisions-on-*.csv", "svm.json", "svm.csv", "respond_ratio.json", "framing.json",
        "accuracy-per-pace-*.json", "t-sne-pace*.npz", "report.html")
# Of an experiment, what only people read.
DESCRIPTIVE = ("title", "source", "pretrained")


class Run(Segment):
    """The folder of a run. `info` and `experiment` raise UserError if it holds none."""

    @property
    def has_begun(self) -> bool:
        return os.path.exists(self.path(NOTE))

    def require_begun(self) -> None:
        if not self.has_begun:
            raise UserError(f"{self.folder}: no run here; `./fer train EXPERIMENT --data DIR --out {self.folder}` "
                            "makes one")

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds; not to be changed. The file is read once, and again only after it was written anew."""
        return self._noted[0]

    @property
    def experiment(self) -> Experiment:
        return self._noted[1]

    @property
    def _noted(self) -> tuple[dict[str, Any], Experiment]:
        self.require_begun()
        about = os.stat(self.path(NOTE))
        version = about.st_ino, about.st_mtime_ns, about.st_size
        cached = self.__dict__.get("_cached")
        if cached is None or cached[0] != version:
            info = files.read_json(self.path(NOTE))
            cached = version, (info, Experiment(**info["experiment"]))
            # The object stands for a folder, and is frozen as such; this is no part of it.
            self.__dict__["_cached"] = cached
        return cached[1]

    def threads(self, otherwise: int) -> int:
        """BLAS threads that the run was begun with, since another number would give other bytes."""
        return self.info["threads"] if self.has_begun else otherwise

    def caffemodel(self, iteration: Optional[int] = None) -> str:
        """Weights of an iteration, by default the last. Raises UserError where training is not complete, or the net
        that predicts is not the one that was written for it."""
        if iteration is None:
            iteration = self.info["iterations"]
        if iteration not in self.snapshots():
            raise UserError("{}: no snapshot of iteration {}; it has {}. `./fer train` goes on with it".format(
                self.folder, iteration, ", ".join(map(str, self.snapshots())) or "none"))
        noted = self.info.get("deploy")
        if noted and not (os.path.exists(self.path(DEPLOY)) and files.digest(self.path(DEPLOY)) == noted):
            raise UserError("{}: {} since the run was trained; the same `./fer train` writes it anew".format(
                self.path(DEPLOY), "was changed" if os.path.exists(self.path(DEPLOY)) else "was removed"))
        return self.weights_of(iteration)


def require_same_data(run: Run) -> dict:
    """The note of the run's data. Raises UserError where they are not those that it was trained with."""
    info = run.info
    note = prepared_folder.read_note(info["data"])
    if note["manifest"] != info["manifest"]:
        raise UserError("{}: was prepared anew since {} was trained".format(info["data"], run.folder))
    prepared_folder.require_manifest(info["data"], note)
    return note


def train(experiment: Experiment, data_folder: str, folder: str, weights: Optional[str], engine: Engine,
          processes: int = 1) -> Run:
    """Trains, or goes on where an earlier call stopped; the result is byte for byte the same.

    weights: caffemodel to begin with; what is state of the run that it comes from is left out.
    processes: how many trainings may run side by side, where an experiment needs several.
    Raises UserError where the folder holds another run, the data do not fit, or training fails.
    """
    run = Run(os.path.abspath(folder))
    data_folder = os.path.abspath(data_folder)
    note = prepared_folder.read_note(data_folder)
    prepared_folder.require_manifest(data_folder, note)
    data = parts.prepared(data_folder, note)
    texts = _definitions(experiment, data, note, run)
    iterations = self_paced.ends(experiment, data.class_counts)[-1] if experiment.pacing else experiment.iterations
    info = {**described(experiment, data_folder, note, weights and files.digest(weights), engine),
            "iterations": iterations, "versions": versions()}
    existed = os.path.exists(run.folder)
    with locked(run):
        _begin(run, info, texts)
        files.write_json(run.path(DATA), note)
        initial = weights and run.path(INITIAL)
        if not weights and not run.snapshots() and experiment.pretrained:
            print("no --weights: the net starts from random weights; the paper's was pretrained "
                  f"({experiment.pretrained}), see "
                  "models/README.md")
        if weights and not run.snapshots():
            try:
                files.write_text(run.path(LEARNED), build.text(nets.learned(experiment, data)))
                print(pretrained.write_fitting(weights, run.path(LEARNED), initial))
            except UserError:
                if not existed:
                    files.remove(run.folder)
                raise
        if run.snapshots()[-1:] != [iterations]:
            if experiment.weighting:
                adaptive_weights.train(run, experiment, data, forward.read(data_folder, note, "val"), initial, engine,
                                       processes)
            elif experiment.pacing:
                self_paced.train(run, experiment, data, forward.read(data_folder, note, "train"), initial, engine)
            elif experiment.halving:
                plateau.train(run, experiment, data, initial, engine)
            else:
                caffe_process.train(run, initial, engine, os.path.basename(run.folder))
    return run


def described(experiment: Experiment, data_folder: str, note: dict, weights: Optional[str], engine: Engine) -> dict:
    """What run.json holds, and what must stay the same for as long as a run goes on. weights: their digest."""
    return {"experiment": experiment._asdict(), "data": data_folder, "manifest": note["manifest"], "weights": weights,
            **dataclasses.asdict(engine)}


def require_same(run: Run, info: dict) -> bool:
    """Whether a run is what `info`, see `described`, says. Raises UserError where it is another one that has
    snapshots: without, little is lost by beginning anew."""
    known, info = (_deciding(one) for one in (run.info, json.loads(json.dumps(info))))
    different = {key: value for key, value in info.items() if known.get(key) != value}
    if different and run.snapshots():
        key, value = next(iter(different.items()))
        raise UserError("{}: belongs to another run, whose {} was {}, not {}; give another --out".format(
            run.folder, key, *_difference(known.get(key), value)))
    return not different


def _deciding(info: dict) -> dict:
    """Of run.json, without what changes nothing of the training; what experiments did not have when it was written
    is as if it had been left out."""
    experiment = {**Experiment._field_defaults, **info["experiment"]}
    return {**info, "experiment": {key: value for key, value in experiment.items() if key not in DESCRIPTIVE}}


def require_fitting(experiment: Experiment, data: parts.Data, note: dict) -> None:
    """Raises UserError where prepared data have not what an experiment needs."""
    shape = backbones.named(experiment.net).shape
    if tuple(note["shape"]) != shape:
        raise UserError("{}: the images are {}, but the net {} takes {}".format(
            data.root, "x".join(map(str, note["shape"])), experiment.net, "x".join(map(str, shape))))
    for loss in experiment.losses:
        if loss in xie2019a.FEATURES and loss not in note["features"]:
            raise UserError("{}: has no {} features, which {} needs; it has {}".format(
                data.root, loss, experiment.name, ", ".join(note["features"]) or "none"))
    if experiment.head.get("subtracted") == "reference" and not os.path.isdir(
            os.path.join(data.root, "train", "references")):
        raise UserError(f"{data.root}: has no references, which {experiment.name} needs; prepare it with a protocol "
                        "of pairs, wu2023")
    why = "val" not in note["records"] and experiment.validated_for
    if why:
        raise UserError("{}: has no validation part, which {} needs for {}; `./fer prepare ...` makes one by "
                        "{}".format(data.root, experiment.name, why, "--validation fold" if note["asked"].get(
                            "validation") else "--hold-out 0.1, of the training part"))


def _definitions(experiment: Experiment, data: parts.Data, note: dict, run: Run) -> dict[str, str]:
    """What is written into the run's folder; of many trainings the net that predicts: each has its own others."""
    require_fitting(experiment, data, note)
    for split in sorted(set(note["records"]) & {"train", "val"}):
        forward.records_of(data.root, note, split)
        for name in sorted(os.listdir(os.path.join(data.root, split))):
            if os.path.isdir(os.path.join(data.root, split, name)):
                forward.database(data.root, note, split, name).close()
    texts = build.definitions(experiment.weighted()._replace(pacing={}), data, run.folder,
                              caffe_process.snapshot_prefix(run))
    return {DEPLOY: texts[DEPLOY]} if experiment.weighting or experiment.pacing else texts


def versions() -> dict[str, str]:
    """Of what the result's bytes depend on."""
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_get_corename.restype = ctypes.c_char_p
    return {"caffe": caffe.__version__, "blas": "OpenBLAS " + blas.openblas_get_corename().decode(),
            "numpy": np.__version__}


def locked(run: Run) -> contextlib.AbstractContextManager[None]:
    """The lock that a training holds, in a folder that is made if it is missing."""
    files.claim(run.folder, KIND)
    return locks.exclusive(run.path(LOCK), f"{run.folder}: another training is at work in this folder")


def _begin(run: Run, info: dict, texts: dict[str, str]) -> None:
    if run.has_begun and not require_same(run, info):
        for pattern in MADE:
            for path in glob.glob(os.path.join(glob.escape(run.folder), pattern)):
                files.remove(path)
    caffe_process.write_definitions(run, texts)
    files.write_json(run.path(NOTE), {**info, "deploy": files.digest(run.path(DEPLOY))})


def _difference(one, other):
    """Both, without what they agree on."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    pairs = {key: _difference(one.get(key), other.get(key)) for key in {**one, **other}
             if one.get(key) != other.get(key)}
    return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
