"""`./fer experiments`: lists experiments, and prints the settings of one."""
import argparse
import fnmatch
from collections.abc import Iterator

import tabulate

from common import experiment, suggestions
from common.errors import UserError
from common.experiment import Experiment
from tools.cli.arguments import Commands, add_several, change

SHOW = "show"
COLUMNS = ("experiment", "title", "data", "net")
# What an experiment's file says besides its settings.
TEXTS = ("title", "source", "data", "pretrained")


def add(commands: Commands) -> None:
    command = commands.add("experiments", run, "List the experiments, or print the settings of some.",
                           "experiments", "experiments fer2013-toy", "experiments 'xie2019?/*-alaw'",
                           "experiments show xie2019a/fer2013-toy-softmax --set net=vgg16", "experiments show my.yml")
    command.usage = ("fer experiments [-h] [PATTERN]\n"
                     "       fer experiments show PAPER/EXPERIMENT|FILE.yml ... [--set KEY=VALUE ...]")
    command.add_argument("words", nargs="*", metavar="PATTERN",
                         help="A part of the names or titles to list, or a pattern with *, ? and [...] for whole "
                         "names. After the word show: the names of experiments, or files of your own, whose settings "
                         "are printed.")
    add_several(command, "--set", "With show: change settings, as `./fer train --set` does.", type=change,
                metavar="KEY=VALUE")


def run(options: argparse.Namespace) -> int:
    words = options.words
    if words[:1] == [SHOW]:
        if len(words) == 1:
            raise UserError("name the experiment: ./fer experiments show PAPER/EXPERIMENT")
        print("\n\n".join("\n".join(described(experiment.opened(name, options.set))) for name in words[1:]))
        return 0
    if len(words) > 1:
        raise UserError(f"{' '.join(words)}: expected one pattern, or show and the names of experiments")
    if options.set:
        raise UserError("--set needs show: ./fer experiments show PAPER/EXPERIMENT --set KEY=VALUE")
    listed = matching(words[0] if words else "")
    if not listed:
        raise UserError(suggestions.unknown("experiment", words[0], experiment.names(),
                                            "`./fer experiments` lists them all"))
    rows = [(entry.name, entry.title, entry.data, entry.net) for entry in listed]
    print(tabulate.tabulate(rows, COLUMNS, "plain", disable_numparse=True))
    return 0


def matching(pattern: str) -> list[Experiment]:
    """The experiments whose name or title contains a text, or whose whole name fits a glob pattern. The case of letters
    does not matter."""
    names = experiment.names()
    if any(letter in pattern for letter in "*?["):
        return [experiment.load(name) for name in names if fnmatch.fnmatchcase(name, pattern.lower())]
    entries = map(experiment.load, names)
    return [entry for entry in entries if pattern.lower() in f"{entry.name}\n{entry.title}".lower()]


def described(loaded: Experiment) -> Iterator[str]:
    """Lines: the settings of an experiment that are in force, each with what it does."""
    yield loaded.name
    rows = [(f"{text}: {getattr(loaded, text)}", "") for text in TEXTS if getattr(loaded, text)]
    rows += [(f"{key}: {value}", sentence) for key, value, sentence in experiment.describe(loaded) if value != ""]
    width = max(len(setting) for setting, sentence in rows if sentence)
    for setting, sentence in rows:
        yield f"  {setting.ljust(width)}  # {sentence}" if sentence else f"  {setting}"
