"""Several runs of one experiment: the folds of a cross-validation, repetitions with other seeds, or both.

    GROUP/group.json         {"kind": "folds" or "seeds", "members": ["fold01", ...]}
    GROUP/fold01/ ...        the members: runs, or groups of folds in a group of seeds
    GROUP/metrics.json, GROUP/decisions-test.csv     see tools.evaluation.groups
"""
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

import numpy as np

from common import children, files, machine
from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from prototxt.builders import backbones
from tools.training import run
from tools.training.caffe_process import Engine, all_cores
from tools.training.run import Run

NOTE = "group.json"
KIND = "group of runs"


@dataclass(frozen=True)
class Group:
    """The folder of several runs."""

    folder: str
    # "folds", "seeds", or of the runs of a plan "runs".
    kind: str
    # Names of the folders in it.
    members: Sequence[str]

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)


@dataclass(frozen=True)
class Planned:
    """A run that is to be trained."""

    experiment: Experiment
    # Prepared folder, of one fold if there are folds.
    data: str
    # Of the run.
    folder: str


def open_(folder: str) -> Union[Run, Group]:
    """The run or the group that a folder holds."""
    folder = os.path.abspath(folder)
    note = os.path.join(folder, NOTE)
    return Group(folder, **files.read_json(note)) if os.path.exists(note) else Run(folder)


def members(group: Group) -> list[Union[Run, Group]]:
    return [open_(group.path(name)) for name in group.members]


def runs(run_or_group: Union[Run, Group]) -> list[Run]:
    """All runs of a group, or the run itself."""
    if isinstance(run_or_group, Run):
        return [run_or_group]
    return [inner for member in members(run_or_group) for inner in runs(member)]


def train(experiment: Experiment, data: str, folder: str, weights: Optional[str], seeds: Sequence[int],
          threads: Optional[int], gpu: Optional[str], processes: int) -> Union[Run, Group]:
    """Trains an experiment; of data with folds, one run a fold; with seeds, each seed by itself.

    threads: of BLAS; None for the number that a run was begun with, else one a core if there is one run, and one if
    several run side by side. processes: how many trainings at a time.
    Raises UserError as `run.train`, and if the folder holds another group.
    """
    _require_memory(experiment)
    groups: list[Group] = []
    planned: list[Planned] = []
    for group_or_run in _plan(experiment, os.path.abspath(data), os.path.abspath(folder), seeds):
        if isinstance(group_or_run, Group):
            groups.append(group_or_run)
        else:
            planned.append(group_or_run)
    for group in groups:
        begin(group)
    otherwise = threads or (min(processes, all_cores().threads) if len(planned) == 1 else 1)

    def train_run(this: Planned) -> Run:
        engine = Engine(threads or Run(this.folder).threads(otherwise), gpu)
        return run.train(this.experiment, this.data, this.folder, weights, engine,
                         processes if len(planned) == 1 else 1)
    # CUDA does not work in a forked process.
    if gpu is not None:
        processes = 1
    try:
        if len(planned) == 1 or gpu is not None:
            for this in planned:
                train_run(this)
        else:
            for _ in children.in_order(processes, lambda: None, (), train_run, planned):
                pass
    finally:
        # If the data or the weights were refused before a member's folder was made, nothing stays.
        for group in reversed(groups):
            if set(os.listdir(group.folder)) == {NOTE, files.MARK}:
                files.remove(group.folder)
    return open_(folder)


def _require_memory(experiment: Experiment) -> None:
    """Raises UserError if there is no such net, or if the images of a step alone do not fit. The layers above them need
    many times that, which differs from net to net: Caffe says if there is not enough."""
    images = experiment.solver["batch_size"] * sum(experiment.tuplets.values() or [1])
    needed, total = 4 * images * int(np.prod(backbones.named(experiment.net).shape)), machine.memory()[0]
    if needed > total:
        raise UserError("{}: solver.batch_size {} takes {} for the images of a step alone; this machine has {}".format(
            experiment.name, experiment.solver["batch_size"], files.amount(needed), files.amount(total)))


def _plan(experiment: Experiment, data: str, folder: str, seeds: Sequence[int]) -> Iterator[Union[Group, Planned]]:
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds {' '.join(map(str, seeds))}: expected each once")
    if seeds:
        names = [f"seed{seed:02d}" for seed in seeds]
        yield Group(folder, "seeds", names)
        for name, seed in zip(names, seeds):
            seeded = replace(experiment, solver=dict(experiment.solver, random_seed=seed))
            yield from _plan(seeded, data, os.path.join(folder, name), ())
        return
    note = prepared_folder.any_note(data) if prepared_folder.is_prepared(data) else {}
    if note.get("folds"):
        yield Group(folder, "folds", note["folds"])
        for name in note["folds"]:
            yield Planned(experiment, os.path.join(data, name), os.path.join(folder, name))
    else:
        yield Planned(experiment, data, folder)


def begin(group: Group) -> None:
    """Notes the group in its folder. Raises UserError if that holds another one, or something else."""
    path = group.path(NOTE)
    note = {"kind": group.kind, "members": list(group.members)}
    files.claim(group.folder, KIND)
    if os.path.exists(path):
        present = files.read_json(path)
        if present != note:
            raise UserError("{}: holds {} {}, not {} {}; give another --out".format(
                group.folder, present["kind"], ", ".join(present["members"]), group.kind, ", ".join(group.members)))
    else:
        files.write_json(path, note)
