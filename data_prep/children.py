"""Child processes: work done in parallel and handed over in order, by children that don't outlive a killed parent."""
import collections
import contextlib
import ctypes
import multiprocessing
import signal
from typing import Callable, Iterable, Iterator

import cv2

PR_SET_PDEATHSIG = 1
# Finished results wait in memory: so many a process, and no more.
AHEAD = 3


def die_with_parent() -> None:
    """To be called in the child: the kernel kills it when the parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def pool(processes: int, start: Callable, *arguments):
    """A pool of forked workers; each calls start(*arguments) first, whose arguments need no pickling."""
    with multiprocessing.get_context("fork").Pool(processes, _start, (start, arguments)) as workers:
        yield workers


def in_order(workers, work: Callable, jobs: Iterable) -> Iterator:
    """work(job) of each job, in the order of the jobs; unlike `imap`, it never runs far ahead of who takes them."""
    waiting = collections.deque()
    for job in jobs:
        waiting.append(workers.apply_async(work, (job,)))
        if len(waiting) > AHEAD * workers._processes:
            yield waiting.popleft().get()
    while waiting:
        yield waiting.popleft().get()


def _start(start: Callable, arguments) -> None:
    die_with_parent()
    # Ctrl-C is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    start(*arguments)
