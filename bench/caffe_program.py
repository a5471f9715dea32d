"""Runs Caffe's own program and returns its log."""
import subprocess
from collections.abc import Sequence

from common.experiment import ROOT
from tools.training import caffe_process


def log(arguments: Sequence[str], threads: int) -> str:
    """The log of `caffe` with these arguments. threads: number of BLAS threads. Raises RuntimeError if it fails."""
    process = subprocess.run(["caffe", *arguments], stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT,
                             env=caffe_process.environment(threads))
    if process.returncode:
        raise RuntimeError(f"caffe {arguments[0]}: {process.stderr[-2000:]}")
    return process.stderr
