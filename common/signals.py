"""SIGINT, which is Ctrl-C, and SIGTERM: the first one asks for an orderly end, a second one for the end at once."""
import contextlib
import os
import signal
import time
from typing import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds within which several count as one: a process group was sent it, and the launcher or the parent passes it on.
ONE = 0.5
_last = -ONE


class Interrupted(KeyboardInterrupt):
    """number: of the signal."""

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.number = number


def interrupt(number: int) -> None:
    raise Interrupted(number)


@contextlib.contextmanager
def handled(act: Callable[[int], None]):
    """Calls act(number of the signal) where one comes while the block runs; those that this process ignores stay
    ignored."""
    def handler(number: int, _) -> None:
        global _last
        now = time.monotonic()
        if now - _last >= ONE:
            _last = now
            act(number)
    before = {number: signal.signal(number, handler) for number in SIGNALS
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def say(text: str) -> None:
    """From within a handler, where `print` may be at work already."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode("utf-8", "replace") if os.isatty(2) else
                 (text + "\n").encode("utf-8", "replace"))
