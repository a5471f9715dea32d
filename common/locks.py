"""Locks on files, which keep two processes from working in one folder."""
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from common.errors import UserError

# How many times a lock is requested, and the seconds in between: `is_held` may hold it for a moment, and so may the
# children of a killed process, until the system has ended them.
ATTEMPTS, PAUSE = 30, 0.1


@contextlib.contextmanager
def exclusive(path: str, busy: str, remove: bool = False) -> Iterator[None]:
    """Holds the lock of a file, which is made if it is missing, while the block runs. The system releases the lock of
    a process that was killed.

    busy: text of the UserError that is raised if another process holds the lock.
    remove: whether the file is removed at the end.
    """
    with open(path, "w") as lock:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == ATTEMPTS:
                    raise UserError(busy) from None
            time.sleep(PAUSE)
        try:
            yield
        finally:
            if remove:
                os.unlink(path)


def is_held(path: str) -> bool:
    """Whether a process holds the lock of a file; False if there is no such file."""
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
