"""`./fer experiments`: lists experiments, and prints the settings of one."""
import argparse
import fnmatch
from collections.abc import Iterator, Sequence

import tabulate

from common import experiment, suggestions
from common.errors import UserError
from common.experiment import Experiment
from tools.cli.arguments import Commands, add_several, change, path

SHOW = "show"
COLUMNS = ("experiment", "title", "data", "net")
# What an experiment's file says besides its settings.
TEXTS = ("title", "source", "data", "pretrained")


def add(commands: Commands) -> None:
    command = commands.add("experiments", run, "List the experiments, or print the settings of some.",
                           "experiments", "experiments fer2013-toy", "experiments 'xie2019?/*-alaw'",
                           "experiments --for data/mine", "experiments toy --for data/mine",
                           "experiments show xie2019a/fer2013-toy-softmax --set net=vgg16", "experiments show my.yml")
    command.usage = ("fer experiments [-h] [PATTERN] [--for DATA]\n"
                     "       fer experiments show PAPER/EXPERIMENT|FILE.yml ... [--set KEY=VALUE ...]")
    command.add_argument("words", nargs="*", metavar="PATTERN",
                         help="A part of the names or titles to list, or a pattern with *, ? and [...] for whole "
                         "names. After the word show: the names of experiments, or files of your own, whose settings "
                         "are printed.")
    command.add_argument("--for", dest="data", type=path, metavar="DATA",
                         help="List those that can be trained on this prepared folder: its images have the size and "
                         "the channels of the net's input, and it has the features, the pairs, the subjects and the "
                         "validation split that they need. The classes do not matter.")
    add_several(command, "--set", "With show: change settings, as `./fer train --set` does.", type=change,
                metavar="KEY=VALUE")


def run(options: argparse.Namespace) -> int:
    words = options.words
    if words[:1] == [SHOW]:
        if len(words) == 1:
            raise UserError("name the experiment: ./fer experiments show PAPER/EXPERIMENT")
        if options.data:
            raise UserError("--for lists experiments; use it without show")
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
    if options.data:
        listed = fitting(listed, options.data)
    rows = [(entry.name, entry.title, entry.data, entry.net) for entry in listed]
    print(tabulate.tabulate(rows, COLUMNS, "plain", disable_numparse=True))
    return 0


def fitting(listed: Sequence[Experiment], data: str) -> list[Experiment]:
    """Those that can be trained on a prepared folder. Raises UserError if there is none, and says why if only one was
    asked for."""
    from common import progress
    from data_prep import prepared_folder
    from tools.training import groups
    prepared_folder.require_prepared(data)
    fit, faults = [], []
    for entry in progress.each("experiments", listed):
        try:
            groups.require_fitting(entry, data)
            fit.append(entry)
        except UserError as fault:
            faults.append(fault)
    if not fit:
        raise faults[0] if len(faults) == 1 else UserError(
            f"{data}: none of {len(faults)} experiments fits; for the first one: {faults[0]}")
    return fit


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
