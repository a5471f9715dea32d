"""The settings that make PyTorch fast: what they do to a process."""
import os
import subprocess
import sys

from common.experiment import ROOT

# Makes a tensor of 32 MB again and again, and prints how many pages of memory the kernel had to give for it.
PROGRAM = """
import resource, sys
from engine import tuning
if {tuned}:
    tuning.before_torch()
import torch
def made():
    return torch.ones(8 << 20)
for _ in range(40):  # the heap settles
    made()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    made()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def printed(program: str, **variables: str) -> str:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])))
    for name in ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, "-c", program], env=dict(environment, **variables), check=True,
                          stdout=subprocess.PIPE, encoding="utf-8").stdout


def test_memory_is_used_again():
    plain, tuned = (int(printed(PROGRAM.format(tuned=tuned))) for tuned in (False, True))
    pages = 20 * (32 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert plain > pages / 2  # else this test says nothing
    assert tuned < pages / 100


def test_variables_of_the_user_go_before():
    program = ("import os; from engine import tuning; tuning.before_torch(); "
               "print(os.environ['OMP_WAIT_POLICY'], os.environ['OPENBLAS_THREAD_TIMEOUT'])")
    assert printed(program) == "passive 4\n"
    assert printed(program, OMP_WAIT_POLICY="active", OPENBLAS_THREAD_TIMEOUT="20") == "active 20\n"


def test_torch_is_not_loaded_before():
    program = "import sys; from engine import cli; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert printed(program) == "False False\n"
