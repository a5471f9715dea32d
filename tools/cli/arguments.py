"""What the commands' parsers share: the kinds of arguments, and how a command is added."""
import argparse
import os
import re
from collections.abc import Collection
from typing import Any, Callable, NoReturn, Optional

from common import suggestions

# Of BLAS: what Debian's OpenBLAS is built for.
MOST_THREADS = 128
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

    def add(self, name: str, run: Run, summary: str, *examples: str) -> Parser:
        """Adds a command and returns its parser. summary: sentences; examples: command lines without `./fer`."""
        epilog = "example{}:\n{}".format("s" * (len(examples) > 1), "\n".join("  ./fer " + line for line in examples))
        parser = self._parsers.add_parser(name, help=summary.partition(". ")[0].rstrip(".") + ".", description=summary,
                                          epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.set_defaults(run=run, parser=parser)
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


def add_gpu(parser: Parser) -> None:
    """Adds --gpu. Those who compute read the card from common.machine."""
    def card(text: str) -> str:
        if not re.fullmatch("[0-9]+", text):
            raise argparse.ArgumentTypeError(f"{text!r}, expected the number of one card, such as 0; Caffe runs Python "
                                             "layers, which the nets here have, on one card only")
        return text
    parser.add_argument("--gpu", metavar="NUMBER", type=card, help="Caffe computes on this graphics card (default: on "
                        "the processor). `./fer setup --gpu` builds what this needs.")


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
