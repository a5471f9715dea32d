"""`./fer respond-ratio`: which parts of the face a net responds to."""
import argparse

from tools.cli.arguments import Commands, add_device, path
from tools.cli.evaluate import SPLITS
from tools.training import snapshots


def add(commands: Commands) -> None:
    command = commands.add("respond-ratio", run, "Measure which parts of the face the outputs of FC1 respond to, for "
                           "each expression (xie2019b, Table 2). The results are written to respond_ratio.json in the "
                           "folder of the run.", "respond-ratio runs/one_map-l2")
    command.add_argument("folder", type=path, metavar="RUN", help="A trained run, or a group of folds or seeds.")
    command.add_argument("--split", choices=SPLITS, default="test", help="The part of the data (default: test).")
    add_device(command)


def run(options: argparse.Namespace) -> int:
    from tools.analysis import respond_ratio
    from tools.training import groups
    snapshots.require_none(options.folder, "respond-ratio")
    for run in groups.runs(groups.open_(options.folder)):
        print(respond_ratio.table(respond_ratio.measure(run, options.split)))
    return 0
