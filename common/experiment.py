"""An experiment: one YAML file of a paper's folder in `experiments/`, or one of the user's own, on top of the paper's
defaults."""
import contextlib
import functools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import yaml

from common import papers, settings, suggestions
from common.errors import UserError

ROOT = papers.ROOT
DEFAULTS = "defaults"
# The sections of settings, as the fields of Experiment.
SECTIONS = ("losses", "head", "tuplets", "halving", "weighting", "pacing", "solver")
# Settings outside the sections.
ALONE = ("begins_with", "decision", "passes_on")
# Keys that each file must have besides its settings.
TEXTS = ("title", "source", "data", "net")
# Keys that a file of the user's own must have: it names the paper whose nets, settings and defaults it uses.
OWN_TEXTS = ("paper", "data", "net")
# How the file of an experiment ends, and the name of one of the user's own, which no experiment of a paper can have.
ENDINGS = (".yml", ".yaml")
# In --set, instead of a value: adds a loss or a section with the paper's defaults, and removes it.
ADD, REMOVE = "{}", "none"
# The setting that other settings' defaults depend on.
NET = "net"


@dataclass(frozen=True)
class Experiment:
    """A net, its losses, how it is trained, and on which data."""

    # "<paper>/<experiment>"; "<paper>/<file>.yml" for the user's own.
    name: str
    # Title in tables.
    title: str
    # Where the paper describes it.
    source: str
    # Name of the prepared data, "<data set>" or "<data set>-<protocol>".
    data: str
    # Name of the backbone, see prototxt.builders.backbones.
    net: str
    # Losses that are added to the softmax loss: name -> settings.
    losses: dict[str, dict[str, Any]]
    # Settings of the layers after the backbone.
    head: dict[str, Any]
    # Settings of adaptive loss weights; empty if the weights are fixed.
    weighting: dict[str, Any]
    # Settings of Caffe's solver, and the batch size.
    solver: dict[str, Any]
    # Numbers of positive and negative images in a tuplet; empty if training uses single images.
    tuplets: dict[str, Any] = field(default_factory=dict)
    # Settings of a learning rate that is halved when training stalls; empty if it is not halved.
    halving: dict[str, Any] = field(default_factory=dict)
    # Settings of self-paced learning; empty if all samples are used from the start.
    pacing: dict[str, Any] = field(default_factory=dict)
    # Name of the experiment whose weights this one starts from, or "".
    begins_with: str = ""
    # How the predictions for several images are combined, see tools.evaluation.predictions.
    decision: str = "mean"
    # Snapshot that the next experiment starts from: "last", or "best" on the validation split.
    passes_on: str = "last"
    # What the paper's net was pretrained on, if no experiment of this project does that, or "".
    pretrained: str = ""
    # Path of the user's own file, or "".
    file: str = ""

    @property
    def origin(self) -> str:
        """What `opened` reads it from: the user's own file, or the name."""
        return self.file or self.name

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def is_one_training(self) -> bool:
        """Whether one definition of its nets covers the whole training; see tools.training.schedules."""
        return not (self.weighting or self.pacing)

    def one_training(self, **factors: float) -> "Experiment":
        """One of the trainings that the experiment consists of, with all samples and fixed weights. The weight of
        each loss is multiplied by its factor, which is 1 by default."""
        return replace(self, weighting={}, pacing={}, losses={
            loss: dict(loss_settings, weight=loss_settings["weight"] * factors.get(loss, 1))
            for loss, loss_settings in self.losses.items()})


def names() -> list[str]:
    """The names of all experiments, sorted."""
    return sorted(f"{paper}/{file[:-4]}" for paper in papers.names()
                  for file in os.listdir(papers.get(paper).experiments)
                  if file.endswith(".yml") and file != DEFAULTS + ".yml")


def load(name: str, changes: Sequence[str] = ()) -> Experiment:
    """Reads an experiment and applies changes such as "solver.max_iter=3000", "net=toy" or "losses.center={}".

    Raises UserError for an unknown experiment, and for a setting that the paper's schema does not allow.
    """
    path = _path(name)
    return _loaded(name, path, _read(path), changes)


def opened(name_or_file: str, changes: Sequence[str] = ()) -> Experiment:
    """The same of an experiment's name, or of the path of a file of the user's own, which ends with .yml or .yaml."""
    if not name_or_file.endswith(ENDINGS):
        return load(name_or_file, changes)
    path, folder = name_or_file, os.path.dirname(os.path.abspath(name_or_file))
    file = os.path.basename(path)
    for paper in papers.names():
        if folder == papers.get(paper).experiments:
            return load(f"{paper}/{os.path.splitext(file)[0]}", changes)
    own = read_yaml(path, f"lines such as `data: NAME`, with the keys {', '.join(OWN_TEXTS)} and others")
    for key in OWN_TEXTS:
        if key not in own:
            raise UserError(f"{path}: missing {key}")
    paper = own.pop("paper")
    if paper not in papers.names():
        raise UserError(f"{path}: " + suggestions.unknown("paper", str(paper), papers.names()))
    own = {"title": os.path.splitext(file)[0], "source": "", **own}
    for key in (*TEXTS, "pretrained"):
        if not isinstance(own.get(key, ""), str) or key in OWN_TEXTS and not own[key]:
            raise UserError(f"{path}: {key} is {own[key]!r}, expected a text")
    return replace(_loaded(f"{paper}/{file}", path, own, changes), file=os.path.abspath(path))


def _loaded(name: str, path: str, own: dict[str, Any], changes: Sequence[str]) -> Experiment:
    """path, own: of the experiment's file, and what it holds."""
    schema, defaults = schema_of(name), _defaults(name)
    _check_files(path, defaults, own, schema)
    own = dict(own, losses=own.get("losses") or {})
    removed: set[str] = set()
    for change in changes:
        key, _, value = change.partition("=")
        if key == NET:
            own[NET] = value
        elif _is_whole(key, schema):
            if value not in (ADD, REMOVE):
                raise UserError(f"--set {change}: expected {key}={ADD}, which adds it with the paper's defaults, or "
                                f"{key}={REMOVE}, which removes it")
            _change_whole(own, removed, key, value == ADD)
    levels = _levels(defaults, own)
    values = _merged_settings(levels, own, schema)
    for section in removed:
        values.pop(section, None)
    for change in changes:
        key = change.partition("=")[0]
        if key != NET and not _is_whole(key, schema):
            _change(values, change, schema)
    settings.checked(schema, values, path)
    if values.get("begins_with") and values["begins_with"] not in names():
        raise UserError(f"{path}: begins_with is {values['begins_with']!r}, which is not an experiment")
    texts = _merged({"pretrained": level["pretrained"]} for level in levels if "pretrained" in level)
    return Experiment(name, **{text: own[text] for text in TEXTS}, **texts,
                      **{section: values.get(section, {}) for section in SECTIONS},
                      **{key: values[key] for key in ALONE if key in values})


def from_note(fields: Mapping[str, Any]) -> Experiment:
    """The experiment in the note of a run. A setting of a loss that did not exist when the note was written has its
    default."""
    paper = fields["name"].split("/")[0]
    defaults = _defaults(fields["name"]).get("losses", {}) if paper in papers.names() else {}
    losses = {loss: {**values, **{key: value for key, value in defaults.get(loss, {}).items() if key not in values}}
              for loss, values in fields["losses"].items()}
    return Experiment(**{**fields, "losses": losses})


def schema_of(name: str) -> type[settings.Settings]:
    """The schema of the settings of an experiment's paper."""
    return papers.schema(name.split("/")[0]).Settings


def describe(experiment: Experiment) -> Iterator[tuple[str, Any, str]]:
    """Yields each setting of the experiment: its key as in --set, its value, and a sentence that describes it."""
    schema = schema_of(experiment.name)
    yield NET, experiment.net, "Backbone; see prototxt/builders/backbones.py."
    for key in _paths({section: getattr(experiment, section) for section in SECTIONS}):
        value = functools.reduce(lambda level, part: level[part], key.split(".")[1:],
                                 getattr(experiment, key.split(".")[0]))
        yield key, value, settings.sentence(schema, key.split("."))
    for key in ALONE:
        yield key, getattr(experiment, key), settings.sentence(schema, [key])


def applicable(name: str, changes: Sequence[str]) -> list[str]:
    """The changes whose setting the experiment has. A loss or a section that its paper has can be added, and one that
    the experiment has can be removed."""
    schema = schema_of(name)
    wholes = [change for change in changes if change.startswith(NET + "=")]
    for change in changes:
        key, _, value = change.partition("=")
        if _is_whole(key, schema) and (value != REMOVE or _has(load(name, wholes), key)):
            wholes.append(change)
    experiment = load(name, wholes)
    levels = _levels(_defaults(name), dict(_read(_path(name)), net=experiment.net))
    present = {section: getattr(experiment, section) for section in SECTIONS}
    keys = _settable({section: values for section, values in present.items() if values or section == "losses"},
                     schema) + [
        key for key in ALONE if any(key in level for level in levels)]
    return wholes + [change for change in changes if change not in wholes and change.partition("=")[0] in keys]


def added_and_removed(experiment: Experiment, other: Experiment) -> list[str]:
    """The changes that add to an experiment the losses and sections that another one of the same paper has, and remove
    those that it has not."""
    return [f"{whole}={ADD if _has(other, whole) else REMOVE}" for whole in _wholes(schema_of(experiment.name))
            if _has(experiment, whole) != _has(other, whole)]


def stages(last: Experiment, changes: Sequence[str] = ()) -> list[Experiment]:
    """The experiments that are trained one after another, up to `last`. Each starts from the weights of the previous
    one.

    changes: also applied to the earlier experiments that have the setting. Raises UserError if an experiment would
    start from its own weights.
    """
    stages = [last]
    while stages[0].begins_with:
        name = stages[0].begins_with
        if name in [stage.name for stage in stages]:
            raise UserError(f"{last.name}: starts from its own weights through begins_with={name}")
        stages.insert(0, load(name, applicable(name, changes)))
    return stages


# ---------------------------------------------------------------- files

def _defaults(name: str) -> dict[str, Any]:
    """The default settings of an experiment's paper."""
    return _read(os.path.join(papers.get(name.split("/")[0]).experiments, DEFAULTS + ".yml"))


def _path(name: str) -> str:
    """The path of an experiment's file. Raises UserError if there is none."""
    paper, _, experiment = name.partition("/")
    if paper in papers.names():
        path = os.path.join(papers.get(paper).experiments, experiment + ".yml")
        if experiment not in ("", DEFAULTS) and "/" not in experiment and os.path.exists(path):
            return path
    raise UserError(suggestions.unknown("experiment", name, names(), "`./fer experiments` lists them all"))


# libyaml's loader: Python's own takes most of the time of a command that reads all experiments.
class _Loader(yaml.CSafeLoader):
    """Refuses a key that is there twice, of which PyYAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in keys:
                raise yaml.constructor.ConstructorError(problem=f"the key {key.value!r} is there twice",
                                                        problem_mark=key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as stream:
        return yaml.load(stream, _Loader)


def read_yaml(path: str, expected: str) -> dict[str, Any]:
    """What a YAML file of the user's own holds. expected: in words. Raises UserError if it cannot be read."""
    try:
        own = _read(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError("{}{}: is not YAML: {}".format(
            path, f":{mark.line + 1}" if mark else "", getattr(error, "problem", None) or "it cannot be read")
            ) from None
    except ValueError as error:  # of a value in the form of a date, such as 2026-13-45
        raise UserError(f"{path}: has a value that cannot be read ({error}); write texts in quotes") from None
    if not isinstance(own, dict):
        raise UserError(f"{path}: expected {expected}")
    return own


def _check_files(path: str, defaults: dict[str, Any], own: dict[str, Any], schema: type[settings.Settings]) -> None:
    """Raises UserError for a key that the schema does not have, for a section that is no group of settings, and for a
    missing text."""
    losses = schema.__fields__["losses"].type_.__fields__
    _check_keys(path, own, {*TEXTS, "pretrained", *schema.__fields__})
    for section in SECTIONS:
        _require_group(f"{path}: {section}", own.get(section))
    for loss, values in (own.get("losses") or {}).items():
        _require_group(f"{path}: losses: {loss}", values)
    _check_keys(path + ": losses", own.get("losses") or {}, losses)
    where = os.path.join(os.path.dirname(path), DEFAULTS + ".yml")
    _check_keys(where, defaults, {"nets", "data", "pretrained", *schema.__fields__})
    levels = [defaults, *defaults.get("nets", {}).values(), *defaults.get("data", {}).values()]
    for level in levels:
        _check_keys(where + ": losses", level.get("losses", {}), losses)
    missing = sorted(set(TEXTS) - set(own))
    if missing:
        raise UserError(f"{path}: missing {', '.join(missing)}")


def _require_group(where: str, values: Any) -> None:
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{where} is {values!r}, expected settings, each as KEY: VALUE")


def _check_keys(where: str, values: Iterable[str], allowed: Iterable[str]) -> None:
    for key in values:
        if key not in allowed:
            raise UserError(f"{where}: unknown key {key!r}, expected one of {', '.join(sorted(allowed)) or 'none'}")


# ---------------------------------------------------------------- levels of settings

def _levels(defaults: dict[str, Any], own: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources of an experiment's settings. Each one overrides those before it."""
    return [defaults, defaults.get("nets", {}).get(own["net"], {}), defaults.get("data", {}).get(own["data"], {}), own]


def _merged(levels: Iterable[Optional[Mapping[str, Any]]]) -> dict[str, Any]:
    return {key: value for level in levels for key, value in (level or {}).items()}


def _merged_settings(levels: Sequence[Mapping[str, Any]], own: Mapping[str, Any], schema: type[settings.Settings]
                     ) -> dict[str, Any]:
    """The merged values of all levels, without the sections that do not apply to the experiment."""
    values = _merged({key: level[key] for key in ALONE if key in level} for level in levels)
    values["losses"] = {loss: _merged(level.get("losses", {}).get(loss) for level in levels)
                        for loss in own.get("losses", {})}
    for section, declared in schema.__fields__.items():
        if section == "losses" or section in ALONE or not any(section in level for level in levels):
            continue
        about = declared.field_info.extra
        if about.get("own") and section not in own:
            continue
        if "losses" in about and not set(about["losses"]) & set(values["losses"]):
            continue
        values[section] = _merged(level.get(section) for level in levels)
    return values


# ---------------------------------------------------------------- changes

def _is_whole(key: str, schema: type[settings.Settings]) -> bool:
    """Whether --set can add and remove what the key names: a loss, or a section that an experiment may lack."""
    section, _, loss = key.partition(".")
    if section == "losses":
        return loss in settings.keys(schema, ["losses"])
    # A section that belongs to some losses comes and goes with them.
    return key in SECTIONS and key in schema.__fields__ and settings.is_optional(schema, [key]) and (
        "losses" not in schema.__fields__[key].field_info.extra)


def _wholes(schema: type[settings.Settings]) -> list[str]:
    """The keys of all losses and sections that --set can add and remove."""
    return [*(f"losses.{loss}" for loss in settings.keys(schema, ["losses"])),
            *(section for section in SECTIONS if _is_whole(section, schema))]


def _change_whole(own: dict[str, Any], removed: set[str], key: str, adds: bool) -> None:
    """Adds a loss or a section to what an experiment's file holds, or removes it. What the file says of it stays.

    removed: sections that are left out, also if the paper's defaults have them.
    """
    section, _, loss = key.partition(".")
    if loss and adds:
        own["losses"].setdefault(loss, {})
    elif loss:
        own["losses"].pop(loss, None)
    elif adds:
        own.setdefault(section, {})
        removed.discard(section)
    else:
        own.pop(section, None)
        removed.add(section)


def _has(experiment: Experiment, key: str) -> bool:
    """Whether an experiment has a loss or a section."""
    section, _, loss = key.partition(".")
    return loss in experiment.losses if loss else bool(getattr(experiment, section))


def _change(values: dict[str, Any], change: str, schema: type[settings.Settings]) -> None:
    name, equals, text = change.partition("=")
    if not equals:
        raise UserError(f"--set {change}: expected KEY=VALUE")
    settable = _settable(values, schema)
    if name not in settable:
        whole, _, last = name.rpartition(".")
        if _is_whole(whole, schema) and last in settings.keys(schema, whole.split(".")):
            raise UserError(f"--set {change}: this experiment has no {whole}; --set {whole}={ADD} adds it")
        if whole == "losses" and text in (ADD, REMOVE):
            raise UserError(f"--set {change}: " + suggestions.unknown("loss", last, settings.keys(schema, [whole])))
        raise UserError(f"--set {change}: " + suggestions.unknown(
            "setting", name, [NET, *settable, *_wholes(schema)], "`./fer experiments show EXPERIMENT` lists them"))
    *outer, key = name.split(".")
    section = functools.reduce(lambda level, part: level[part], outer, values)
    if settings.is_list(schema, name.split(".")):
        section[key] = [_number(number, change) for number in text.split(",")]
    else:
        section[key] = _number(text, change) if settings.is_number(schema, name.split(".")) else text


def _settable(values: Mapping[str, Any], schema: type[settings.Settings]) -> list[str]:
    """The keys of an experiment's settings, and of all that its solver, and what --set can add to it, may have."""
    keys = list(_paths(values))
    wholes = ["solver", *(f"losses.{loss}" for loss in values["losses"]),
              *(section for section in values if _is_whole(section, schema))]
    more = {f"{whole}.{key}" for whole in wholes for key in settings.keys(schema, whole.split("."))}
    return keys + sorted(more - set(keys))


def _paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, prefix + key + ".")
        else:
            yield prefix + key


def _number(text: str, change: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if math.isfinite(value):
                return value
    raise UserError(f"--set {change}: {text!r} is not a number")
