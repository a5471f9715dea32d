"""The end of a process that ran a backward pass."""
import subprocess
import sys

import pytest

from . import programs

BACKWARD = """
import atexit, ctypes, sys
import torch
from engine import ending
ending.make_clean()
atexit.register(print, "a function of atexit")
x = torch.ones(2, 1, 8, 8, requires_grad=True)
torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 3)).sum().backward()
print("output")
ctypes.CDLL(None).printf(b"output of C\\n")
"""


@pytest.mark.parametrize("end, status, last", [
    ("", 0, ""), ("sys.exit(3)", 3, ""), ("raise ValueError('x')", 1, "ValueError: x"),
    ("sys.exit('message')", 1, "message")])
def test_the_status_and_the_output_are_the_programs(end, status, last):
    for _ in range(3):  # without it, some end in another way than others
        done = subprocess.run([sys.executable, "-c", BACKWARD + end], cwd=programs.ROOT, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
        assert done.returncode == status
        assert sorted(done.stdout.splitlines()) == ["a function of atexit", "output", "output of C"]
        assert (done.stderr.splitlines() or [""])[-1] == last
