"""Locks on files."""
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from common import locks
from common.errors import UserError

HOLD = """
import sys, time
from common import locks
with locks.exclusive(sys.argv[1], "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_only_one_process_has_it_and_a_killed_one_gives_it_back(tmp_path):
    path = str(tmp_path / "lock")
    assert not locks.is_held(path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, encoding="utf-8")
    assert holder.stdout.readline() == "held\n" and locks.is_held(path)
    with pytest.raises(UserError, match="^at work$"), locks.exclusive(path, "at work"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not locks.is_held(path)
    with locks.exclusive(path, "at work"):
        assert locks.is_held(path)
    assert not locks.is_held(path) and os.path.exists(path)


def test_it_is_removed_if_it_is_to_be_also_after_an_error(tmp_path):
    path = str(tmp_path / "lock")
    with pytest.raises(KeyError), locks.exclusive(path, "at work", remove=True):
        raise KeyError
    assert os.listdir(str(tmp_path)) == []


def test_whoever_looks_for_a_moment_keeps_nobody_out(tmp_path, monkeypatch):
    path = str(tmp_path / "lock")
    looking = open(path, "w")
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: looking.close())
    with locks.exclusive(path, "at work"):
        assert looking.closed
