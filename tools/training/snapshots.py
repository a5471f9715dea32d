"""Which snapshot of a run is meant: RUN stands for the last one, RUN@500 for that of iteration 500, and RUN@best for
the best one on the validation split.

The command line loads this module for its help, so Caffe is loaded only where a run is read.
"""
import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Optional, Union

from common.errors import UserError
from tools.cli.arguments import path

if TYPE_CHECKING:
    from tools.training.run import Run

BEST = "best"
HELP = "RUN@500 is its snapshot of iteration 500, RUN@best the best one on the validation split."

# An iteration, BEST, or None for the last snapshot.
Snapshot = Union[int, str, None]


def add_run(parser: argparse.ArgumentParser, run: str) -> None:
    """Adds RUN, which `split` reads. run: its help, as a sentence. There is no option for the best snapshot: it would
    say the same in a second way, and where there are several RUNs not of which."""
    parser.add_argument("folder", type=path, metavar="RUN", help=f"{run} {HELP}")


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
    """Raises UserError if a text names a snapshot. what: the command that takes none, such as "watch"."""
    folder, snapshot = split(text)
    if snapshot is not None:
        raise UserError(f"{text}: {what} takes a run, not one of its snapshots; give {folder}")


def iteration(run: "Run", snapshot: Snapshot) -> int:
    """The iteration of a run's snapshot. Raises UserError if BEST has no answer; `Run.caffemodel` says whether a
    snapshot of the iteration is there."""
    if snapshot is None:
        return run.info["iterations"]
    return _best(run) if snapshot == BEST else int(snapshot)


def validated(run: "Run") -> dict[int, float]:
    """Iteration -> validation accuracy, where Caffe tested it; not each of them has a snapshot."""
    from tools.training import chain
    return {int(at): value for at, value in chain.curves(run).get("val accuracy", [])}


def best_of(accuracies: Mapping[int, float], iterations: Iterable[int]) -> Optional[int]:
    """Of iterations in rising order the one with the highest accuracy, the first of equals; None if none was
    tested."""
    tested = [at for at in iterations if at in accuracies]
    return max(tested, key=lambda at: accuracies[at]) if tested else None


def _best(run: "Run") -> int:
    """The best snapshot by the validation accuracies in Caffe's log."""
    run.require_begun()
    best = best_of(validated(run), run.snapshots())
    if best is None:
        raise UserError("{}: no snapshot was tested, with solver.snapshot {} and solver.test_interval {}, or the data "
                        "have no validation split".format(run.folder, *(
                            run.experiment.solver.get(key) for key in ("snapshot", "test_interval"))))
    return best


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
