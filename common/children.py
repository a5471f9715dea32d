"""Child processes: work done in parallel and handed over in order, by children that don't outlive a killed parent."""
import contextlib
import ctypes
import fcntl
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from typing import Callable

import cv2

PR_SET_PDEATHSIG = 1
F_SETPIPE_SZ = 1031
# What Linux lets everybody have: a default pipe of 64 KiB holds one face, and each side waits for the other.
PIPE_BYTES = 1 << 20
# Which of its parent's children this process is.
number = 0


def die_with_parent(by: int = signal.SIGKILL) -> None:
    """To be called in the child: the kernel sends it that signal when the parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by))


def in_order(processes: int, start: Callable, arguments: Sequence, work: Callable, jobs: Sequence) -> Iterator:
    """work(job) of each job, in the order of the jobs, by forked children that call start(*arguments) first.

    Child k takes the jobs k, k + processes, ... and waits with each result until it is taken, so finished work
    never piles up in memory. Functions, arguments and jobs need no pickling; results do. What `work` raises is
    raised here.
    """
    context = multiprocessing.get_context("fork")
    processes = max(1, min(processes, len(jobs)))
    children, connections = [], []
    # What this process has freed: else each child would hold it too.
    ctypes.CDLL(None).malloc_trim(0)
    try:
        for index in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            with contextlib.suppress(OSError):  # a user may have many pipes open
                fcntl.fcntl(theirs.fileno(), F_SETPIPE_SZ, PIPE_BYTES)
            child = context.Process(target=_run, daemon=True,
                                    args=(theirs, index, start, arguments, work, jobs[index::processes]))
            child.start()
            theirs.close()
            children.append(child)
            connections.append(ours)
        for index in range(len(jobs)):
            try:
                result, error = connections[index % processes].recv()
            except EOFError:
                raise RuntimeError("a child process ended before its work was done") from None
            if error is not None:
                raise error
            yield result
    finally:
        try:
            # All of them first: some write down how far they are.
            for child in children:
                child.terminate()
            for child in children:
                child.join()
        finally:
            for child in children:
                child.kill()
        for connection in connections:
            connection.close()


def _run(connection, index: int, start: Callable, arguments: Sequence, work: Callable, jobs: Sequence) -> None:
    global number
    number = index
    die_with_parent()
    # Ctrl-C is for the parent, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            start(*arguments)
            for job in jobs:
                connection.send((work(job), None))
        except Exception as error:
            connection.send((None, error))
