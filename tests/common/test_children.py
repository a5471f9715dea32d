"""Child processes that work in parallel."""
import os
import signal

import pytest

from common import children
from common.errors import UserError


def results(work, processes=2, count=5):
    return list(children.in_order(processes, lambda: None, (), work, range(count)))


def test_results_are_in_the_order_of_the_jobs():
    assert results(lambda job: job * job) == [0, 1, 4, 9, 16]
    assert len(set(results(lambda job: os.getpid()))) == 2


def test_an_error_is_raised_here():
    def work(job):
        raise ValueError(f"job {job}")
    with pytest.raises(ValueError, match="job 0"):
        results(work)


def test_a_child_that_is_killed_is_said_in_one_line():
    """As by the system where memory runs out."""
    with pytest.raises(UserError, match="a process was killed, as the system does where memory runs out"):
        results(lambda job: os.kill(os.getpid(), signal.SIGKILL) if job == 3 else job)
    with pytest.raises(RuntimeError, match="a child process ended before its work was done"):
        results(lambda job: os._exit(3) if job == 3 else job)
