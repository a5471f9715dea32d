"""What the commands' parsers share: the kinds of arguments, and how a command is added."""
import argparse
import glob
import os
import re
from collections.abc import Collection
from typing import Any, Callable, NoReturn, Optional

from common import machine, suggestions
from common.machine import Device

# Of BLAS: what Debian's OpenBLAS is built for.
MOST_THREADS = 128
# The devices of graphics cards.
CARDS = "/dev/nvidia[0-9]*"
# Said of each option that takes several values.
SEVERAL = "Takes one or more values, and may be repeated."

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line; the exit status is 2. Options are not abbreviated: the
    launcher looks for --gpu itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        see = " See" if message.endswith("?") else "; see"
        self.exit(2, f"fer: {message}{see} ./{self.prog} --help\n")

    def require_none(self, rest: Collection[str]) -> None:
        """Refuses arguments that the parser did not know, and suggests options that resemble the first one."""
        for word in rest:
            if not word.startswith("-"):
                self.error(f"{word!r} is one argument too many")
            options = [option for action in self._actions for option in action.option_strings]
            self.error(suggestions.unknown("option", word.partition("=")[0], options))


class Commands:
    """The commands of a parser. required: whether the command line must have one of them."""

    def __init__(self, parser: Parser, required: bool = True) -> None:
        self._parsers = parser.add_subparsers(metavar="COMMAND", required=required)

    def add(self, name: str, run: Run, summary: str, *examples: str, continues: bool = False) -> Parser:
        """Adds a command and returns its parser. summary: sentences; examples: command lines without `./fer`;
        continues: whether it goes on where it was stopped, if it is given again."""
        epilog = "example{}:\n{}".format("s" * (len(examples) > 1), "\n".join("  ./fer " + line for line in examples))
        parser = self._parsers.add_parser(name, help=summary.partition(". ")[0].rstrip(".") + ".", description=summary,
                                          epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.set_defaults(run=run, parser=parser, continues=continues)
        return parser


def add_several(parser: argparse._ActionsContainer, option: str, help: str, **settings: Any) -> None:
    """Adds an option that takes several values; all such options take them in the same way. Its value is a list, empty
    where the option is not there, unless `settings` has another default."""
    parser.add_argument(option, **{"nargs": "+", "action": "extend", "default": [], "help": f"{help} {SEVERAL}",
                                   **settings})


def at_least(least: int, most: Optional[int] = None) -> Callable[[str], int]:
    """The type of whole numbers from `least` to `most`."""
    def integer(text: str) -> int:
        expected = f"expected a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}, {expected}") from None
        if value < least or most is not None and value > most:
            raise argparse.ArgumentTypeError(f"{value}, {expected}")
        return value
    return integer


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number") from None


def path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("'', expected the name of a file or folder")
    if "\n" in text or "\r" in text:  # it would tear a line of Caffe's log in two
        raise argparse.ArgumentTypeError(f"{text!r}, expected a name without a line break")
    return text


def change(text: str) -> str:
    """A changed setting, KEY=VALUE."""
    if not text.partition("=")[0] or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r}, expected KEY=VALUE")
    return text


def add_device(parser: Parser, continues: bool = False) -> None:
    """Adds --engine, --gpu and --precision. Those who compute read the device from common.machine.

    continues: whether the engine of a run that continues is the default.
    """
    parser.add_argument("--engine", choices=machine.ENGINES, help="What computes the nets: the real Caffe, or the "
                        "engine on PyTorch, which is faster (default: {}). docs/engine.md compares them.".format(
                            "caffe; of a run that continues, its own" if continues else machine.CAFFE))
    parser.add_argument("--gpu", metavar="NUMBERS", type=_cards, help="Compute on this graphics card, such as 0; with "
                        "--engine torch also on several, such as 0,1, or on `all` (default: on the processor). `./fer "
                        "setup --gpu`, and for torch `./fer setup --torch VERSION`, install what this needs.")
    parser.add_argument("--precision", choices=machine.PRECISIONS, help="With --engine torch: how convolutions and "
                        f"inner products are computed (default: {machine.FLOAT32}).")
    parser.set_defaults(device=device)


def _cards(text: str) -> str:
    if text == "all":
        return ",".join(map(str, range(len(glob.glob(CARDS))))) or "0"
    if not re.fullmatch("[0-9]+(,[0-9]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r}, expected the number of a card, such as 0; of several, such as "
                                         "0,1; or all")
    return text


def device(options: argparse.Namespace) -> Device:
    """What --engine, --gpu and --precision say. Ends the program if they do not fit together."""
    engine, precision = options.engine or machine.CAFFE, options.precision or machine.FLOAT32
    if engine == machine.CAFFE:
        if options.gpu and "," in options.gpu:
            options.parser.error(f"argument --gpu: {options.gpu}, expected the number of one card, such as 0; Caffe "
                                 "runs Python layers, which the nets here have, on one card only (--engine torch on "
                                 "several)")
        if precision != machine.FLOAT32:
            options.parser.error(f"argument --precision: {precision} needs --engine torch; Caffe computes in "
                                 f"{machine.FLOAT32}")
    return Device(engine, options.gpu, precision)


def name_of(kind: str, names: Collection[str]) -> Callable[[str], str]:
    """The type of names; kind: what they stand for, such as "data set"."""
    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(suggestions.unknown(kind, text, names))
        return text
    return name


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def add_processes(command: Parser) -> None:
    command.add_argument("--processes", type=at_least(1), default=cores(),
                         help="How many processes work side by side (default: one per core).")
