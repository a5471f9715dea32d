"""Which snapshot of a run is meant: RUN stands for the last one, RUN@500 for that of iteration 500, and RUN@best for
the best one on the validation split.

The command line loads this module for its help, so Caffe is loaded only where a run is read.
"""
import argparse
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional, Union

from common.errors import UserError
from tools.cli.arguments import path

if TYPE_CHECKING:
    from tools.training.run import Run

BEST = "best"
HELP = "RUN@500 is its snapshot of iteration 500, RUN@best the best one on the validation split."

# An iteration, BEST, or None for the last snapshot.
Snapshot = Union[int, str, None]


def add_arguments(parser: argparse.ArgumentParser, run: str) -> None:
    """Adds RUN and --best. run: the help of RUN, as a sentence."""
    parser.add_argument("folder", type=path, metavar="RUN", help=f"{run} {HELP}")
    parser.add_argument("--best", action="store_true", help="The same as RUN@best.")


def chosen(options: argparse.Namespace) -> tuple[str, Snapshot]:
    """The folder and the snapshot that the arguments of `add_arguments` name. Raises UserError as `split`, and for two
    snapshots."""
    folder, snapshot = split(options.folder)
    if options.best and snapshot not in (None, BEST):
        raise UserError(f"{options.folder}: names the snapshot of iteration {snapshot}; use it without --best")
    return folder, BEST if options.best else snapshot


def split(text: str) -> tuple[str, Snapshot]:
    """The folder and the snapshot that a text such as RUN@500 names; a file or folder of just that name is meant where
    there is one. Raises UserError for another word after the @ of an existing folder."""
    folder, at, word = text.rstrip(os.sep).rpartition("@")
    if not at or not folder or os.path.lexists(text):
        return text, None
    if word == BEST:
        return folder, BEST
    if re.fullmatch("[0-9]+", word):
        return folder, int(word)
    if os.path.isdir(folder):
        raise UserError(f"{text}: names no snapshot; expected {folder}@ITERATION or {folder}@{BEST}")
    return text, None


def require_none(text: str, what: str) -> None:
    """Raises UserError if a text names a snapshot. what: the command that takes none, such as "report"."""
    folder, snapshot = split(text)
    if snapshot is not None:
        raise UserError(f"{text}: {what} takes a run, not one of its snapshots; give {folder}")


def iteration(run: "Run", snapshot: Snapshot) -> int:
    """The iteration of a run's snapshot. Raises UserError if BEST has no answer; `Run.caffemodel` says whether a
    snapshot of the iteration is there."""
    if snapshot is None:
        return run.info["iterations"]
    return _best(run) if snapshot == BEST else int(snapshot)


def _best(run: "Run") -> int:
    """The iteration with the highest validation accuracy, the first of equals, of the snapshots that Caffe tested."""
    from tools.training import caffe_log, caffe_process, chain
    run.require_begun()
    accuracies: dict[int, float] = {}
    for span in chain.spans(run):
        log = span.segment.path(caffe_process.LOG)
        tested = caffe_log.curves(log).get("val accuracy", []) if os.path.exists(log) else []
        accuracies.update({span.start + at: value for at, value in tested})
    candidates = [at for at in run.snapshots() if at in accuracies]
    if not candidates:
        raise UserError("{}: no snapshot was tested, with solver.snapshot {} and solver.test_interval {}, or the data "
                        "have no validation split".format(run.folder, *(
                            run.experiment.solver.get(key) for key in ("snapshot", "test_interval"))))
    return max(candidates, key=lambda at: accuracies[at])


def text(snapshot: Snapshot) -> str:
    """How the snapshot follows the name of a run, or of a file: "@500", "@best" or ""."""
    return "" if snapshot is None else f"@{snapshot}"


def absolute(text_of_run: str) -> str:
    """A text such as RUN@500 with an absolute path."""
    folder, snapshot = split(text_of_run)
    return os.path.abspath(folder) + text(snapshot)


def described(iterations: Sequence[int], snapshot: Snapshot) -> Optional[str]:
    """In words, of one run or several; None for the last one. iterations: that of each run."""
    if snapshot is None:
        return None
    named = ", ".join(map(str, dict.fromkeys(iterations)))
    words = f"iteration{'s' if len(set(iterations)) > 1 else ''} {named}"
    return f"best on the validation split, {words}" if snapshot == BEST else words
