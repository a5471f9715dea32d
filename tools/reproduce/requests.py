"""Reads what the command line asks `./fer reproduce` for."""
import os
from collections.abc import Sequence

from common import experiment as experiments
from common import suggestions
from common.errors import UserError
from common.machine import DEFAULT, Device
from data_prep import prepared_folder
from prototxt.builders import backbones
from tools.reproduce import plan
from tools.reproduce.plan import Request
from tools.training import groups, snapshots


def request(targets: Sequence[str], data: Sequence[str], out: str, changes: Sequence[str] = (),
            only: Sequence[str] = (), weights: Sequence[str] = (), threads: int = 1,
            device: Device = DEFAULT) -> Request:
    """data: folders of prepared folders, and SET=FOLDER; weights: FILE, NET=FILE, EXPERIMENT=FILE, where FILE
    may also be RUN, RUN@500 or RUN@best; the others: see
    Request.

    Raises UserError on a missing folder or file, on a prepared folder without its name, on a name that no data set,
    net or experiment has, and on two caffemodels for the same name.
    """
    names = sorted(plan.data_sets())
    for name in only:
        _require_data_set("--only " + name, name, names)
    return Request(targets, _data_sets(data, names), os.path.abspath(out), changes, only, _weights(weights), threads,
                   device)


def _data_sets(words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Data set -> prepared folder."""
    parents: list[str] = []
    named: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if equals and os.sep not in name:
            _require_data_set(f"--data {name}=...", name, names)
            named[name] = os.path.abspath(_existing(path))
        else:
            parents.append(word)
    sets: dict[str, str] = {}
    for parent in reversed(parents):
        if prepared_folder.is_prepared(parent):
            raise UserError(f"--data {parent}: is a prepared folder itself; use SET={parent}, with the name that "
                            "experiments have for these data")
        if not os.path.isdir(_existing(parent)):
            raise UserError(f"--data {parent}: is no folder")
        sets.update((name, os.path.join(os.path.abspath(parent), name)) for name in sorted(os.listdir(parent)))
    return {**sets, **named}


def _require_data_set(option: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UserError(f"{option}: " + suggestions.unknown(
            "data set", name, names, "the column `data` of `./fer experiments` shows the names"))


def _weights(words: Sequence[str]) -> dict[str, str]:
    """Experiment or net, or "" for all others -> caffemodel."""
    names = [*experiments.names(), *backbones.BACKBONES]
    weights: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        key = name
        if not equals or (name not in names and os.path.exists(snapshots.split(word)[0])):
            key, path = "", word
        elif name not in names:
            raise UserError(f"--weights {word}: " + suggestions.unknown(
                "experiment and no net", name, names, "`./fer experiments` lists them all"))
        if key in weights:
            raise UserError("--weights: two files for {}; expected EXPERIMENT=FILE, NET=FILE, and one FILE for all "
                            "others".format(key or "all nets"))
        weights[key] = _caffemodel_or_group(path)
    return weights


def _caffemodel_or_group(text: str) -> str:
    """The path of the caffemodel that a file, or RUN, RUN@500 or RUN@best names; of a group, the same text with an
    absolute path, since each fold takes its own."""
    path, _ = snapshots.split(text)
    if os.path.isdir(path) and isinstance(groups.open_(path), groups.Group):
        return snapshots.absolute(text)
    return os.path.abspath(groups.caffemodel(text))


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file or folder")
    return path
