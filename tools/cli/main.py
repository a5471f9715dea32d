"""The command line inside the environment: `./fer COMMAND`. Each command is a module of this package, with
`add(commands)`, which describes its arguments, and `run(options)`, which does the work and returns the exit status.

The modules load what they need only in `run`, so that help and mistakes are shown at once.
"""
import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from common import machine, signals, suggestions
from common.errors import NO_MEMORY, UserError
from tools.cli.arguments import Commands, Parser

COMMANDS = ("demo", "prepare", "template", "features", "experiments", "train", "watch", "evaluate", "predict",
            "export", "convert-net", "respond-ratio", "report", "reproduce", "study", "weights", "bench")


def main(arguments: list[str]) -> int:
    """Runs a command and returns its exit status. Raises SystemExit on wrong usage, and after help."""
    # Caffe's own chatter; that of a training goes into its log.
    os.environ.setdefault("GLOG_minloglevel", "2")
    options = parse(arguments)
    machine.use(options.device(options) if "device" in options else machine.DEFAULT)
    interrupts: list[int] = []

    def interrupt(number: int) -> None:
        interrupts.append(number)
        signals.interrupt(number)
    with signals.handled(interrupt):
        return options.run(options) if options.debug else _without_traceback(options, interrupts)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of a command line. Raises SystemExit on wrong usage, and after help."""
    parser = Parser(prog="fer", description="Facial expression recognition on the real Caffe.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        parser.error(suggestions.unknown("command", name, COMMANDS))
    commands = Commands(parser)
    for command in COMMANDS if name is None else [name]:
        importlib.import_module("tools.cli." + command.replace("-", "_")).add(commands)
    options, rest = parser.parse_known_args(arguments)
    options.parser.require_none(rest)
    return options


def _without_traceback(options: argparse.Namespace, interrupts: Sequence[int]) -> int:
    """Runs a command and prints an error as one line. interrupts: the signals so far."""
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except UserError as error:
        message = str(error)
    except BrokenPipeError:
        # Whoever reads the output, such as `head`, has seen enough. Python must not write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except MemoryError as error:
        message = f"out of memory{f': {error}' if str(error) else ''}"
    except signals.Interrupted as error:
        # A training has a handler of its own, which this module's list of signals does not see.
        return _stopped(options, error.number)
    except ImportError:
        # A library that is interrupted while it is loaded raises ImportError.
        if not interrupts:
            raise
        return _stopped(options, interrupts[-1])
    except Exception as error:
        # lmdb's errors have one base class; the module is not loaded only to name it. PyTorch's have no class.
        if type(error).__module__ == "lmdb":
            message = f"LMDB: {error}"
        elif isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)):
            message = f"out of memory: {str(error).splitlines()[0]}"
        else:
            raise
    print("fer: " + message, file=sys.stderr)
    return 1


def _stopped(options: argparse.Namespace, number: int) -> int:
    """number: of the signal."""
    print("fer: stopped" + "; the same command, given again, continues" * options.continues, file=sys.stderr)
    return 128 + number
