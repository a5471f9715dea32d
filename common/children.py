"""Child processes that work in parallel and return their results in order. They end when their parent is killed."""
import contextlib
import ctypes
import fcntl
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from typing import Callable

import cv2

from common import signals
from common.errors import UserError

F_SETPIPE_SZ = 1031
# The largest pipe that Linux allows every user. The default of 64 KiB holds one face only, so both sides would wait.
PIPE_BYTES = 1 << 20
# The index of this process among its parent's children; 0 in a process that is no such child.
number = 0


def in_order(processes: int, start: Callable, arguments: Sequence, work: Callable, jobs: Sequence) -> Iterator:
    """Yields work(job) for each job, in the order of the jobs. Forked children do the work; each calls
    start(*arguments) first.

    Child k takes the jobs k, k + processes, ... It starts the next job only after its result was taken, so results
    do not pile up in memory. Results must be picklable; functions, arguments and jobs need not be. An exception in
    `work` is raised here. Raises UserError if a child is killed, and RuntimeError if it ends in another way before its
    work is done.
    """
    context = multiprocessing.get_context("fork")
    processes = max(1, min(processes, len(jobs)))
    children, connections = [], []
    # Returns freed memory to the system: otherwise each child would hold it too.
    ctypes.CDLL(None).malloc_trim(0)
    try:
        for index in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            with contextlib.suppress(OSError):  # refused if the user has many pipes open
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
                child = children[index % processes]
                child.join()
                if child.exitcode == -signal.SIGKILL:
                    raise UserError("a process was killed, as the system does where memory runs out; fewer processes "
                                    "side by side need less of it") from None
                raise RuntimeError("a child process ended before its work was done") from None
            if error is not None:
                raise error
            yield result
    finally:
        try:
            # Signal all of them before waiting for any: some save their progress first.
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
    signals.die_with_parent()
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
