"""An experiment: one YAML file of `experiments/`, on top of its paper's defaults."""
import contextlib
import functools
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import yaml

from common import suggestions
from common.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "experiments")
DEFAULTS = "defaults"

FEATURE_LOSS = {"weight", "rho", "p", "gradient", "normalization"}
SPARSENESS = {"weight", "p", "normalization"}
LOSSES = {"center": {"weight", "normalization"}, "gabor": FEATURE_LOSS, "gsf": FEATURE_LOSS, "sift": FEATURE_LOSS,
          "sparse_z": SPARSENESS, "sparse_x": SPARSENESS, "sparse_hidden": SPARSENESS | {"coefficient"},
          "sparse_v": {"weight", "p"}, "sparse_w": {"weight", "p"},
          "tuplet": {"weight", "tau", "normalization"}, "clusters": {"weight", "rank", "normalization"},
          "fixed_clusters": {"weight", "threshold", "tau", "normalization"},
          "sparse_center": {"weight", "alpha", "normalization"}}
# Those of tuplets, [liu2017].
TUPLET_LOSSES = ("tuplet", "clusters", "fixed_clusters")
# Sections but for the losses, and their keys.
SECTIONS = {
    "head": {"structure", "normalize", "scale", "class_weights", "fc1", "activation", "dropout", "prune_v", "prune_w",
             "branches", "fc2", "fc4", "attention", "subtracted", "noise"},
    "tuplets": {"positives", "negatives"},
    "halving": {"loss_rise", "patience"},
    "weighting": {"gamma", "kappa", "eps", "restart_iterations", "rounds"},
    "pacing": {"paces", "first", "more", "epochs"},
    "solver": {"type", "base_lr", "lr_policy", "gamma", "power", "stepsize", "stepvalue", "momentum", "momentum2",
               "delta", "rms_decay", "weight_decay", "regularization_type", "clip_gradients", "average_loss",
               "batch_size", "max_iter", "display", "test_interval", "snapshot", "random_seed"}}
# Caffe's policies for the learning rate, and the settings that each needs: SolverParameter in its caffe.proto.
POLICIES = {"fixed": (), "step": ("gamma", "stepsize"), "exp": ("gamma",), "inv": ("gamma", "power"),
            "multistep": ("gamma", "stepvalue"), "poly": ("power",), "sigmoid": ("gamma", "stepsize")}
# Settings that are no numbers, and what they may be.
WORDS = {"lr_policy": tuple(POLICIES), "type": ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"),
         "regularization_type": ("L1", "L2"), "gradient": ("paper", "exact"), "normalization": ("batch", "none"),
         "structure": ("single", "branched"), "normalize": ("none", "fixed", "learned"),
         "class_weights": ("none", "inverse", "balanced"), "activation": ("none", "relu"),
         "coefficient": ("same", "divided"), "decision": ("mean", "highest"), "attention": ("none", "network"),
         "subtracted": ("none", "reference", "backbone"), "begins_with": None}
# Settings that stand in no section.
ALONE = ("begins_with", "decision")
NORMS = (1, 2)
# The setting that the defaults of others go by.
NET = "net"
# Shares: from 0 to below 1.
SHARES = {"dropout", "prune_v", "prune_w"}
# The solver's settings that are whole numbers, and the least that each may be.
WHOLE = {"batch_size", "max_iter", "display", "test_interval", "snapshot", "random_seed", "stepsize", "average_loss"}
LEAST = {"batch_size": 1, "max_iter": 1, "test_interval": 1, "display": 0, "snapshot": 0, "random_seed": 0,
         "base_lr": 0, "momentum": 0, "weight_decay": 0, "stepsize": 1, "gamma": 0, "average_loss": 1}
# Whole numbers in rising order, "1000,2000" with --set.
LISTS = {"stepvalue"}
# Caffe has no more room for the solver's whole numbers.
MOST = 2 ** 31 - 1


class Experiment(NamedTuple):
    """name: "<paper>/<experiment>"; title: for tables; source: where the paper has it; data: data set;
    net: the backbone's name; losses: what is added to softmax, name -> settings; head: what follows the backbone
    (builders in `nets`); tuplets: positives and negatives of a query; weighting: of adaptive loss
    weights ([xie2019a] Eq. (10) and (11)), empty where they are fixed; solver: Caffe's settings and `batch_size`,
    images that the softmax loss sees in a step; begins_with: experiment whose weights it begins with, or "";
    pretrained: what the paper's net was trained on before, where no experiment of ours does that, or "";
    decision: rule for a sequence, see tools.evaluation.predictions; halving: of the learning rate where training
    stalls, empty where it does not; pacing: of self-paced learning, empty where all samples are there from the
    start."""

    name: str
    title: str
    source: str
    data: str
    net: str
    losses: dict[str, dict[str, Any]]
    head: dict[str, Any]
    weighting: dict[str, Any]
    solver: dict[str, Any]
    tuplets: dict[str, Any] = {}
    halving: dict[str, Any] = {}
    pacing: dict[str, Any] = {}
    begins_with: str = ""
    decision: str = "mean"
    pretrained: str = ""

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def iterations(self) -> int:
        """Of the whole training."""
        if self.weighting:
            return self.weighting["rounds"] * self.weighting["restart_iterations"]
        return self.solver["max_iter"]

    @property
    def validated_for(self) -> str:
        """What it needs a validation part for, "" where it trains without one as well."""
        if self.weighting:
            return "its adaptive loss weights"
        if self.halving:
            return "the halving of its learning rate"
        # The weights with the highest accuracy are handed on to the next stage.
        return "the choice of its weights" if self.paper == "liu2017" else ""

    def weighted(self, **factors: float) -> "Experiment":
        """With fixed weights, multiplied by lambda_1 and lambda_2 of [xie2019a] Eq. (9), given by the losses' names."""
        return self._replace(weighting={}, losses={
            loss: dict(settings, weight=settings["weight"] * factors.get(loss, 1))
            for loss, settings in self.losses.items()})


def names() -> list[str]:
    """All experiments, sorted."""
    found = []
    for paper in os.listdir(FOLDER):
        if os.path.isdir(os.path.join(FOLDER, paper)):
            found += [paper + "/" + file[:-4] for file in os.listdir(os.path.join(FOLDER, paper))
                      if file.endswith(".yml") and file != DEFAULTS + ".yml"]
    return sorted(found)


def load(name: str, changes: Sequence[str] = ()) -> Experiment:
    """An experiment, with changes such as "solver.max_iter=3000" or "net=toy".

    Raises UserError on an unknown experiment, an unknown or missing key, or a number that is none.
    """
    if name not in names():
        raise UserError(suggestions.unknown("experiment", name, names(), "`./fer experiments` lists them all"))
    path = _path(name)
    defaults = _read(_path(name.split("/")[0] + "/" + DEFAULTS))
    own = _read(path)
    _check_keys(path, own, set(Experiment._fields) - {"name"})
    missing = {"title", "source", "data", "net"} - set(own)
    if missing:
        raise UserError("{}: missing {}".format(path, ", ".join(sorted(missing))))
    for change in changes:
        if change.startswith(NET + "="):
            own[NET] = change[len(NET) + 1:]
    levels = _levels(defaults, own)
    losses = {loss: _merged(level.get("losses", {}).get(loss) for level in levels) for loss in own.get("losses", {})}
    sections = {section: _merged(level.get(section) for level in levels) for section in SECTIONS}
    for section in ("weighting", "pacing"):
        if section not in own:
            sections[section] = {}
    if not set(losses) & set(TUPLET_LOSSES):
        sections["tuplets"] = {}
    alone = _merged({key: level[key] for key in (*ALONE, "pretrained") if key in level} for level in levels)
    given = dict(sections, losses=losses, **{key: alone[key] for key in ALONE if key in alone})
    for change in changes:
        if not change.startswith(NET + "="):
            _change(given, change)
    alone.update({key: given[key] for key in ALONE if key in alone})
    _check_keys(path + ": losses", losses, LOSSES)
    for loss, settings in losses.items():
        _check_section(f"{path}: losses: {loss}", settings, LOSSES[loss])
    for section, settings in sections.items():
        _check_section(f"{path}: {section}", settings, SECTIONS[section])
    _check_solver(f"{path}: solver", sections["solver"])
    both = sections["weighting"] or sections["head"].get("structure") == "branched"
    if both and not {"gsf", "sift"} <= set(losses):
        raise UserError(f"{path}: two branches, and adaptive weights, need the losses gsf and sift")
    if sections["weighting"] and sections["solver"].get("lr_policy") != "fixed":
        raise UserError(f"{path}: adaptive weights need lr_policy fixed, since each round begins anew")
    _check_words(path, alone)
    if alone.get("begins_with") and alone["begins_with"] not in names():
        raise UserError("{}: begins with {!r}, which is no experiment".format(path, alone["begins_with"]))
    return Experiment(name, own["title"], own["source"], own["data"], own["net"], losses, **sections, **alone)


def applicable(name: str, changes: Sequence[str]) -> list[str]:
    """Those changes whose setting the experiment has."""
    nets = [change for change in changes if change.startswith(NET + "=")]
    chosen = load(name, nets)
    levels = _levels(_read(_path(chosen.paper + "/" + DEFAULTS)), dict(_read(_path(name)), net=chosen.net))
    known = _settable({section: getattr(chosen, section) for section in ("losses", *SECTIONS)}) + [
        key for key in ALONE if any(key in level for level in levels)]
    return nets + [change for change in changes if change.partition("=")[0] in known]


def stages(last: Experiment, changes: Sequence[str] = ()) -> list[Experiment]:
    """The experiments that are trained in turn, each with the weights of the one before, up to this one. changes: to
    those before, where they have the setting. Raises UserError where one would come before itself."""
    found = [last]
    while found[0].begins_with:
        name = found[0].begins_with
        if name in [one.name for one in found]:
            raise UserError(f"{last.name}: begins with its own weights, by begins_with={name}")
        found.insert(0, load(name, applicable(name, changes)))
    return found


def _levels(defaults: dict, own: dict) -> list[dict]:
    """What an experiment's settings come from, the last the strongest."""
    return [defaults, defaults.get("nets", {}).get(own["net"], {}), defaults.get("data", {}).get(own["data"], {}), own]


def _merged(levels: Iterable[Optional[dict]]) -> dict:
    return {key: value for level in levels for key, value in (level or {}).items()}


def _change(sections: dict, change: str) -> None:
    name, equals, value = change.partition("=")
    if not equals or name not in _settable(sections):
        raise UserError("--set {}: expected KEY=VALUE with a key of the experiment: {}".format(
            change, ", ".join([NET] + _settable(sections))))
    *outer, key = name.split(".")
    section = functools.reduce(dict.get, outer, sections)
    if key in LISTS:
        section[key] = [_number(one, change) for one in value.split(",")]
    else:
        section[key] = value if key in WORDS else _number(value, change)


def _settable(sections: dict) -> list[str]:
    """Those that the experiment has, and all of the solver's."""
    known = _settings(sections)
    return known + sorted({"solver." + key for key in SECTIONS["solver"]} - set(known))


def _check_solver(where: str, solver: dict) -> None:
    policy = solver.get("lr_policy")
    missing = [key for key in POLICIES.get(policy, ()) if key not in solver]
    if missing:
        raise UserError("{}: lr_policy {} needs {}".format(where, policy, " and ".join(
            f"--set solver.{key}=..." for key in missing)))
    for key in WHOLE & set(solver):
        if solver[key] > MOST:
            raise UserError(f"{where}: {key} is {solver[key]}, expected at most {MOST}")
    for key, least in LEAST.items():
        if key in solver and (solver[key] < least or (key in WHOLE and not isinstance(solver[key], int))):
            raise UserError("{}: {} is {}, expected {} of at least {}".format(
                where, key, solver[key], "a whole number" if key in WHOLE else "a number", least))


def _settings(sections: dict, prefix: str = "") -> list[str]:
    found = []
    for key, value in sections.items():
        found += _settings(value, prefix + key + ".") if isinstance(value, dict) else [prefix + key]
    return found


def _number(text: str, change: str):
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if math.isfinite(value):
                return value
    raise UserError(f"--set {change}: {text!r} is no number")


def _path(name: str) -> str:
    return os.path.join(FOLDER, name + ".yml")


def _read(path: str) -> dict:
    with open(path, encoding="utf-8") as stream:
        # libyaml's: Python's own takes most of the time of a command that reads all experiments.
        return yaml.load(stream, yaml.CSafeLoader)


def _check_keys(where: str, given: dict, allowed) -> None:
    for key in given:
        if key not in allowed:
            raise UserError("{}: unknown key {!r}, expected one of {}".format(
                where, key, ", ".join(sorted(allowed))))


def _check_words(where: str, settings: dict) -> None:
    for key, value in settings.items():
        if WORDS.get(key) and value not in WORDS[key]:
            raise UserError("{}: {} is {!r}, expected one of {}".format(where, key, value, ", ".join(WORDS[key])))


def _check_section(where: str, settings: dict, allowed) -> None:
    _check_keys(where, settings, allowed)
    _check_words(where, settings)
    for key, value in settings.items():
        if key in WORDS:
            continue
        if key in LISTS:
            if not (isinstance(value, list) and all(isinstance(one, int) and one > 0 for one in value)
                    and value == sorted(set(value)) and value):
                raise UserError(f"{where}: {key} is {value!r}, expected whole numbers in rising order")
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UserError(f"{where}: {key} is {value!r}, expected a number (YAML wants 1.0e-6, not 1e-6)")
        elif key == "p" and value not in NORMS:
            raise UserError(f"{where}: p is {value!r}, expected 1 or 2")
        elif key == "fc1" and not (isinstance(value, int) and value > 0):
            raise UserError(f"{where}: fc1 is {value!r}, expected a whole number of outputs, at least 1")
        elif key in SHARES and not 0 <= value < 1:
            raise UserError(f"{where}: {key} is {value!r}, expected at least 0 and below 1")
