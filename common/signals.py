"""SIGINT (Ctrl-C) and SIGTERM: the first one asks for an orderly end, the second one for an immediate end. And what
a process gets when its parent dies."""
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Signals within this many seconds count as one signal: a process may get it from its group and from its parent too.
REPEATED = 0.5
PR_SET_PDEATHSIG = 1
_last = -REPEATED


class Interrupted(KeyboardInterrupt):
    """Raised by `interrupt`. number: the number of the signal."""

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.number = number


def interrupt(number: int) -> None:
    """A handler for `handled` that ends the block."""
    raise Interrupted(number)


@contextlib.contextmanager
def handled(act: Callable[[int], None]):
    """Calls act(number of the signal) for each signal that comes while the block runs. Signals that this process
    ignores stay ignored."""
    def handler(number: int, _) -> None:
        global _last
        now = time.monotonic()
        if now - _last >= REPEATED:
            _last = now
            act(number)
    with installed(dict.fromkeys(SIGNALS, handler)):
        yield


@contextlib.contextmanager
def installed(handlers: Mapping[int, Callable[[int, Any], None]]) -> Iterator[None]:
    """While it is open, signals have these handlers. Those that this process ignores, as under nohup, stay ignored."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def say(text: str) -> None:
    """Prints a line on stderr from within a handler, which may have interrupted a call of `print`."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode("utf-8", "replace") if os.isatty(2) else
                 (text + "\n").encode("utf-8", "replace"))


def die_with_parent(by: int = signal.SIGKILL) -> None:
    """Makes the kernel send this process the signal `by` when its parent dies. Call it in the child."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by))
