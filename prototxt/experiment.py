"""An experiment: one YAML file of `experiments/`, on top of its paper's defaults."""
import contextlib
import functools
import os
from typing import Any, Dict, List, NamedTuple, Sequence

import yaml

from data_prep.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "experiments")
DEFAULTS = "defaults"

LOSSES = {"center": {"weight", "normalization"},
          "gabor": {"weight", "rho", "p", "gradient", "normalization"}}
SOLVER = {"base_lr", "lr_policy", "momentum", "weight_decay", "batch_size", "max_iter", "display",
          "test_interval", "snapshot", "random_seed"}
# Settings that are no numbers.
WORDS = {"lr_policy", "gradient", "normalization"}


class Experiment(NamedTuple):
    """name: "<paper>/<experiment>"; title: for tables; source: where the paper has it; data: data set;
    net: the builder's name; losses: what is added to softmax, name -> settings; solver: Caffe's settings
    and `batch_size`."""

    name: str
    title: str
    source: str
    data: str
    net: str
    losses: Dict[str, Dict[str, Any]]
    solver: Dict[str, Any]

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]


def names() -> List[str]:
    """All experiments, sorted."""
    found = []
    for paper in sorted(os.listdir(FOLDER)):
        if os.path.isdir(os.path.join(FOLDER, paper)):
            found += [paper + "/" + file[:-4] for file in sorted(os.listdir(os.path.join(FOLDER, paper)))
                      if file.endswith(".yml") and file != DEFAULTS + ".yml"]
    return found


def load(name: str, changes: Sequence[str] = ()) -> Experiment:
    """An experiment, with changes such as "solver.max_iter=3000".

    Raises UserError on an unknown experiment, an unknown or missing key, or a number that is none.
    """
    if name not in names():
        raise UserError("there is no experiment {!r}; there are: {}".format(name, ", ".join(names())))
    path = _path(name)
    defaults = _read(_path(name.split("/")[0] + "/" + DEFAULTS))
    own = _read(path)
    _check_keys(path, own, set(Experiment._fields) - {"name"})
    missing = set(Experiment._fields) - {"name", "losses", "solver"} - set(own)
    if missing:
        raise UserError("{}: missing {}".format(path, ", ".join(sorted(missing))))
    losses = {loss: dict(defaults["losses"].get(loss, {}), **settings)
              for loss, settings in own.get("losses", {}).items()}
    solver = dict(defaults["solver"], **own.get("solver", {}))
    for change in changes:
        _change({"losses": losses, "solver": solver}, change)
    _check_keys(path + ": losses", losses, LOSSES)
    for loss, settings in losses.items():
        _check_keys("{}: losses: {}".format(path, loss), settings, LOSSES[loss])
    _check_keys(path + ": solver", solver, SOLVER)
    for section in [solver] + list(losses.values()):
        for key, value in section.items():
            if key not in WORDS and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise UserError("{}: {} is {!r}, expected a number (YAML wants 1.0e-6, not 1e-6)".format(
                    path, key, value))
    return Experiment(name, own["title"], own["source"], own["data"], own["net"], losses, solver)


def _change(sections: Dict, change: str) -> None:
    name, equals, value = change.partition("=")
    if not equals or name not in _settings(sections):
        raise UserError("--set {}: expected KEY=VALUE with a key of the experiment: {}".format(
            change, ", ".join(_settings(sections))))
    *outer, key = name.split(".")
    section = functools.reduce(dict.get, outer, sections)
    section[key] = value if key in WORDS else _number(value, change)


def _settings(sections: Dict, prefix: str = "") -> List[str]:
    found = []
    for key, value in sections.items():
        found += _settings(value, prefix + key + ".") if isinstance(value, dict) else [prefix + key]
    return found


def _number(text: str, change: str):
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise UserError("--set {}: {!r} is no number".format(change, text))


def _path(name: str) -> str:
    return os.path.join(FOLDER, name + ".yml")


def _read(path: str) -> Dict:
    with open(path, encoding="utf-8") as stream:
        return yaml.safe_load(stream)


def _check_keys(where: str, given: Dict, allowed) -> None:
    for key in given:
        if key not in allowed:
            raise UserError("{}: unknown key {!r}, expected one of {}".format(
                where, key, ", ".join(sorted(allowed))))
