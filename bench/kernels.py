"""Processor time of each kernel of Debian 11's OpenBLAS 0.3.13 that this processor can run, with one thread.

sgemm computes a convolution of the face ResNet (256 maps to 256 maps, 3x3, 29x29 positions). An iteration is a forward
and a backward pass of the toy net with 32 images. `./fer` itself measures nothing: it picks a kernel by the processor's
flags (`blas_kernel` in fer).
"""
import ctypes
import json
import os
import subprocess
import sys
import time
from typing import Callable, Optional

from common import files
from common.experiment import ROOT

# In the order of OpenBLAS's own list, driver/others/dynamic.c. "" leaves the choice to OpenBLAS.
KERNELS = ("", "Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Sandybridge", "Haswell", "SkylakeX",
           "Cooperlake", "Atom", "Bobcat", "Barcelona", "Bulldozer", "Piledriver", "Steamroller", "Excavator", "Zen",
           "Nano")
# Rows, inner dimension and columns of the matrix product.
SHAPE = 256, 256 * 9, 29 * 29
IMAGES = 32


def measure(options) -> list[dict]:
    net = os.path.join(options.scratch, "train.prototxt")
    files.write_text(net, _toy())
    measured: dict[str, list[dict]] = {}
    for _ in range(1 if options.quick else 3):
        for kernel in KERNELS:
            figures = of_kernel(kernel, net)
            # OpenBLAS makes its own choice if it does not know the name.
            if figures and (not kernel or figures["kernel"].lower() == kernel.lower()):
                measured.setdefault(kernel, []).append(figures)
    used = os.environ.get("OPENBLAS_CORETYPE", "")
    rows = []
    for kernel, turns in measured.items():
        rows.append({"kernel": kernel or f"{turns[0]['kernel']} (its own choice)",
                     "sgemm GFLOP/s": max(turn["gflops"] for turn in turns),
                     "iteration ms": min(turn["milliseconds"] for turn in turns),
                     "": "used by ./fer" if kernel.lower() == used.lower() else ""})
    return sorted(rows, key=lambda row: row["iteration ms"])


def of_kernel(kernel: str, net: str) -> Optional[dict]:
    """The kernel's name, the speed of sgemm (GFLOP/s) and the time of an iteration (ms). net: path of its prototxt.

    Returns None if the processor cannot run the kernel. Raises RuntimeError if the measuring process fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment.update(PYTHONPATH=ROOT, OPENBLAS_NUM_THREADS="1", **({"OPENBLAS_CORETYPE": kernel} if kernel else {}))
    process = subprocess.run([sys.executable, "-m", "bench.kernels", net], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, encoding="utf-8", env=environment)
    if process.returncode > 0:
        raise RuntimeError(f"{kernel}: {process.stderr[-2000:]}")
    # A negative status: the process was killed by an instruction that the processor does not have.
    return json.loads(process.stdout) if process.returncode == 0 else None


def _toy() -> str:
    """The training net as prototxt text. It includes the loss, because a backward pass starts at a loss."""
    from common import experiment
    from prototxt import build, nets
    from prototxt.builders import parts
    from tools.reproduce import estimate
    settings = experiment.load("xie2019a/fer2013-toy-softmax", ["head.class_weights=none"])
    data = parts.Data("", 7, {"train": 1, "val": 1}, (1, 48, 48))
    return build.text(estimate.with_inputs(nets.train_val(settings, data), nets.inputs(settings, data)))


def _child(path: str) -> dict:
    """Measures the kernel of this process. path: the prototxt of the net."""
    import caffe
    import numpy as np
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_get_corename.restype = ctypes.c_char_p
    rows, inner, columns = SHAPE
    random = np.random.RandomState(0)
    left, right = (random.normal(size=size).astype(np.float32) for size in ((rows, inner), (inner, columns)))
    net = caffe.Net(path, caffe.TRAIN)
    net.blobs["data"].reshape(IMAGES, 1, 48, 48)
    net.blobs["data"].data[...] = random.normal(size=(IMAGES, 1, 48, 48))
    net.blobs["label"].reshape(IMAGES)
    net.blobs["label"].data[...] = random.randint(7, size=IMAGES)

    def iterate():
        net.forward()
        net.backward()
    return {"kernel": blas.openblas_get_corename().decode(),
            "gflops": 2e-9 * rows * inner * columns / _fastest(lambda: np.dot(left, right), 5),
            "milliseconds": 1000 * _fastest(iterate, 5)}


def _fastest(work: Callable[[], object], times: int) -> float:
    """Seconds of processor time of the fastest of several calls, after one call that does not count."""
    work()
    seconds = []
    for _ in range(times):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1])))
