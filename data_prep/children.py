"""Child processes that do not outlive a parent that is killed."""
import ctypes
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """To be called in the child: the kernel kills it when the parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
