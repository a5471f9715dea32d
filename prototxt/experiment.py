"""An experiment: one YAML file of `experiments/`, on top of its paper's defaults."""
import os
from typing import Any, Dict, List, NamedTuple

import yaml

from data_prep.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "experiments")
DEFAULTS = "defaults"

LOSSES = {"center": {"weight", "normalization"},
          "gabor": {"weight", "rho", "p", "gradient", "normalization"}}
SOLVER = {"base_lr", "lr_policy", "momentum", "weight_decay", "batch_size", "max_iter", "display",
          "test_interval", "snapshot", "random_seed"}


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


def load(name: str) -> Experiment:
    """Raises UserError on an unknown experiment, an unknown or missing key, or a number that is none."""
    if name not in names():
        raise UserError("there is no experiment {!r}; there are: {}".format(name, ", ".join(names())))
    defaults = _read(name.split("/")[0] + "/" + DEFAULTS)
    own = _read(name)
    path = _path(name)
    _check_keys(path, own, set(Experiment._fields) - {"name"})
    losses = own.get("losses", {})
    _check_keys(path + ": losses", losses, LOSSES)
    for loss, settings in losses.items():
        _check_keys("{}: losses: {}".format(path, loss), settings, LOSSES[loss])
        losses[loss] = dict(defaults["losses"][loss], **settings)
    solver = dict(defaults["solver"], **own.get("solver", {}))
    _check_keys(path + ": solver", solver, SOLVER)
    for key, value in list(solver.items()) + [(loss + ": weight", losses[loss]["weight"]) for loss in losses]:
        if key != "lr_policy" and not isinstance(value, (int, float)):
            raise UserError("{}: {} is {!r}, expected a number (YAML wants 1.0e-6, not 1e-6)".format(
                path, key, value))
    missing = {"title", "source", "data", "net"} - set(own)
    if missing:
        raise UserError("{}: missing {}".format(path, ", ".join(sorted(missing))))
    return Experiment(name, own["title"], own["source"], own["data"], own["net"], losses, solver)


def _path(name: str) -> str:
    return os.path.join(FOLDER, name + ".yml")


def _read(name: str) -> Dict:
    with open(_path(name), encoding="utf-8") as stream:
        return yaml.safe_load(stream)


def _check_keys(where: str, given: Dict, allowed) -> None:
    for key in given:
        if key not in allowed:
            raise UserError("{}: unknown key {!r}, expected one of {}".format(
                where, key, ", ".join(sorted(allowed))))
