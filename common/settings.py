"""Schemas of settings: their types, their ranges, a sentence for each, and errors in one line.

A schema is a pydantic class. It checks values but does not change them: 1 stays an integer, and missing values are not
filled in. Values and defaults come from YAML files.
"""
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Optional, TypeVar, get_args, get_origin

import pydantic
from pydantic.fields import ModelField

from common.errors import UserError

# Caffe stores whole numbers in 32 bits.
LARGEST = 2 ** 31 - 1


class Section(pydantic.BaseModel):
    """A group of settings. An unknown setting is an error."""

    class Config:
        extra = "forbid"


class Number(float):
    """A finite number. The class attributes give its range."""

    least: Optional[float] = None
    most: Optional[float] = None
    # The number must be smaller than this.
    below: Optional[float] = None
    words = "a number"

    @classmethod
    def __get_validators__(cls) -> Iterator[Any]:
        yield cls.check

    @classmethod
    def check(cls, value: Any) -> Any:
        if not cls.is_number(value):
            hint = " (YAML wants 1.0e-6, not 1e-6)" if isinstance(value, str) else ""
            raise ValueError(f"is {value!r}, expected {cls.expected()}{hint}")
        if cls.most is not None and value > cls.most:
            raise ValueError(f"is {value!r}, expected at most {cls.most}")
        if cls.least is not None and value < cls.least or cls.below is not None and value >= cls.below:
            raise ValueError(f"is {value!r}, expected {cls.expected()}")
        return value

    @classmethod
    def is_number(cls, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    @classmethod
    def expected(cls) -> str:
        limits = [f"at least {cls.least}"] * (cls.least is not None)
        limits += [f"at most {cls.most}"] * (cls.most is not None and cls.most != LARGEST)
        limits += [f"below {cls.below}"] * (cls.below is not None)
        return cls.words + " of " * bool(limits) + " and ".join(limits)


class NonNegative(Number):
    least = 0


class Share(Number):
    """A number of at least 0 and below 1."""

    least = 0
    below = 1


class Percentage(Number):
    least = 0
    most = 100


class Whole(Number):
    """A whole number that Caffe can store."""

    words = "a whole number"
    least = 0
    most = LARGEST

    @classmethod
    def is_number(cls, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)


class Count(Whole):
    least = 1


class Rising(list):
    """Whole numbers in rising order, written as 1000,2000 in --set."""

    @classmethod
    def __get_validators__(cls) -> Iterator[Any]:
        yield cls.check

    @classmethod
    def check(cls, value: Any) -> Any:
        if not (isinstance(value, list) and value and all(isinstance(number, int) and number > 0 for number in value)
                and value == sorted(set(value))):
            raise ValueError(f"is {value!r}, expected {cls.expected()}")
        return value

    @classmethod
    def expected(cls) -> str:
        return "whole numbers in rising order"


def setting(sentence: str, optional: bool = False, **more: Any) -> Any:
    """A field of a schema. sentence: what the setting does, with its unit; more: attributes for code that reads the
    schema."""
    return pydantic.Field(None if optional else ..., description=sentence, **more)


Schema = TypeVar("Schema", bound=pydantic.BaseModel)


def checked(schema: type[Schema], values: Mapping[str, Any], where: str) -> Schema:
    """The values as an object of the schema. Raises UserError, in one line that begins with `where`, for the first
    value that the schema does not allow."""
    for key in values:
        if not isinstance(key, str):
            raise UserError(f"{where}: unknown key {key!r}, expected one of {', '.join(sorted(schema.__fields__))}")
    try:
        return schema(**values)
    except pydantic.ValidationError as error:
        raise UserError(f"{where}: {_sentence(schema, error.errors()[0])}") from None


def _sentence(schema: type[pydantic.BaseModel], error: dict[str, Any]) -> str:
    *sections, key = error["loc"]
    if key == "__root__":
        return ": ".join([*sections, error["msg"]])
    model = schema
    for section in sections:
        model = model.__fields__[section].type_
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error.extra":
        message = f"unknown key {key!r}, expected one of {', '.join(sorted(model.__fields__)) or 'none'}"
    elif kind == "value_error.missing":
        message = f"missing {key}"
    elif kind == "value_error.const":
        message = f"{key} is {context['given']!r}, expected {expected(model.__fields__[key])}"
    elif kind == "type_error.none.not_allowed":
        message = f"{key} is None, expected {expected(model.__fields__[key])}"
    elif kind.startswith("type_error"):
        message = f"{key}: {error['msg']}"
    else:
        message = f"{key} {error['msg']}"
    return ": ".join([*sections, message])


def expected(field: ModelField) -> str:
    """The values that a field allows, in words."""
    if get_origin(field.outer_type_) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.outer_type_)))
    words = getattr(field.outer_type_, "expected", None)
    return words() if words else {str: "a text", dict: "settings"}.get(field.outer_type_, "settings")


def is_number(schema: type[pydantic.BaseModel], names: Sequence[str]) -> bool:
    """Whether the value of the setting with this path is a number."""
    kind = _field(schema, names).outer_type_
    return not (kind is str or get_origin(kind) is Literal and isinstance(get_args(kind)[0], str))


def is_list(schema: type[pydantic.BaseModel], names: Sequence[str]) -> bool:
    """Whether the value of the setting with this path is a list of numbers."""
    return _field(schema, names).outer_type_ is Rising


def keys(schema: type[pydantic.BaseModel], names: Sequence[str]) -> list[str]:
    """The settings of the section with this path."""
    return list(_field(schema, names).type_.__fields__)


def is_optional(schema: type[pydantic.BaseModel], names: Sequence[str]) -> bool:
    """Whether an experiment may lack the setting, or the section, with this path."""
    return not _field(schema, names).required


def sentence(schema: type[pydantic.BaseModel], names: Sequence[str]) -> str:
    """The sentence that describes the setting with this path."""
    return _field(schema, names).field_info.description or ""


def _field(schema: type[pydantic.BaseModel], names: Sequence[str]) -> ModelField:
    *sections, key = names
    for section in sections:
        schema = schema.__fields__[section].type_
    return schema.__fields__[key]


# ---------------------------------------------------------------- settings that several papers share

# Caffe's policies for the learning rate, and the settings that each needs: SolverParameter in its caffe.proto.
POLICIES = {"fixed": (), "step": ("gamma", "stepsize"), "exp": ("gamma",), "inv": ("gamma", "power"),
            "multistep": ("gamma", "stepvalue"), "poly": ("power",), "sigmoid": ("gamma", "stepsize")}


class Solver(Section):
    """Caffe's SolverParameter, with the batch size of the training net."""

    type: Optional[Literal["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]] = setting(
        "Optimiser; SGD if it is not set.", optional=True)
    base_lr: NonNegative = setting("Initial learning rate.")
    lr_policy: Literal["fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"] = setting(
        "How the learning rate changes over the iterations.")
    gamma: Optional[NonNegative] = setting("Factor of the learning rate, see lr_policy.", optional=True)
    power: Optional[Number] = setting("Exponent of the learning rate, see lr_policy.", optional=True)
    stepsize: Optional[Count] = setting("Iterations between two changes of the learning rate.", optional=True)
    stepvalue: Optional[Rising] = setting("Iterations at which the learning rate changes.", optional=True)
    momentum: Optional[NonNegative] = setting("Momentum; for Adam, beta 1.", optional=True)
    momentum2: Optional[NonNegative] = setting("Beta 2 of Adam.", optional=True)
    delta: Optional[NonNegative] = setting("Number by which adaptive optimisers avoid a division by zero.",
                                           optional=True)
    rms_decay: Optional[NonNegative] = setting("Decay of RMSProp's mean square.", optional=True)
    weight_decay: Optional[NonNegative] = setting("Factor of the regularisation term.", optional=True)
    regularization_type: Optional[Literal["L1", "L2"]] = setting(
        "Norm of the regularisation term; L2 if it is not set.", optional=True)
    clip_gradients: Optional[Number] = setting("Largest L2 norm of all gradients together.", optional=True)
    average_loss: Optional[Count] = setting("Iterations over which Caffe averages the loss that it displays.",
                                            optional=True)
    batch_size: Count = setting("Images, pairs or tuplets in an iteration.")
    max_iter: Count = setting("Number of training iterations.")
    display: Optional[Whole] = setting("Iterations between two lines of the log; 0 for none.", optional=True)
    test_interval: Count = setting("Iterations between two tests on the validation split.")
    snapshot: Optional[Whole] = setting("Iterations between two snapshots; 0 for the last one only.", optional=True)
    random_seed: Whole = setting("Seed of all random numbers.")

    @pydantic.root_validator(skip_on_failure=True, allow_reuse=True)
    def policy_is_whole(cls, values: dict[str, Any]) -> dict[str, Any]:
        policy = values["lr_policy"]
        missing = [key for key in POLICIES[policy] if values[key] is None]
        if missing:
            raise ValueError(f"lr_policy {policy} needs " + " and ".join(
                f"--set solver.{key}=..." for key in missing))
        return values


class Tuplets(Section):
    """The images of a tuplet."""

    positives: Count = setting("Images of the query's expression, the query included.")
    negatives: Count = setting("Images of the query's person with other expressions.")


class Weighting(Section):
    """Adaptive loss weights; see tools.training.schedules.adaptive_weights."""

    gamma: NonNegative = setting("Factor by which the weight of the better loss grows in a round.")
    kappa: NonNegative = setting("Factor of the sparseness in the objective.")
    eps: NonNegative = setting("Difference of the objectives below which the weights do not change.")
    restart_iterations: Count = setting("Number of iterations in a round.")
    rounds: Count = setting("Number of rounds.")


class Halving(Section):
    """When the learning rate is halved; see tools.training.schedules.plateau."""

    loss_rise: NonNegative = setting("The rate is halved if an epoch's loss exceeds the lowest one by this share.")
    patience: Count = setting("The rate is halved after this many epochs without a higher validation accuracy.")


class Pacing(Section):
    """Self-paced learning; see tools.training.schedules.self_paced."""

    paces: Count = setting("Number of paces.")
    first: Percentage = setting("Samples of each class in the first pace, in %.")
    more: Percentage = setting("Samples of each class that each further pace adds, in %.")
    epochs: Count = setting("Number of epochs of all paces together.")


class Settings(Section):
    """The settings of an experiment. A paper's schema adds its own sections: `losses`, whose keys are the losses that
    an experiment may have, `head`, and the sections of its schedule.

    A section with own=True applies only if the experiment's own file has it. A section with losses=(...) applies only
    if the experiment has one of these losses.
    """

    solver: Solver = setting("Settings of Caffe's solver.")
    begins_with: str = setting("Experiment whose weights this one starts from.", optional=True)
    decision: Literal["mean", "highest"] = setting(
        "How the predictions for the images of a sequence are combined: the mean of their probabilities, or the "
        "highest one.", optional=True)
    passes_on: Literal["last", "best"] = setting(
        "Snapshot that the next experiment starts from: the last one, or the one with the highest validation "
        "accuracy.", optional=True)
