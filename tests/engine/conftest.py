"""Ends a process of tests without the destructors of torch 1.7: after a backward pass they may wait for ever."""
import atexit
import os
import sys

_status = [0]


@atexit.register  # pytest imports this file early, so it is called late
def _end():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status[0])


def pytest_sessionfinish(exitstatus):
    _status[0] = int(exitstatus)
