"""The command line, as gflags reads that of `caffe`."""
import argparse
import re
from typing import Dict, NoReturn, Sequence, Tuple

from common import suggestions
from common.machine import PRECISIONS

COMMANDS = ("train", "test", "time", "device_query")
EFFECTS = ("snapshot", "stop", "none")
# Flag: default and what it says. A flag whose default is a number takes numbers.
FLAGS = {
    "solver": ("", "the solver's prototxt"),
    "weights": ("", "weights to begin with, or to test: caffemodel or .h5 files, separated by commas"),
    "snapshot": ("", "the solver's state (solverstate or .h5) to continue from; not together with -weights"),
    "model": ("", "the net's prototxt"),
    "gpu": ("", "the number of the graphics card to compute on, or for `train` several, 0,1 or all (default: for "
                "`train` what solver_mode says, otherwise the processor)"),
    "iterations": (50, "how many passes `test` and `time` make"),
    "phase": ("", "TRAIN or TEST, for `time`"),
    "level": (0, "the net's level"),
    "stage": ("", "the net's stages, separated by commas"),
    "sigint_effect": ("stop", "what Ctrl-C does to a training: snapshot, stop (with a snapshot) or none"),
    "sighup_effect": ("snapshot", "what SIGHUP does to a training"),
    "precision": ("float32", "float32, or on new cards faster and less exact: tf32, bf16; not a flag of `caffe`"),
}
USAGE = """usage: python3 -m engine COMMAND [flags]

Trains nets of Caffe on PyTorch. The commands and flags are those of `caffe`, and so are the files and the lines of the
log, on standard error. `./fer engine` does the same in the environment. A flag has one or two dashes, and its value
behind "=" or a space.

commands
  train           train a net, or continue a training
  test            measure a net
  time            measure how long each layer takes
  device_query    show the graphics cards

flags
{flags}

examples
  python3 -m engine train -solver solver.prototxt
  python3 -m engine train -solver solver.prototxt -weights pretrained.caffemodel -gpu 0
  python3 -m engine train -solver solver.prototxt -snapshot snapshot_iter_1000.solverstate -gpu 0,1
  python3 -m engine test -model train_val.prototxt -weights snapshot_iter_1000.caffemodel -iterations 37
  python3 -m engine time -model train_val.prototxt -iterations 10
  python3 -m engine device_query -gpu 0
"""


class WrongUsage(Exception):
    """A command line that cannot be understood; its text says why."""


def usage() -> str:
    lines = [f"  -{name:14s} {text}" + (f" (default: {default})" if default not in ("", 0) else "")
             for name, (default, text) in FLAGS.items()]
    return USAGE.format(flags="\n".join(lines))


def parse(words: Sequence[str]) -> Tuple[str, argparse.Namespace]:
    """The command, and the flags as attributes. Raises WrongUsage."""
    values: Dict[str, object] = {name: default for name, (default, _) in FLAGS.items()}
    rest, commands = list(words), []
    while rest:
        word = rest.pop(0)
        name, equals, value = re.sub("^--?", "", word).partition("=")
        if not word.startswith("-") or not name:
            commands.append(word)
        elif name not in FLAGS:
            _fail(suggestions.unknown("flag", f"-{name}", [f"-{known}" for known in FLAGS]))
        elif not (equals or rest):
            _fail(f"flag -{name} has no value, expected {FLAGS[name][1]}")
        else:
            values[name] = _value(name, value if equals else rest.pop(0))
    if len(commands) != 1:
        _fail(f"{len(commands)} commands ({' '.join(commands)}), expected one of {', '.join(COMMANDS)}"
              if commands else f"expected a command: {', '.join(COMMANDS)}")
    if commands[0] not in COMMANDS:
        _fail(suggestions.unknown("command", commands[0], COMMANDS))
    options = argparse.Namespace(**values)
    _check(commands[0], options)
    return commands[0], options


def _value(name: str, text: str) -> object:
    if not isinstance(FLAGS[name][0], int):
        return text
    if not re.fullmatch("-?[0-9]+", text):
        _fail(f"-{name} {text!r}, expected a whole number")
    return int(text)


def _check(command: str, options: argparse.Namespace) -> None:
    for name in {"train": ["solver"], "test": ["model", "weights"], "time": ["model"], "device_query": []}[command]:
        if not getattr(options, name):
            _fail(f"{command} needs -{name}, {FLAGS[name][1]}")
    if options.snapshot and options.weights:
        _fail("-snapshot and -weights, expected one of them: a snapshot names its weights")
    if options.iterations < 1:
        _fail(f"-iterations {options.iterations}, expected at least 1")
    for name, known in (("phase", ("", "TRAIN", "TEST")), ("sigint_effect", EFFECTS), ("sighup_effect", EFFECTS),
                        ("precision", PRECISIONS)):
        if getattr(options, name) not in known:
            _fail(f"-{name} {getattr(options, name)!r}, expected one of {', '.join(filter(None, known))}")
    if options.gpu and not re.fullmatch("all|[0-9]+(,[0-9]+)*", options.gpu):
        _fail(f"-gpu {options.gpu}, expected the number of a card, such as 0, several, such as 0,1, or all")
    if command in ("test", "time") and not options.gpu.isdigit() and options.gpu:
        _fail(f"-gpu {options.gpu}: {command} computes on one card, expected its number, such as 0")
    numbers = [int(one) for one in options.gpu.split(",") if one.isdigit()]
    if len(set(numbers)) < len(numbers):
        _fail(f"-gpu {options.gpu} names a card twice")


def _fail(text: str) -> NoReturn:
    raise WrongUsage(text)
