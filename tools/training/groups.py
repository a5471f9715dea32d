"""Several runs of one experiment: the folds of a cross-validation, repetitions with other seeds, or both.

    GROUP/group.json         {"kind": "folds" or "seeds", "members": ["fold01", ...]}
    GROUP/fold01/ ...        the members: runs, or groups of folds in a group of seeds
    GROUP/metrics.json, GROUP/decisions-test.csv     see tools.evaluation.groups
"""
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional, Union

import numpy as np

from common import children, files
from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from prototxt.builders import backbones
from tools.reproduce import estimate
from tools.training import run
from tools.training.caffe_process import Engine, all_cores
from tools.training.run import Run

NOTE = "group.json"
KIND = "group of runs"


class Group(NamedTuple):
    """folder; kind: "folds" or "seeds"; members: names of the folders in it."""

    folder: str
    kind: str
    members: Sequence[str]

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)


class Leaf(NamedTuple):
    """A single training. data: prepared folder, of one fold where there are folds."""

    experiment: Experiment
    data: str
    folder: str


def open_(folder: str) -> Union[Run, Group]:
    """The run or the group that a folder holds."""
    folder = os.path.abspath(folder)
    note = os.path.join(folder, NOTE)
    return Group(folder, **files.read_json(note)) if os.path.exists(note) else Run(folder)


def members(group: Group) -> list[Union[Run, Group]]:
    return [open_(group.path(name)) for name in group.members]


def runs(one: Union[Run, Group]) -> list[Run]:
    """All runs of a group, or the run itself."""
    return [one] if isinstance(one, Run) else [inner for member in members(one) for inner in runs(member)]


def train(experiment: Experiment, data: str, folder: str, weights: Optional[str], seeds: Sequence[int],
          threads: Optional[int], gpu: Optional[str], processes: int) -> Union[Run, Group]:
    """Trains an experiment; of data with folds, one run a fold; with seeds, each seed by itself.

    threads: of BLAS; None for the number that a run was begun with, else one a core where there is one run, and one
    where several run side by side. processes: how many trainings at a time.
    Raises UserError as `run.train`, and where the folder holds another group.
    """
    _require_memory(experiment)
    groups, leaves = [], []
    for one in _plan(experiment, os.path.abspath(data), os.path.abspath(folder), seeds):
        (groups if isinstance(one, Group) else leaves).append(one)
    for group in groups:
        begin(group)
    otherwise = threads or (min(processes, all_cores().threads) if len(leaves) == 1 else 1)

    def train_leaf(leaf: Leaf) -> Run:
        used = threads or Run(leaf.folder).threads(otherwise)
        return run.train(leaf.experiment, leaf.data, leaf.folder, weights, Engine(used, gpu),
                         processes if len(leaves) == 1 else 1)
    try:
        if len(leaves) == 1:
            train_leaf(leaves[0])
        else:
            for _ in children.in_order(processes, lambda: None, (), train_leaf, leaves):
                pass
    finally:
        # Refused before a member's folder was made, for its data or weights: nothing stays.
        for group in reversed(groups):
            if set(os.listdir(group.folder)) == {NOTE, files.MARK}:
                files.remove(group.folder)
    return open_(folder)


def _require_memory(experiment: Experiment) -> None:
    """Raises UserError where there is no such net, and where the images of a step alone do not fit. What is above
    them in the net is many times that, and differs from net to net: Caffe says where it does not suffice."""
    images = experiment.solver["batch_size"] * sum(experiment.tuplets.values() or [1])
    needed, there = 4 * images * int(np.prod(backbones.named(experiment.net).shape)), estimate.machine_memory()[0]
    if needed > there:
        raise UserError("{}: solver.batch_size {} takes {} for the images of a step alone; this machine has {}".format(
            experiment.name, experiment.solver["batch_size"], files.amount(needed), files.amount(there)))


def _plan(experiment: Experiment, data: str, folder: str, seeds: Sequence[int]) -> Iterator[Union[Group, Leaf]]:
    if len(set(seeds)) < len(seeds):
        raise UserError("seeds {}: expected each once".format(" ".join(map(str, seeds))))
    if seeds:
        names = [f"seed{seed:02d}" for seed in seeds]
        yield Group(folder, "seeds", names)
        for name, seed in zip(names, seeds):
            seeded = experiment._replace(solver=dict(experiment.solver, random_seed=seed))
            yield from _plan(seeded, data, os.path.join(folder, name), ())
        return
    note = prepared_folder.any_note(data) if prepared_folder.is_prepared(data) else {}
    if note.get("folds"):
        yield Group(folder, "folds", note["folds"])
        for name in note["folds"]:
            yield Leaf(experiment, os.path.join(data, name), os.path.join(folder, name))
    else:
        yield Leaf(experiment, data, folder)


def begin(group: Group) -> None:
    """Notes the group in its folder. Raises UserError where that holds another one, or something else."""
    path = group.path(NOTE)
    note = {"kind": group.kind, "members": list(group.members)}
    files.claim(group.folder, KIND)
    if os.path.exists(path):
        known = files.read_json(path)
        if known != note:
            raise UserError("{}: holds {} {}, not {} {}; give another --out".format(
                group.folder, known["kind"], ", ".join(known["members"]), group.kind, ", ".join(group.members)))
    else:
        files.write_json(path, note)
