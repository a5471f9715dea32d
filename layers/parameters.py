"""The `param_str` of our layers: a JSON object. Each key and each value is checked."""
import json
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, NamedTuple, Union

import numpy as np

REQUIRED = object()


class Parameter(NamedTuple):
    """One key of a layer's `param_str`."""

    # The allowed values, in words.
    expected: str
    # Whether a value is allowed.
    accepts: Callable[[Any], bool]
    # The value if the key is missing; REQUIRED if the key must be there.
    default: Any = REQUIRED


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def integer(least: int, default=REQUIRED) -> Parameter:
    return Parameter(f"an integer >= {least}",
                     lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
                     default)


def integers(least: int, default=REQUIRED) -> Parameter:
    item = integer(least)
    return Parameter(f"a list of integers >= {least}", lambda value: isinstance(value, list) and all(
        item.accepts(element) for element in value), default)


def number(low: float = float("-inf"), high: float = float("inf"), default=REQUIRED) -> Parameter:
    return Parameter(f"a number from {low} to {high}",
                     lambda value: _is_number(value) and low <= value <= high, default)


def numbers(default=REQUIRED) -> Parameter:
    return Parameter("a list of numbers", lambda value: isinstance(value, list) and all(
        map(_is_number, value)), default)


def number_or_numbers(default=REQUIRED) -> Parameter:
    return Parameter("a number or a list of numbers", lambda value: _is_number(value) or numbers().accepts(value),
                     default)


def boolean(default=REQUIRED) -> Parameter:
    return Parameter("true or false", lambda value: isinstance(value, bool), default)


def choice(*allowed, default=REQUIRED) -> Parameter:
    return Parameter("one of " + ", ".join(json.dumps(value) for value in allowed),
                     lambda value: not isinstance(value, bool) and value in allowed, default)


def text(default=REQUIRED) -> Parameter:
    return Parameter("a string", lambda value: isinstance(value, str), default)


def texts(default=REQUIRED) -> Parameter:
    return Parameter("a list of strings", lambda value: isinstance(value, list) and all(
        isinstance(element, str) for element in value), default)


def per_channel(name: str, value: Union[float, List[float]], channels: int) -> np.ndarray:
    """A number, or a list with one for each channel, as float32 (1, 1, 1) or (channels, 1, 1). Raises ValueError, which
    names the key, if the list has another length. name: the key."""
    values = np.reshape(np.float32(value), (-1, 1, 1))
    if len(values) not in (1, channels):
        raise ValueError(f"param_str: {name!r} has {len(values)} values, expected 1 or {channels} (one for each "
                         "channel)")
    return values


def parse(param_str: str, parameters: Dict[str, Parameter]) -> SimpleNamespace:
    """The value of each key, with the defaults of the missing keys. Raises ValueError, which names the key and the
    allowed values."""
    try:
        settings = json.loads(param_str or "{}")
    except ValueError as error:
        raise ValueError(f"param_str is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"param_str is {json.dumps(settings)}, expected a JSON object")
    for key in settings:
        if key not in parameters:
            raise ValueError(f"param_str: unknown key {key!r}, expected one of {', '.join(sorted(parameters))}")
    values = {}
    for key, parameter in parameters.items():
        if key not in settings and parameter.default is REQUIRED:
            raise ValueError(f"param_str: key {key!r} is missing, expected {parameter.expected}")
        values[key] = settings.get(key, parameter.default)
        if key in settings and not parameter.accepts(settings[key]):
            raise ValueError(f"param_str: {key!r} is {json.dumps(settings[key])}, expected {parameter.expected}")
    return SimpleNamespace(**values)
