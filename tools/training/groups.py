"""Several runs of one experiment: the folds of a cross-validation, repetitions with other seeds, or both.

    GROUP/group.json         {"kind": "folds" or "seeds", "members": ["fold01", ...]}, and the "weights" that were given
    GROUP/fold01/ ...        the members: runs, or groups of folds in a group of seeds
    GROUP/metrics.json, GROUP/decisions-test.csv     see tools.evaluation.groups
"""
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

import numpy as np

from common import children, files, machine, suggestions
from common.errors import UserError
from common.experiment import Experiment
from common.machine import Device
from data_prep import prepared_folder
from prototxt.builders import backbones, parts
from tools.training import pretraining, run, snapshots, switching
from tools.training.caffe_process import Engine, all_cores
from tools.training.run import Run

NOTE = run.GROUP
KIND = "group of runs"
# The name of a member begins with it, before the number of its seed.
SEED = "seed"
# Members that a message names.
LISTED = 10


@dataclass(frozen=True)
class Group:
    """The folder of several runs."""

    folder: str
    # "folds", "seeds", or of the runs of a plan "runs".
    kind: str
    # Names of the folders in it.
    members: Sequence[str]
    # What --weights gave to the training, and --fresh-head; for members that have not begun.
    weights: Optional[str] = None
    fresh_head: bool = False

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
    """The run or the group that a folder holds. Raises UserError if the folder was renamed to what is no text."""
    files.require_text(folder)
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


def caffemodel(weights: str, names: Sequence[str] = ()) -> str:
    """The caffemodel that --weights means: a file, or a snapshot of a run; of a group, that of the member of the same
    name.

    weights: the path of a caffemodel, or RUN, RUN@500 or RUN@best, where RUN may be a group; names: of the run that
    begins with it, in its groups, such as seed01 and fold03. Raises UserError if there is none.
    """
    path, snapshot = snapshots.split(weights)
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file or folder")
    if not os.path.isdir(path):
        if snapshot is not None:
            raise UserError(f"{weights}: {path} is a file and has no snapshots; expected RUN@{snapshot}")
        return path
    source = open_(path)
    while isinstance(source, Group):
        same = [name for name in source.members if name in names]
        if not names:
            raise UserError("--weights {}: holds several runs; use one of them: {}".format(weights, suggestions.first([
                os.path.join(path, name) + snapshots.text(snapshot) for name in source.members], LISTED)))
        if not same:
            raise UserError("--weights {}: has no {}; it has {}".format(
                weights, os.path.join(*names), suggestions.first(source.members, LISTED)))
        source = open_(source.path(same[0]))
    return pretraining.passed_on(source) if snapshot is None else source.caffemodel(
        snapshots.iteration(source, snapshot))


def require_weights(begun: Run, path: Optional[str], digests: dict[str, str]) -> None:
    """Raises UserError if a training that has a snapshot began with other weights than those in `path`; None for random
    ones. digests: path -> digest, as far as they were computed."""
    if not begun.has_any_snapshot:
        return
    if path and path not in digests:
        digests[path] = files.digest(path)
    if begun.info["weights"] != (digests[path] if path else None):
        raise UserError("{}: began with {}, not with {}; give another --out".format(
            begun.folder, (begun.info.get(run.ORIGIN) or {}).get("path", "other weights")
            if begun.info["weights"] else "random weights", path or "random weights"))


def seed_name(seed: int) -> str:
    """The name of the member with a seed."""
    return f"{SEED}{seed:02d}"


def train(experiment: Experiment, data: str, folder: str, weights: Optional[str], seeds: Sequence[int],
          threads: Optional[int], device: Device, processes: int, fresh_head: bool = False,
          now: Sequence[int] = ()) -> Union[Run, Group]:
    """Trains an experiment; of data with folds, one run a fold; with seeds, each seed by itself.

    weights: what the runs begin with, see `caffemodel`; None for random weights. threads: of BLAS; None for the number
    that a run was begun with, else one a core if there is one run, and one if several run side by side. processes: how
    many trainings at a time. fresh_head: see `run.train`. now: which of the seeds are trained now; empty for all.
    A group of seeds that is there may get more seeds. Raises UserError as `run.train`, if the folder holds another
    group, and if there are no such weights for a run.
    """
    return _train(experiment, data, folder, weights, seeds, threads, device, processes, fresh_head, False, now)


def require_fitting(experiment: Experiment, data: str) -> None:
    """Raises UserError if a prepared folder, or one of the folds in it, lacks what an experiment needs: what `train`
    says of the data before it begins."""
    for planned in _plan(experiment, os.path.abspath(data), "", ()):
        if isinstance(planned, Planned):
            note = prepared_folder.read_note(planned.data)
            run.require_fitting(experiment, parts.prepared(planned.data, note), note)


def resume(folder: str, processes: int, device: Optional[Device] = None) -> Union[Run, Group]:
    """Continues a run, or all runs of a group, with all that they were begun with. Members of a group that have not
    begun are trained as the others are. device: what they continue on, if that is another one.

    Raises UserError as `run.resume` and `switching.change`, and if the folder holds no run that has begun.
    """
    opened = open_(folder)
    begun = [one for one in runs(opened) if one.has_begun]
    if device:
        for one in begun:
            switching.change(one, device)
    if isinstance(opened, Run):
        opened.require_begun()
        return run.resume(opened, processes)
    if not begun:
        raise UserError(f"{opened.folder}: none of its runs has begun; give the command that began the group")
    info = begun[0].info
    if info["weights"] and not opened.weights and len(begun) < len(runs(opened)):
        raise UserError(f"{opened.folder}: does not say which weights its other runs begin with; give the command that "
                        "began the group")
    seeds = [int(name[len(SEED):]) for name in opened.members] if opened.kind == "seeds" else []
    folds = opened.kind == "folds" or any(isinstance(member, Group) for member in members(opened))
    return _train(begun[0].experiment, os.path.dirname(info["data"]) if folds else info["data"], opened.folder,
                  opened.weights, seeds, info["threads"], device or switching.continuing(begun).device, processes,
                  opened.fresh_head, True)


def _train(experiment: Experiment, data: str, folder: str, weights: Optional[str], seeds: Sequence[int],
           threads: Optional[int], device: Device, processes: int, fresh_head: bool, resumes: bool,
           now: Sequence[int] = ()) -> Union[Run, Group]:
    """resumes: whether runs that have begun continue as they were begun."""
    _require_memory(experiment)
    groups: list[Group] = []
    planned: list[Planned] = []
    folder = os.path.abspath(folder)
    given = weights and snapshots.absolute(weights)
    for group_or_run in _plan(experiment, os.path.abspath(data), folder, seeds):
        if isinstance(group_or_run, Group):
            groups.append(replace(group_or_run, weights=given, fresh_head=fresh_head))
        else:
            planned.append(group_or_run)
    if now:
        planned = [this for this in planned if any(
            os.path.relpath(this.folder, folder).split(os.sep)[0] == seed_name(seed) for seed in now)]
    for group in groups:
        require_beginnable(group)
    begins_with: dict[str, str] = {}
    for this in planned:
        names = [] if this.folder == folder else os.path.relpath(this.folder, folder).split(os.sep)
        if weights and not (resumes and Run(this.folder).has_begun):
            begins_with[this.folder] = caffemodel(weights, names)
    _require_same(planned, begins_with, threads, device, resumes)
    earlier = [begin(group) for group in groups]
    otherwise = threads or (min(processes, all_cores().threads) if len(planned) == 1 else 1)

    def train_run(this: Planned) -> Run:
        side_by_side = processes if len(planned) == 1 else 1
        if resumes and Run(this.folder).has_begun:
            return run.resume(Run(this.folder), side_by_side)
        engine = Engine(threads or Run(this.folder).threads(otherwise), device)
        return run.train(this.experiment, this.data, this.folder, begins_with.get(this.folder), engine, side_by_side,
                         fresh_head)
    # CUDA does not work in a forked process. Side by side on one card, trainings would wait for each other.
    if device.gpu is not None:
        processes = len(device.each())
    try:
        if len(planned) == 1 or device.gpu is not None:
            for this in planned:
                train_run(this)
        else:
            for _ in children.in_order(processes, lambda: None, (), train_run, planned):
                pass
    finally:
        # If the data or the weights were refused before a member's folder was made, nothing stays.
        for group, present in zip(reversed(groups), reversed(earlier)):
            if set(os.listdir(group.folder)) == {NOTE, files.MARK}:
                files.remove(group.folder)
            elif present and not any(os.path.exists(group.path(name)) for name in set(group.members) - set(present)):
                files.write_json(group.path(NOTE), {**files.read_json(group.path(NOTE)), "members": present})
    return open_(folder)


def _require_same(planned: Sequence[Planned], begins_with: Mapping[str, str], threads: Optional[int], device: Device,
                  resumes: bool) -> None:
    """Raises UserError if runs that are there were trained with other settings, data or weights, or are at work. No
    other run may begin before: it would stay beside them and pass for one of their group."""
    digests: dict[str, str] = {}
    for this in planned:
        files.require_claimable(this.folder, run.KIND)
        there = Run(this.folder)
        if not there.has_begun:
            continue
        with run.locked(there):
            pass
        if not resumes:
            require_weights(there, begins_with.get(this.folder), digests)
            run.require_same(there, run.described(
                this.experiment, this.data, prepared_folder.read_note(this.data), there.info["weights"],
                Engine(threads or there.info["threads"], device)))


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
        names = list(map(seed_name, seeds))
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


def require_beginnable(group: Group) -> Optional[dict[str, Any]]:
    """The note of a group in its folder, None if there is none. Raises UserError if `begin` would; makes nothing."""
    files.require_claimable(group.folder, KIND)
    if not os.path.exists(group.path(NOTE)):
        return None
    present = files.read_json(group.path(NOTE))
    grows = present["kind"] == group.kind == "seeds" and set(present["members"]) <= set(group.members)
    if not grows and (present["kind"], present["members"]) != (group.kind, list(group.members)):
        raise UserError("{}: holds {} {}, not {} {}; give another --out".format(
            group.folder, present["kind"], ", ".join(present["members"]), group.kind, ", ".join(group.members)))
    return present


def begin(group: Group) -> list[str]:
    """Notes the group in its folder. A group of seeds may grow: what was measured of it as a whole is then removed, and
    its earlier members are returned, otherwise none. Raises UserError if the folder holds another group, or something
    else."""
    present = require_beginnable(group) or {}
    earlier: list[str] = present.get("members", [])
    grows = bool(set(group.members) - set(earlier))
    note: dict[str, Any] = {"kind": group.kind, "members": list(group.members) if grows else earlier}
    if group.weights:
        note.update(weights=group.weights, fresh_head=group.fresh_head or present.get("fresh_head", False))
    files.claim(group.folder, KIND)
    if grows:
        run.remove(group.folder, run.MEASURED)
    if present != note:
        files.write_json(group.path(NOTE), note)
    return earlier if grows else []
