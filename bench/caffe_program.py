"""Caffe's own program, for what it says of itself."""
import subprocess
from collections.abc import Sequence

from common.experiment import ROOT
from tools.training import caffe_process


def log(arguments: Sequence[str], threads: int) -> str:
    """What `caffe` with these arguments writes to its log. threads: of BLAS. Raises RuntimeError where it fails."""
    process = subprocess.run(["caffe", *arguments], stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT,
                             env=caffe_process.environment(threads))
    if process.returncode:
        raise RuntimeError(f"caffe {arguments[0]}: {process.stderr[-2000:]}")
    return process.stderr
