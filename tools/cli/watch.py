"""`./fer watch`: the progress of a training, read from its folder."""
import argparse
import os
import sys

from common.errors import UserError
from tools.cli.arguments import Commands, at_least, path
from tools.training import snapshots


def add(commands: Commands) -> None:
    command = commands.add("watch", run, "Show the progress of a training until it has finished, or until Ctrl-C. The "
                           "training may run elsewhere: on this machine, or on another one that shares the folder.",
                           "watch runs/softmax", "watch runs/ten --once")
    command.add_argument("folder", type=path, metavar="RUN",
                         help="A run, a group of folds or seeds, or the folder of `./fer reproduce`.")
    command.add_argument("--once", action="store_true", help="Show the progress once.")
    command.add_argument("--every", type=at_least(1), metavar="SECONDS",
                         help="The time between two updates (default: 2 on a terminal, otherwise 60).")


def run(options: argparse.Namespace) -> int:
    snapshots.require_none(options.folder, "watch")
    if not os.path.isdir(options.folder):
        raise UserError(f"{options.folder}: " + (
            "is no folder of a run" if os.path.exists(options.folder) else "there is no such folder"))
    from tools.cli import live_state
    from tools.reproduce import plan
    from tools.training import groups
    is_plan = os.path.exists(os.path.join(options.folder, plan.FILE))
    watched = plan.runs(options.folder) if is_plan else groups.open_(options.folder)
    try:
        live_state.watch(watched, options.every or (2 if sys.stdout.isatty() else 60), options.once, sys.stdout)
    except KeyboardInterrupt:
        pass
    return 0
